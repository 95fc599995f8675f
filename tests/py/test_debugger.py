"""gdb shows functions, files and lines of code that runs in a private image."""

import os
import shutil
import subprocess
import sys

import pytest
from sins import EXT, build

CODE = """
import atoll
with atoll.Interpreter() as interpreter:
    interpreter.exec("import crashes")
"""


@pytest.mark.skipif(not shutil.which("gdb"), reason="needs gdb")
def test_gdb_knows_the_code_of_an_image():
    run = subprocess.run(
        [
            *("gdb", "-batch", "-nx", "-ex", "set pagination off"),
            # Stopped by whoever runs the tests, it is not to end there.
            *("-ex", "handle SIGSTOP SIGCONT nostop noprint", "-ex", "run"),
            *("-ex", "backtrace 5", "--args", sys.executable, "-c", CODE),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=240,
        env=os.environ
        | {"PYTHONPATH": str(build("crash")), "DEBUGINFOD_URLS": "", "LC_ALL": "C"},
    )
    if "ptrace: Operation not permitted" in run.stdout + run.stderr:
        pytest.skip("the system does not let gdb trace a process")
    source = (EXT / "crash" / "crashes.c").read_text().splitlines()
    line = next(n for n, text in enumerate(source, 1) if "raise(SIGSEGV)" in text)
    assert "received signal SIGSEGV" in run.stdout, run.stdout + run.stderr
    assert "PyInit_crashes ()" in run.stdout, run.stdout
    assert f"crashes.c:{line}" in run.stdout, run.stdout
