"""CPython's hazards (atoll._hazards): each shown without the remedy, and with it.

Each side runs in a process of its own, because the hazard is often a crash. What the
hazard does without atoll is asserted too: when a version of CPython loses it, the table
is to say so.
"""

import subprocess
import sys

import pytest

from atoll._hazards import HAZARDS, hazards_here

HERE = {hazard.name for hazard in hazards_here()}


def run(source: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=120
    )


def needs(name: str) -> pytest.MarkDecorator:
    assert name in {hazard.name for hazard in HAZARDS}
    return pytest.mark.skipif(name not in HERE, reason="this version does not have it")


@needs("fork")
def test_fork() -> None:
    # The child of a fork dies before any Python code of it runs.
    plain = run("""
import _interpreters, os
one = _interpreters.create()
_interpreters.exec(one, "import threading")
child = os.fork()
if child == 0:
    os._exit(0)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
""")
    remedied = run("""
import atoll, os, subprocess
with atoll.Interpreter() as one:
    one.call(int)
    try:
        os.fork()
    except RuntimeError as error:
        print("refused:", "forkserver" in str(error))
    print(subprocess.run(["true"]).returncode)
""")
    assert plain.stdout.strip() != "0", plain
    assert remedied.stdout.split() == ["refused:", "True", "0"], remedied


@needs("tracemalloc")
def test_tracemalloc() -> None:
    body = "import json\nkept = [json.dumps(x) for x in range(1000)]"
    plain = run(f"""
import _interpreters, tracemalloc
tracemalloc.start()
for _ in range(10):
    one = _interpreters.create()
    _interpreters.exec(one, {body!r})
    _interpreters.destroy(one)
""")
    remedied = run(f"""
import atoll, tracemalloc, warnings
warnings.simplefilter("ignore")
tracemalloc.start()
for _ in range(10):
    with atoll.Interpreter() as one:
        one.exec({body!r})
print("closed", tracemalloc.is_tracing())
""")
    assert plain.returncode < 0, plain
    assert remedied.stdout.split() == ["closed", "False"], remedied


@needs("async-exception")
def test_async_exception() -> None:
    # It is set on the thread's state of the caller's interpreter, if on any: the code
    # that runs does not see it.
    plain = run("""
import _interpreters, ctypes, os, threading
one = _interpreters.create()
reader, writer = os.pipe()
seen = []
def body():
    seen.append(_interpreters.exec(one, f'''
import os, time
os.write({writer}, b"1")
end = time.monotonic() + 2
while time.monotonic() < end:
    pass
os.write({writer}, b"2")
'''))
thread = threading.Thread(target=body)
threading.excepthook = lambda args: None
thread.start()
os.read(reader, 1)
ctypes.pythonapi.PyThreadState_SetAsyncExc(
    ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
thread.join()
os.set_blocking(reader, False)
print(os.read(reader, 1))
""")
    remedied = run("""
import atoll, os, threading
reader, writer = os.pipe()
def body(writer):
    import os
    os.write(writer, b"1")
    while True:
        pass
with atoll.Interpreter() as one:
    future = one.submit(body, writer)
    os.read(reader, 1)
    one.interrupt()
    print(type(future.exception(60)).__name__)
""")
    assert plain.stdout.strip() == "b'2'", plain  # it ran to its end
    assert remedied.stdout.split() == ["KeyboardInterrupt"], remedied


@needs("signals")
def test_signals() -> None:
    source = """
import os, signal, threading, time
{create}
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
begin = time.monotonic()
try:
    {run}
except KeyboardInterrupt:
    pass
print(time.monotonic() - begin < 8)
"""
    loop = (
        "import time; end = time.monotonic() + 10\\nwhile time.monotonic() < end: pass"
    )
    plain = run(
        source.format(
            create="import _interpreters; one = _interpreters.create()",
            run=f"_interpreters.exec(one, '{loop}')",
        )
    )
    remedied = run(
        source.format(
            create="import atoll; one = atoll.Interpreter()", run=f"one.exec('{loop}')"
        )
    )
    assert plain.stdout.strip() == "False", plain
    assert remedied.stdout.strip() == "True", remedied


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
    assert done.returncode == 0, done
    assert done.stdout.split("\n")[:2] == [str([name] * 4), "ended"]
