"""CPython's hazards (atoll._hazards): each shown without its remedy, and with it.

The same program runs twice, in processes of its own, because the hazard is often a
crash: once with the remedy left out (`_atoll.leave_out`), once as atoll is. What
happens without it is asserted too: when a version of CPython loses a hazard, the table
is to say so. Where the remedy cannot be left out (`async-exception`, `signals`), what
CPython alone would do is done by hand.
"""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import sins

from atoll._hazards import HAZARDS, hazards_here

HERE = {hazard.name for hazard in hazards_here()}
FREE_THREADED = "t" in sys.abiflags
HANGS = 20  # seconds after which a program that hangs is believed to


class Ended:
    """How a program ended: `code` is None when it did not."""

    def __init__(self, source: str, timeout: float = 240) -> None:
        try:
            done = subprocess.run(
                [sys.executable, "-c", source],
                capture_output=True,
                text=True,
                timeout=timeout,
            )
            self.code: int | None = done.returncode
            self.words = done.stdout.split()
            self.errors = done.stderr
        except subprocess.TimeoutExpired:
            self.code, self.words, self.errors = None, [], ""

    @property
    def crashed(self) -> bool:
        return self.code is not None and self.code < 0

    def __repr__(self) -> str:
        return f"exit code {self.code}, {self.words}, {self.errors[-4000:]}"


def run(source: str) -> Ended:
    return Ended(source)


def run_without(hazard: str, source: str, timeout: float = 240) -> Ended:
    """Run `source` with the remedy against `hazard` left out."""
    return Ended(
        f"from atoll import _atoll\n_atoll.leave_out({hazard!r})\n{source}", timeout
    )


def sometime(hazard: str, source: str, wrong: Callable[[Ended], bool]) -> list[Ended]:
    """Runs without the remedy up to the first that goes wrong; at most twenty."""
    runs: list[Ended] = []
    while len(runs) < 20:
        runs.append(run_without(hazard, source))
        if wrong(runs[-1]):
            return runs
    raise AssertionError(f"{hazard} does not show: {runs}")


def needs(name: str) -> pytest.MarkDecorator:
    assert name in {hazard.name for hazard in HAZARDS}
    return pytest.mark.skipif(name not in HERE, reason="this version does not have it")


def test_a_remedy_that_is_not_there_cannot_be_left_out() -> None:
    done = run("""
from atoll import _atoll
import atoll
assert _atoll.left_out() == frozenset()
try:
    _atoll.leave_out("signals")
except ValueError as error:
    print("ValueError")
with atoll.Interpreter():
    try:
        _atoll.leave_out("fork")
    except RuntimeError as error:
        print("RuntimeError")
""")
    assert done.words == ["ValueError", "RuntimeError"], done


IMPORT_WHILE_MAIN_HOLDS_ITS_GIL = """
import ctypes, os, threading
import atoll
reader, writer = os.pipe()
go, goer = os.pipe()
one = atoll.Interpreter()
future = one.submit(exec, f'''
import os
os.write({writer}, b"r")
os.read({go}, 1)
import _decimal, _lsprof
os.write({writer}, b"d")
''')
os.read(reader, 1)
class PollFd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short),
                ("revents", ctypes.c_short)]
poll = PollFd(reader, 1, 0)
# PyDLL calls with the GIL held: it is not let go of between the two.
libc = ctypes.PyDLL(None)
libc.write(goer, b"g", 1)
ready = libc.poll(ctypes.byref(poll), 1, WAIT)
print(ready)
future.result(60)
one.close()
"""


@needs("import-in-main")
@pytest.mark.skipif(FREE_THREADED, reason="main has no GIL to wait for")
def test_import_in_main() -> None:
    source = IMPORT_WHILE_MAIN_HOLDS_ITS_GIL
    without = run_without("import-in-main", source.replace("WAIT", "3000"))
    remedied = run(source.replace("WAIT", "60000"))
    assert without.words == ["0"], without  # nothing came for three seconds
    assert remedied.words == ["1"], remedied


@needs("extension-table")
@pytest.mark.skipif(FREE_THREADED, reason="there it looks after the GIL")
def test_extension_table() -> None:
    # Each of the two imports the other in its init function.
    folder = str(sins.build("circular"))
    source = f"""
import sys
import atoll
for _ in range(3):
    with atoll.Interpreter() as one:
        one.exec("import sys; sys.path.insert(0, {folder!r})")
        one.exec("import circular_a, circular_b")
print("imported")
"""
    without = run_without("extension-table", source)
    remedied = run(source)
    if sys.version_info < (3, 14):
        assert without.crashed, without
    else:  # says main, where the init functions ran
        assert "while importing from subinterpreter" in without.errors, without
    assert (remedied.code, remedied.words) == (0, ["imported"]), remedied
    assert remedied.errors == "", remedied


@needs("foreign-threads")
def test_foreign_threads() -> None:
    # A callback of ctypes on a thread that Python did not start.
    source = """
import atoll
with atoll.Interpreter() as one:
    one.exec('''
import ctypes, _interpreters
seen = []
@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def callback(argument):
    seen.append(_interpreters.get_current()[0])
libc = ctypes.CDLL(None)
thread = ctypes.c_ulong()
assert libc.pthread_create(ctypes.byref(thread), None, callback, None) == 0
assert libc.pthread_join(thread, None) == 0
print(seen == [_interpreters.get_current()[0]] and seen != [0], flush=True)
''')
"""
    without = run_without("foreign-threads", source)
    remedied = run(source)
    assert without.words != ["True"], without
    if not FREE_THREADED:  # who asks for a GIL that is another's stops at the exit
        assert without.code != 0, without
    assert (remedied.code, remedied.words) == (0, ["True"]), remedied


@needs("datetime")
def test_datetime() -> None:
    source = """
import threading
import atoll
for _ in range(5):
    several = [atoll.Interpreter() for _ in range(4)]
    work = "import datetime; datetime.datetime.now().isoformat()"
    threads = [threading.Thread(target=one.exec, args=(work,)) for one in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in several:
        one.close()
print("whole")
"""
    sometime("datetime", source, lambda end: end.crashed)
    remedied = run(source)
    assert (remedied.code, remedied.words) == (0, ["whole"]), remedied


@needs("current-frames")
@pytest.mark.skipif(FREE_THREADED, reason="CPython's own can stop the threads there")
def test_current_frames() -> None:
    source = """
import sys, threading
import atoll
work = '''
def walk(depth):
    return sum(walk(depth - 1) for _ in range(3)) if depth else 1
for _ in range(40):
    walk(7)
'''
def look(done):
    while not done.is_set():
        sys._current_frames()
done = threading.Event()
looker = threading.Thread(target=look, args=(done,))
with atoll.Interpreter() as one, atoll.Interpreter() as two:
    looker.start()
    threads = [threading.Thread(target=i.exec, args=(work,)) for i in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    looker.join()
print("whole")
"""
    sometime("current-frames", source, lambda end: end.crashed)
    remedied = run(source)
    assert (remedied.code, remedied.words) == (0, ["whole"]), remedied


@needs("static-types")
def test_static_types() -> None:
    folder = str(sins.build("registers"))
    source = f"""
import sys
import atoll
sys.path.insert(0, {folder!r})
with atoll.Interpreter() as one:
    one.exec("import registers; registers.change_type()")
import json
print(hasattr(json, "absent"))
"""
    without = run_without("static-types", source)
    remedied = run(source)
    assert without.crashed, without
    assert (remedied.code, remedied.words) == (0, ["False"]), remedied


@needs("fork")
def test_fork() -> None:
    # The child dies before any Python code of it runs.
    source = """
import os, subprocess
import atoll
with atoll.Interpreter() as one:
    one.call(int)
    try:
        child = os.fork()
        if child == 0:
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    except RuntimeError as error:
        print("refused:", "forkserver" in str(error))
    print(subprocess.run(["true"]).returncode)
"""
    without = run_without("fork", source)
    remedied = run(source)
    assert int(without.words[0]) < 0, without
    assert remedied.words == ["refused:", "True", "0"], remedied


@needs("tracemalloc")
def test_tracemalloc() -> None:
    source = """
import tracemalloc, warnings
import atoll
warnings.simplefilter("ignore")
tracemalloc.start()
for _ in range(10):
    with atoll.Interpreter() as one:
        one.exec("import json; kept = [json.dumps(x) for x in range(1000)]")
print("closed", tracemalloc.is_tracing())
"""
    without = run_without("tracemalloc", source, timeout=HANGS)
    remedied = run(source)
    assert without.code is None or without.crashed, without
    assert remedied.words == ["closed", "False"], remedied


@needs("last-thread")
def test_last_thread() -> None:
    source = """
import os, warnings
import atoll
warnings.simplefilter("ignore")
one = atoll.Interpreter()
one.exec('''
import _thread, os, time
reader, writer = os.pipe()
def stay():
    os.write(writer, b"1")
    time.sleep(3600)
_thread.start_new_thread(stay, ())
os.read(reader, 1)
''')
one.close(timeout=0.1)
while "closing" in repr(one):
    one.close(timeout=1)
print("left" in repr(one), flush=True)
os._exit(0)
"""
    without = run_without("last-thread", source)
    remedied = run(source)
    assert without.crashed and "not the last thread" in without.errors, without
    assert remedied.words == ["True"], remedied


@needs("async-exception")
def test_async_exception() -> None:
    # From main it finds no thread of that number in main's interpreter.
    done = run("""
import ctypes, os, threading
import atoll
reader, writer = os.pipe()
def body(writer):
    import os
    os.write(writer, b"1")
    while True:
        pass
with atoll.Interpreter() as one:
    owner = one.call(threading.get_ident)
    future = one.submit(body, writer)
    os.read(reader, 1)
    print(ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(owner), ctypes.py_object(ValueError)))
    one.interrupt()
    print(type(future.exception(60)).__name__)
""")
    assert done.words == ["0", "KeyboardInterrupt"], done


# The code in the interpreter says that it runs, and ends when it is told to; it is told
# when Ctrl-C has not ended it for `PATIENCE` seconds.
INTERRUPTED = """
import os, signal, threading
begun, beginner = os.pipe()
stop, stopper = os.pipe()
ended, told = threading.Event(), []
def interrupt():
    os.read(begun, 1)
    os.kill(os.getpid(), signal.SIGINT)
    if not ended.wait(PATIENCE):
        told.append(True)
        os.write(stopper, b"s")
loop = f'''
import os, select
os.write({beginner}, b"b")
while not select.select([{stop}], [], [], 0)[0]:
    pass
'''
CREATE
thread = threading.Thread(target=interrupt)
thread.start()
try:
    RUN
except KeyboardInterrupt:
    pass
ended.set()
thread.join()
print("told" if told else "interrupted")
"""


@needs("signals")
def test_signals() -> None:
    def interrupted(create: str, run_it: str, patience: float) -> Ended:
        source = INTERRUPTED.replace("CREATE", create).replace("RUN", run_it)
        return run(source.replace("PATIENCE", str(patience)))

    plain = interrupted(
        "import _interpreters; one = _interpreters.create()",
        "_interpreters.exec(one, loop)",
        3,
    )
    remedied = interrupted(
        "import atoll; one = atoll.Interpreter()", "one.exec(loop)", 60
    )
    assert plain.words == ["told"], plain
    assert remedied.words == ["interrupted"], remedied


STACKS = """
import os, resource, sys
limit = resource.getrlimit(resource.RLIMIT_STACK)
if limit[0] != 2 << 20:
    # Read when the process starts.
    resource.setrlimit(resource.RLIMIT_STACK, (2 << 20, limit[1]))
    os.environ["OPENBLAS_NUM_THREADS"] = "2"
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[-1]])
import atoll
with atoll.Interpreter() as one:
    one.exec('''
import threading
import numpy
def invert():
    numpy.linalg.inv(numpy.random.default_rng(1).random((200, 200)))
    print("inverted", flush=True)
thread = threading.Thread(target=invert)
thread.start()
thread.join()
invert()
''')
"""


@needs("thread-stacks")
@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="OpenBLAS with one thread needs little"
)
def test_thread_stacks() -> None:
    # 2 MiB is what a thread gets without the remedy where the shell says so.
    pytest.importorskip("numpy")
    # What overflows, and so when the process dies of it, is up to whose turn it was: of
    # this thread or those of OpenBLAS.
    sometime("thread-stacks", STACKS, lambda end: end.crashed)
    remedied = run(STACKS)
    assert (remedied.code, remedied.words) == (0, ["inverted"] * 2), remedied


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the executor came with 3.14")
@pytest.mark.parametrize("name", ["numpy", "orjson"])
def test_standard_executor_imports_extensions(name: str) -> None:
    pytest.importorskip(name)
    done = run(f"""
import atoll
atoll.enable()
from concurrent.futures import InterpreterPoolExecutor
from concurrent import interpreters
def work():
    import {name}
    return {name}.__name__
with InterpreterPoolExecutor(2) as executor:
    print([one.result(60) for one in [executor.submit(work) for _ in range(4)]])
one = interpreters.create()
one.exec("import {name}")
one.close()
print("ended")
""")
    assert done.code == 0, done
    assert " ".join(done.words) == f"{[name] * 4} ended", done
