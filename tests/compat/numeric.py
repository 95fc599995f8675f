"""Arrays, tables, statistics, optimisation."""

import io
import tempfile
from pathlib import Path

from table import case


@case("numpy", quick=True)
def _() -> None:
    import numpy as np

    a = np.arange(90_000, dtype=float).reshape(300, 300)
    assert (a @ np.eye(300) == a).all()
    assert np.linalg.solve(np.diag([2.0, 4.0]), [2.0, 8.0]).tolist() == [1.0, 2.0]
    assert np.random.default_rng(1).integers(0, 1000, 3).tolist() == [473, 511, 755]


@case("scipy")
def _() -> None:
    import numpy as np
    from scipy import integrate, linalg, optimize, sparse, special, stats

    assert abs(integrate.quad(np.sin, 0, np.pi)[0] - 2) < 1e-12
    assert abs(optimize.brentq(lambda x: x**3 - 8, 0, 5) - 2) < 1e-9
    assert np.allclose(linalg.expm(np.zeros((3, 3))), np.eye(3))
    assert sparse.eye(5).tocsr().sum() == 5
    assert abs(special.gamma(5) - 24) < 1e-9
    assert abs(stats.norm.cdf(0) - 0.5) < 1e-12


@case("pandas")
def _() -> None:
    import pandas as pd

    frame = pd.DataFrame({"k": list("abab"), "v": [1, 2, 3, 4]})
    assert frame.groupby("k")["v"].sum().to_dict() == {"a": 4, "b": 6}
    read = pd.read_csv(io.StringIO("d,x\n2024-01-31,1.5\n"), parse_dates=["d"])
    assert read["d"][0].month_name() == "January"
    assert frame.merge(frame, on="k").shape == (8, 3)


@case("polars")
def _() -> None:
    import polars as pl

    frame = pl.DataFrame({"k": ["a", "b", "a"], "v": [1, 2, 3]})
    sums = frame.lazy().group_by("k").agg(pl.col("v").sum()).sort("k").collect()
    assert sums.rows() == [("a", 4), ("b", 2)]
    doubled = frame.select(pl.col("v").map_elements(lambda v: v * 2, pl.Int64))
    assert doubled["v"].to_list() == [2, 4, 6]


@case("pyarrow")
def _() -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    assert pq.read_table(pa.BufferReader(sink.getvalue())).equals(table)
    assert pc.sum(table["a"]).as_py() == 6


@case("matplotlib")
def _() -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    axes.plot([1, 2, 3])
    axes.contourf([[1, 2], [3, 4]])
    out = io.BytesIO()
    figure.savefig(out, format="png")
    assert out.getvalue().startswith(b"\x89PNG")


@case("pillow")
def _() -> None:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (64, 64), "red")
    ImageDraw.Draw(image).rectangle((0, 0, 31, 63), fill="blue")
    out = io.BytesIO()
    image.resize((32, 32)).save(out, "jpeg")
    red, _green, blue = Image.open(io.BytesIO(out.getvalue())).getpixel((4, 4))
    assert blue > 200 > 50 > red


@case("opencv-python-headless")
def _() -> None:
    import cv2
    import numpy as np

    image = np.zeros((40, 40), np.uint8)
    cv2.rectangle(image, (10, 10), (29, 29), 255, -1)
    contours, _ = cv2.findContours(image, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    assert cv2.contourArea(contours[0]) == 19 * 19
    good, data = cv2.imencode(".png", image)
    assert good and (cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) == image).all()


@case("numba")
def _() -> None:
    import numba

    @numba.njit
    def total(count: int) -> int:
        result = 0
        for i in range(count):
            result += i
        return result

    assert total(1000) == 499_500


@case("llvmlite")
def _() -> None:
    import ctypes

    import llvmlite.binding as llvm
    from llvmlite import ir

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = ir.Module()
    i64 = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(i64, [i64]), "twice")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.mul(function.args[0], i64(2)))
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    address = engine.get_function_address("twice")
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(21) == 42


@case("numexpr")
def _() -> None:
    import numexpr
    import numpy as np

    a = np.arange(100_000.0)
    assert (numexpr.evaluate("2 * a + 1") == 2 * a + 1).all()


@case("bottleneck")
def _() -> None:
    import bottleneck
    import numpy as np

    assert bottleneck.nanmean(np.array([1.0, np.nan, 3.0])) == 2.0
    assert bottleneck.move_sum(np.arange(4.0), 2).tolist()[1:] == [1.0, 3.0, 5.0]


@case("h5py")
def _() -> None:
    import h5py
    import numpy as np

    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        file.create_dataset("a/b", data=np.arange(10), compression="gzip")
        assert file["a/b"][3:5].tolist() == [3, 4]


@case("tables")
def _() -> None:
    import tables

    with tempfile.TemporaryDirectory() as folder:
        file = tables.open_file(str(Path(folder) / "t.h5"), "w")
        file.create_array("/", "a", [1, 2, 3])
        table = file.create_table("/", "t", {"x": tables.Int32Col()})
        table.append([(5,), (7,)])
        table.flush()
        assert file.root.a[:] == [1, 2, 3]
        assert [row["x"] for row in table.where("x > 5")] == [7]
        file.close()


@case("contourpy")
def _() -> None:
    import contourpy

    lines = contourpy.contour_generator(z=[[0.0, 1.0], [0.0, 1.0]]).lines(0.5)
    assert sorted(lines[0].tolist()) == [[0.5, 0.0], [0.5, 1.0]]


@case("kiwisolver")
def _() -> None:
    import kiwisolver

    x, y = kiwisolver.Variable("x"), kiwisolver.Variable("y")
    solver = kiwisolver.Solver()
    solver.addConstraint(x + y == 10)
    solver.addConstraint(x == 4)
    solver.updateVariables()
    assert y.value() == 6.0


@case("scikit-image")
def _() -> None:
    import numpy as np
    from skimage import filters, measure

    image = np.zeros((20, 20))
    image[2:6, 2:6] = 1
    image[10:15, 10:15] = 1
    assert measure.label(image > 0.5).max() == 2
    assert filters.gaussian(image).shape == (20, 20)


@case("statsmodels")
def _() -> None:
    import numpy as np
    import statsmodels.api as sm

    x = np.arange(20.0)
    fit = sm.OLS(3 * x + 1, sm.add_constant(x)).fit()
    assert np.allclose(fit.params, [1, 3])


@case("blosc2")
def _() -> None:
    import blosc2
    import numpy as np

    array = blosc2.asarray(np.arange(1000))
    assert array[10:12].tolist() == [10, 11]
    assert (
        blosc2.decompress(blosc2.compress(b"x" * 10_000, typesize=1)) == b"x" * 10_000
    )


@case("gmpy2")
def _() -> None:
    import gmpy2

    assert gmpy2.is_prime(2**127 - 1)
    assert gmpy2.isqrt(gmpy2.mpz(10) ** 40) == 10**20
    assert str(gmpy2.sqrt(2)).startswith("1.41421356")


@case("python-igraph")
def _() -> None:
    import igraph

    graph = igraph.Graph.Ring(6)
    assert graph.distances(0, 3) == [[3]]
    assert graph.diameter() == 3


@case("networkit")
def _() -> None:
    import networkit

    graph = networkit.Graph(4)
    for i in range(3):
        graph.addEdge(i, i + 1)
    search = networkit.distance.BFS(graph, 0)
    search.run()
    assert search.distance(3) == 3


@case("ortools")
def _() -> None:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    x, y = model.new_int_var(0, 10, "x"), model.new_int_var(0, 10, "y")
    model.add(x + 2 * y <= 14)
    model.maximize(x + y)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(model) == cp_model.OPTIMAL
    assert solver.objective_value == 12


@case("casadi")
def _() -> None:
    import casadi

    x = casadi.SX.sym("x")
    slope = casadi.Function("slope", [x], [casadi.jacobian(x**3, x)])
    assert float(slope(2)) == 12.0


@case("osqp")
def _() -> None:
    import numpy as np
    import osqp
    from scipy import sparse

    problem = osqp.OSQP()
    problem.setup(
        sparse.csc_matrix([[4.0, 1.0], [1.0, 2.0]]),
        np.array([1.0, 1.0]),
        sparse.csc_matrix([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]),
        np.array([1.0, 0.0, 0.0]),
        np.array([1.0, 0.7, 0.7]),
        verbose=False,
    )
    assert np.allclose(problem.solve().x, [0.3, 0.7], atol=1e-2)


@case("highspy")
def _() -> None:
    import highspy

    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    x, y = solver.addVariable(lb=0, ub=4), solver.addVariable(lb=0, ub=4)
    solver.addConstr(x + y <= 6)
    solver.maximize(2 * x + y)
    assert solver.getInfo().objective_function_value == 10
