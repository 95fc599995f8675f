"""Interpreters come and go, with real packages: nothing of them stays behind."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled(),
    reason="a free-threaded build keeps its heap by thread",
)

SCRIPT = Path(__file__).parents[1] / "stress" / "stress_cycles.py"


def slopes(modules: str, cycles: int, warm_up: int, limit: float) -> list[float]:
    """Megabytes, mappings and threads a cycle."""
    missing = [name for name in modules.split(",") if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {missing}")
    arguments = [f"--cycles={cycles}", f"--warm-up={warm_up}", "--every=2"]
    run = subprocess.run(
        [
            sys.executable,
            SCRIPT,
            f"--modules={modules}",
            f"--limit={limit}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    last = run.stdout.splitlines()[-1]
    return [float(number) for number in re.findall(r"([+-][\d.]+) [Mmt]", last)]


def test_numpy_goes_away() -> None:
    # Kept images are 66 mappings and some MB a cycle.
    _, mappings, threads = slopes("numpy", cycles=20, warm_up=8, limit=0.8)
    assert mappings < 5
    assert threads < 0.5


def test_cpp_threads_go_away() -> None:
    # 600 mappings and a thread a cycle where images of pyarrow are kept.
    _, mappings, threads = slopes("pyarrow", cycles=10, warm_up=4, limit=12)
    assert mappings < 50
    assert threads < 0.5


@pytest.mark.slow
def test_a_web_application_goes_away() -> None:
    slopes("fastapi,pydantic,orjson,numpy", cycles=60, warm_up=20, limit=0.3)


@pytest.mark.parametrize("count", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_many_at_once(count: int) -> None:
    if find_spec("numpy") is None:
        pytest.skip("numpy is not installed")
    run = subprocess.run(
        [sys.executable, SCRIPT.with_name("stress_many.py"), f"--count={count}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^closed: \d+ mappings, 1 threads$", run.stdout, re.M), run.stdout


@pytest.mark.slow
def test_threads_open_and_close_interpreters() -> None:
    run = subprocess.run(
        [sys.executable, SCRIPT.with_name("stress_threads.py"), "--seconds=20"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr


HDF5 = """
import h5py, sys
import atoll

with atoll.Interpreter() as interpreter:
    interpreter.set(path=sys.argv[1])
    interpreter.exec('''
import ctypes, h5py, numpy
file = h5py.File(path, "w")
file["kept"] = numpy.arange(1000)
for each in file, file.id:  # never deallocated: only HDF5 itself can close the file
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))
''')
with h5py.File(sys.argv[1]) as file:
    print(int(file["kept"][:].sum()))
"""


def test_hdf5_flushes_its_files_at_the_close(tmp_path: Path) -> None:
    # HDF5 does so in a function that it gives to atexit().
    if find_spec("h5py") is None:
        pytest.skip("h5py is not installed")
    run = subprocess.run(
        [sys.executable, "-c", HDF5, str(tmp_path / "reef.h5")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (run.returncode, run.stdout) == (0, "499500\n"), run.stderr
