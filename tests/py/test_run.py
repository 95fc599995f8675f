"""`python -m atoll`: the program runs as `python` runs it, with `enable()` in force."""

import os
import subprocess
import sys

import pytest
from sins import build

# An extension that no other interpreter but main can import by itself; CPython says so
# on standard error when one turns the GIL on.
FOLDER, MODULE = ("global_state", "global_state")
if "t" in sys.abiflags:
    FOLDER, MODULE = ("without_gil", "without_gil_single")


def run(*arguments, folder):
    """(exit code, standard output, standard error) of `python -m atoll ARGUMENTS`."""
    ended = subprocess.run(
        [sys.executable, "-m", "atoll", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(build(FOLDER))},
    )
    return ended.returncode, ended.stdout, ended.stderr


IMPORT = f"""\
import _interpreters
import sys

interpreter = _interpreters.create()
failure = _interpreters.exec(interpreter, "import {MODULE}")
_interpreters.destroy(interpreter)
print(__name__, failure, sys.argv)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "script.py").write_text(IMPORT)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(IMPORT)
    return tmp_path


@pytest.mark.parametrize(
    "program",
    [["script.py"], ["-m", "script"], ["-c", IMPORT], ["app"]],
    ids=["script", "module", "code", "folder"],
)
def test_extension_imports_in_the_standard_librarys_interpreter(program, folder):
    code, output, errors = run(*program, "-x", "y", folder=folder)
    assert (code, errors) == (0, "")
    plain = subprocess.run(
        [sys.executable, *program, "-x", "y"],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=folder,
    )
    arguments = plain.stdout[plain.stdout.index("[") :]
    assert output == f"__main__ None {arguments}"


def test_traceback_begins_with_the_program(folder):
    (folder / "raises.py").write_text("def f():\n    1 / 0\n\n\nf()\n")
    (folder / "wrong.py").write_text("print(\n")
    for name, last in (
        ("raises.py", "ZeroDivisionError: division by zero"),
        ("wrong.py", "SyntaxError: '(' was never closed"),
    ):
        code, output, errors = run(name, folder=folder)
        assert (code, output) == (1, "")
        assert errors.splitlines()[-1] == last
        plain = subprocess.run(
            [sys.executable, name],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=folder,
        ).stderr
        assert errors.count("File ") == plain.count("File ")
        assert "atoll" not in errors and "runpy" not in errors


def test_program_is_main_until_the_process_ends(folder):
    (folder / "late.py").write_text(
        """\
import atexit, pickle, threading

class Point:
    x = 3

def later():
    threading.main_thread().join()
    print(pickle.loads(pickle.dumps(Point())).x)

threading.Thread(target=later).start()
atexit.register(lambda: print(pickle.dumps(Point) != b""))
"""
    )
    for program in (["late.py"], ["-m", "late"]):
        assert run(*program, folder=folder) == (0, "3\nTrue\n", "")


def test_exit_codes_and_usage(folder):
    (folder / "leaves.py").write_text("import sys\nsys.exit(7)\n")
    assert run("leaves.py", folder=folder) == (7, "", "")
    code, _, errors = run("absent.py", folder=folder)
    assert (code, errors) == (1, "python -m atoll: absent.py: no such file\n")
    code, _, errors = run("serve", "main:app", folder=folder)
    assert code == 1 and "the command is python -m atoll.cli serve" in errors
    code, _, errors = run("srve", "main:app", folder=folder)
    assert code == 1 and "the command is python -m atoll.cli serve" in errors
    command = [sys.executable, "-m", "atoll.cli", "serve", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert told.stdout.startswith("Usage: python -m atoll.cli serve ")
    code, _, errors = run(folder=folder)
    assert code == 1 and errors.startswith("usage: python -m atoll SCRIPT")
    code, _, errors = run("-x", folder=folder)
    assert code == 1 and errors.startswith("usage: python -m atoll SCRIPT")
    code, output, errors = run("--help", folder=folder)
    assert (code, errors) == (0, "") and output.startswith("usage: python -m atoll")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters")
def test_interpreter_pool_executor_of_the_standard_library(folder):
    (folder / "pool.py").write_text(
        f"""\
from concurrent.futures import InterpreterPoolExecutor

def work(n):
    import {MODULE} as module
    return n, module.__name__

if __name__ == "__main__":
    with InterpreterPoolExecutor(2) as pool:
        print(sorted(pool.map(work, range(3))))
"""
    )
    assert run("pool.py", folder=folder) == (
        0,
        f"{[(n, MODULE) for n in range(3)]}\n",
        "",
    )
