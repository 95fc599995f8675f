"""fork while interpreters live, and the other ways to start processes.

Each case runs in a child, whose exit code and standard error are part of the check.
"""

import subprocess
import sys

import pytest
from children import DEADLINE, run


@pytest.mark.parametrize(
    "fork",
    [
        "os.fork()",
        "os.forkpty()",
        "pty.fork()",
        "multiprocessing.get_context('fork').Process(target=print).start()",
        "subprocess.run(['true'], preexec_fn=print)",
    ],
)
def test_fork_is_refused_while_interpreters_live(fork):
    out = run(
        f"""
        import os, pty, subprocess, multiprocessing
        import atoll
        one = atoll.Interpreter()
        for where in (exec, one.exec):
            try:
                where("import os, pty, subprocess, multiprocessing\\n" + {fork!r})
            except RuntimeError as error:
                print(error)
        """
    )
    assert len(out.splitlines()) == 2
    for line in out.splitlines():
        assert "while interpreters live" in line or "preexec_fn" in line


def test_fork_works_again_when_all_are_closed():
    out = run(
        """
        import os, atoll
        with atoll.Interpreter():
            pass
        child = os.fork()
        if child == 0:
            os._exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert out == "5\n"


def test_fork_is_refused_while_an_interpreter_of_the_standard_library_lives():
    out = run(
        """
        import os
        import atoll
        atoll.enable()
        import _interpreters
        one = _interpreters.create()
        try:
            os.fork()
        except RuntimeError as error:
            print("refused:", "(1 of them)" in str(error))
        _interpreters.destroy(one)
        child = os.fork()
        if child == 0:
            os._exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert out.split() == ["refused:", "True", "5"]


def test_the_child_of_a_fork_makes_interpreters_of_its_own():
    out = run(
        """
        import os
        import atoll
        with atoll.Interpreter() as one:
            one.exec("import json, _ctypes")
        child = os.fork()
        if child == 0:
            with atoll.Interpreter() as one:
                one.exec("import json, _ctypes")
            os._exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert out == "5\n"


PROGRAM = """
import multiprocessing, operator, subprocess, sys
from concurrent.futures import ProcessPoolExecutor

def work(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply(operator.add, (1, 2))

def executor():
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(operator.add, 3, 4).result()

def spawned():
    import os
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 6"], os.environ)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def program():
    return subprocess.run(["echo", "hello"], capture_output=True).stdout

def terminated():
    child = subprocess.Popen(["sleep", "3600"])
    child.terminate()
    return child.wait()

if __name__ == "__main__":
    import atoll
    with atoll.Interpreter() as one:
        for call in (lambda f, *a: f(*a), one.call):
            assert call(program) == b"hello\\n"
            assert call(terminated) == -15
            assert call(spawned) == 6
            for method in ("spawn", "forkserver"):
                assert call(work, method) == 3
            assert call(executor) == 7
    print("done")
"""


def test_other_ways_to_start_processes_work(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


ON_UVLOOP = """
import asyncio, os

async def program(preexec_fn):
    child = await asyncio.create_subprocess_exec(
        "sh", "-c", "umask; exit 7",
        stdout=asyncio.subprocess.PIPE, preexec_fn=preexec_fn,
    )
    return (await child.communicate())[0].strip(), child.returncode

def strict():
    os.umask(0o17)

def on_uvloop():
    import asyncio, uvloop
    plain = uvloop.run(program(None))
    return plain[1], uvloop.run(program(strict))
"""


@pytest.mark.parametrize("first", ["import atoll", "import uvloop.loop, atoll"])
def test_subprocesses_of_uvloop_work(first):
    # uvloop forks by itself, and calls PyOS_AfterFork_Child() in the child.
    pytest.importorskip("uvloop")
    out = run(
        first
        + ON_UVLOOP
        + """
with atoll.Interpreter() as one:
    print(one.call(on_uvloop), on_uvloop(), one.call(on_uvloop))
print(on_uvloop())
"""
    )
    assert out.count("(7, (b'0017', 7))") == 4


def test_a_child_gives_up_a_gil_that_threads_of_the_parent_wait_for():
    # It has not got them. The GIL is held before the fork until they have asked for it,
    # and given up in the child by os.write().
    pytest.importorskip("uvloop")
    out = run(
        """
import asyncio, atoll, ctypes, functools, os, threading, uvloop

over = False

def burn():
    while not over:
        pass

def report():
    os.write(1, b"child ")

async def program():
    return [
        await (await asyncio.create_subprocess_exec("true", preexec_fn=report)).wait()
        for _ in range(5)
    ]

os.register_at_fork(before=functools.partial(ctypes.pythonapi.usleep, 20_000))
with atoll.Interpreter():
    for _ in range(2):
        threading.Thread(target=burn, daemon=True).start()
    codes = uvloop.run(program())
    over = True
print(codes)
"""
    )
    assert out.split() == ["child"] * 5 + ["[0,", "0,", "0,", "0,", "0]"]
