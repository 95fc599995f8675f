"""Arrays and models again: what is built on numpy, and what compiles."""

import math
import tempfile
from pathlib import Path

from table import case


@case("numcodecs", "numpy")
def _() -> None:
    import numcodecs
    import numpy

    data = numpy.arange(10_000, dtype="i4") % 100
    for codec in (numcodecs.Blosc("zstd"), numcodecs.LZ4(), numcodecs.Zstd()):
        packed = codec.encode(data)
        assert len(packed) < data.nbytes
        assert (numpy.frombuffer(codec.decode(packed), "i4") == data).all()


@case("zarr", "numpy")
def _() -> None:
    import numpy
    import zarr

    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(folder, shape=(64, 64), chunks=(16, 16), dtype="f4")
        array[:] = numpy.arange(4096, dtype="f4").reshape(64, 64)
        assert zarr.open_array(folder, mode="r")[3, 5] == 197.0


@case("netcdf4", "numpy")
def _() -> None:
    import netCDF4
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "a.nc")
        with netCDF4.Dataset(path, "w") as file:
            file.createDimension("x", 10)
            file.createVariable("v", "f8", ("x",), zlib=True)[:] = numpy.arange(10)
        with netCDF4.Dataset(path) as file:
            assert file["v"][:].sum() == 45.0


@case("fastparquet", "pandas")
def _() -> None:
    import fastparquet
    import pandas

    frame = pandas.DataFrame({"n": [1, 2, 3], "s": ["a", "b", "c"]})
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "a.parquet")
        fastparquet.write(path, frame, compression="SNAPPY")
        again = fastparquet.ParquetFile(path).to_pandas()
    assert again["n"].tolist() == [1, 2, 3] and again["s"].tolist() == ["a", "b", "c"]


@case("ml-dtypes", "numpy")
def _() -> None:
    import ml_dtypes
    import numpy

    values = numpy.array([1.0, 2.5, 3.0], dtype=ml_dtypes.bfloat16)
    assert (values * 2).astype("f4").tolist() == [2.0, 5.0, 6.0]


@case("jax")
def _() -> None:
    import jax
    import jax.numpy as jnp

    slope = jax.jit(jax.grad(lambda x: jnp.sum(x**3)))
    assert slope(jnp.array([1.0, 2.0])).tolist() == [3.0, 12.0]
    table = jax.vmap(lambda row: row @ row)(jnp.arange(6.0).reshape(2, 3))
    assert table.tolist() == [5.0, 50.0]


@case("tensorflow", large=True)
def _() -> None:
    import tensorflow

    weight = tensorflow.Variable(3.0)
    with tensorflow.GradientTape() as tape:
        loss = weight * weight
    assert float(tape.gradient(loss, weight)) == 6.0

    @tensorflow.function
    def total(n: tensorflow.Tensor) -> tensorflow.Tensor:
        return tensorflow.reduce_sum(tensorflow.range(n))

    assert int(total(tensorflow.constant(10))) == 45


@case("optree")
def _() -> None:
    import optree

    tree = {"b": [1, (2, None)], "a": 3}
    leaves, shape = optree.tree_flatten(tree)
    assert leaves == [3, 1, 2] and optree.tree_unflatten(shape, leaves) == tree


@case("dm-tree")
def _() -> None:
    import tree

    assert tree.flatten({"b": [1, (2,)], "a": 3}) == [3, 1, 2]
    assert tree.map_structure(lambda x: x + 1, [1, {"k": 2}]) == [2, {"k": 3}]


@case("catboost", "numpy")
def _() -> None:
    import catboost
    import numpy

    inputs = numpy.arange(40.0).reshape(-1, 1)
    model = catboost.CatBoostRegressor(
        iterations=20, thread_count=1, verbose=False, allow_writing_files=False
    )
    model.fit(inputs, 2 * inputs[:, 0])
    assert abs(model.predict([[20.0]])[0] - 40) < 20


@case("onnx", "numpy")
def _() -> None:
    from onnx import TensorProto, checker, helper, shape_inference

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])
    node = helper.make_node("Transpose", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph)
    checker.check_model(model)
    inferred = shape_inference.infer_shapes(model).graph.output[0]
    sizes = [d.dim_value for d in inferred.type.tensor_type.shape.dim]
    assert sizes == [3, 2]


@case("ctranslate2", "numpy")
def _() -> None:
    import ctranslate2
    import numpy

    view = ctranslate2.StorageView.from_array(numpy.ones((2, 3), dtype=numpy.float32))
    assert list(view.shape) == [2, 3] and numpy.array(view).sum() == 6.0
    assert "float32" in ctranslate2.get_supported_compute_types("cpu")


@case("umap-learn", "numpy")
def _() -> None:
    import numpy
    import umap

    points = numpy.random.default_rng(1).random((40, 4))
    found = umap.UMAP(n_neighbors=5, n_epochs=5, random_state=1, n_jobs=1)
    assert found.fit_transform(points).shape == (40, 2)


@case("gensim", "numpy")
def _() -> None:
    from gensim.models import Word2Vec

    model = Word2Vec([["reef", "lagoon", "ring"]] * 20, vector_size=8, min_count=1)
    assert model.wv["reef"].shape == (8,)


@case("clarabel", "numpy", "scipy")
def _() -> None:
    import clarabel
    import numpy
    from scipy import sparse

    # The smallest x^2 with x >= 1.
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix([[2.0]]),
        numpy.zeros(1),
        sparse.csc_matrix([[-1.0]]),
        numpy.array([-1.0]),
        [clarabel.NonnegativeConeT(1)],
        clarabel.DefaultSettings(),
    )
    assert abs(solver.solve().x[0] - 1) < 1e-4


@case("cvxpy", "numpy")
def _() -> None:
    import cvxpy

    x = cvxpy.Variable(2)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - 3)), [x[0] <= 1])
    assert abs(problem.solve() - 4) < 1e-3


@case("symengine")
def _() -> None:
    import symengine

    x = symengine.Symbol("x")
    assert symengine.expand((x + 1) ** 2) == x**2 + 2 * x + 1
    assert symengine.diff(symengine.sin(x), x) == symengine.cos(x)


@case("python-flint")
def _() -> None:
    import flint

    assert flint.fmpz(2) ** 100 == 2**100
    assert flint.fmpz_poly([6, -5, 1]).roots() in ([(2, 1), (3, 1)], [(3, 1), (2, 1)])


@case("rdkit")
def _() -> None:
    from rdkit import Chem
    from rdkit.Chem import Descriptors

    ethanol = Chem.MolFromSmiles("OCC")
    assert Chem.MolToSmiles(ethanol) == "CCO"
    assert math.isclose(Descriptors.MolWt(ethanol), 46.069, rel_tol=1e-3)


@case("awkward")
def _() -> None:
    import awkward

    rows = awkward.Array([[1, 2], [], [3]])
    assert awkward.sum(rows, axis=1).to_list() == [3, 0, 3]


@case("astropy")
def _() -> None:
    from astropy import units
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

    assert (3 * units.km).to(units.m).value == 3000
    pole = SkyCoord(0 * units.deg, 90 * units.deg)
    assert math.isclose(pole.separation(SkyCoord(0 * units.deg, 0 * units.deg)).deg, 90)
    assert Time("2024-01-01T00:00:00", scale="utc").jd == 2460310.5


@case("quantlib")
def _() -> None:
    import QuantLib

    day = QuantLib.Date(31, 1, 2024) + QuantLib.Period("1M")
    assert (day.dayOfMonth(), day.month()) == (29, 2)


@case("h3")
def _() -> None:
    import h3

    cell = h3.latlng_to_cell(48.85, 2.35, 9)
    assert h3.is_valid_cell(cell) and len(h3.grid_disk(cell, 1)) == 7


@case("rasterio", "numpy")
def _() -> None:
    import numpy
    import rasterio
    from rasterio.transform import from_origin

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "a.tif")
        shape = {
            "driver": "GTiff",
            "width": 8,
            "height": 4,
            "count": 1,
            "dtype": "uint8",
        }
        where = {"crs": "EPSG:4326", "transform": from_origin(0, 10, 1, 1)}
        with rasterio.open(path, "w", **shape, **where) as file:
            file.write(numpy.full((1, 4, 8), 7, dtype="u1"))
        with rasterio.open(path) as file:
            assert file.read(1).sum() == 224 and file.crs.to_epsg() == 4326


@case("cartopy", "matplotlib")
def _() -> None:
    from cartopy import crs

    x, y = crs.Mercator().transform_point(10, 0, crs.PlateCarree())
    assert abs(x - 1_113_194.9) < 1 and abs(y) < 1e-3
