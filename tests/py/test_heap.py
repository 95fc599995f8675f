"""What an interpreter leaks is given back when it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sins import run_child

CYCLES = """
import atoll

# Heaps and images, which are files of memory. Not the files of libraries: how much of
# them is resident is up to the kernel and, proportionally, to other processes.
def own_megabytes():
    with open("/proc/self/smaps_rollup") as rollup:
        own = [line for line in rollup if line.startswith(("Anonymous:", "Pss_Shmem:"))]
    return sum(int(line.split()[1]) for line in own) / 1024

def cycle():
    with atoll.Interpreter() as interpreter:
        interpreter.exec('''{work}''')

for _ in range(5):
    cycle()
before = own_megabytes()
for _ in range(20):
    cycle()
print((own_megabytes() - before) / 20)
"""

WORK = {
    "nothing": "pass",
    "standard library": "import asyncio, decimal, email.message, json, logging",
    "large objects": "kept = [bytes(n) for n in range(0, 40_000, 40)]",
    "many small objects": "kept = {n: str(n) * 20 for n in range(20_000)}",
    "a cycle that never goes": "import sys; sys.kept = kept = []; kept.append(kept)",
}

# What malloc has given out and not got back, to the byte.
IN_MALLOC = """
import ctypes, gc
import atoll

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
        "uordblks", "fordblks", "keepcost")]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info

def in_use():
    gc.collect()
    info = mallinfo()
    return info.uordblks + info.hblkhd

def cycle():
    with atoll.Interpreter() as interpreter:
        interpreter.exec('''{work}''')

for _ in range(40):  # what malloc keeps for itself has settled then
    cycle()
before = in_use()
for _ in range(20):
    cycle()
print((in_use() - before) / 20)
"""


needs_ledgers = pytest.mark.skipif(
    hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled(),
    reason="a free-threaded build keeps its heap by thread",
)
STRESS_GUARD = str(Path(__file__).parents[1] / "stress" / "stress_guard.py")

# Arenas are mappings of a megabyte; atoll maps them at multiples of it, where the
# kernel joins neighbours.
STANDARD_LIBRARY = """
import atoll
from concurrent import interpreters

def arenas():
    bounds = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, _, end = line.split()[0].partition("-")
            bounds.append((int(start, 16), int(end, 16)))
    megabyte = 1 << 20
    return sum(
        max(0, end // megabyte - -(-start // megabyte)) for start, end in bounds
        if not start % megabyte
    )

def cycle():
    interpreter = interpreters.create()
    interpreter.exec('''{work}''')
    interpreter.close()

atoll.Interpreter().close()
for _ in range(5):
    cycle()
before = arenas()
for _ in range(20):
    cycle()
print(before, arenas())
"""

# A thread frees what lies at the beginning of a page without a pause: it is looked up
# among the arenas, of which a leak keeps so many that the lock is held for long, so that
# a fork is likely to find it so. The child does the same.
FORK_WHILE_LOCKED = """
import _interpreters, ctypes, os, signal, threading
import atoll

atoll.Interpreter().close()
leaky = _interpreters.create("isolated")
_interpreters.exec(leaky, '''
import ctypes
kept = [bytes(400) for _ in range(200_000)]
ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
''')
_interpreters.destroy(leaky)

library = ctypes.CDLL(None)
library.aligned_alloc.restype = ctypes.c_void_p
library.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
library.PyMem_RawFree.argtypes = [ctypes.c_void_p]
library.PyMem_RawFree.restype = None

def free_a_page():
    library.PyMem_RawFree(library.aligned_alloc(4096, 4096))

ended = threading.Event()

def free_pages():
    while not ended.is_set():
        free_a_page()

thread = threading.Thread(target=free_pages)
thread.start()
for _ in range(100):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # found locked, it is never unlocked
        free_a_page()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        os._exit(1)
ended.set()
thread.join()
"""

# A list that nobody frees lies in an arena, and is looked at when there is none.
USE_AFTER_CLOSE = """
import ctypes, os
import atoll

def leave():
    left = [1, 2, 3]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))
    return id(left)

with atoll.Interpreter() as interpreter:
    address = interpreter.call(leave)
os.write(1, b"closed")
ctypes.string_at(address, 1)
"""


@needs_ledgers
@pytest.mark.parametrize("name", WORK)
def test_closed_interpreters_leave_no_memory(name: str) -> None:
    # Without the ledgers each cycle leaves 0.4 MB (nothing) to 9 MB.
    run = subprocess.run(
        [sys.executable, "-c", CYCLES.format(work=WORK[name])],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert float(run.stdout) < 0.2, run.stdout


@needs_ledgers
@pytest.mark.parametrize("name", ["nothing", "standard library"])
def test_closed_interpreters_leave_no_block_in_malloc(name: str) -> None:
    # CPython leaves its table of arenas, 768 bytes and more, where one block leaks.
    run = subprocess.run(
        [sys.executable, "-c", IN_MALLOC.format(work=WORK[name])],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert float(run.stdout) < 400, run.stdout


def test_debug_allocators_are_left_alone() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-c", CYCLES.format(work="import json")],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert run.stderr == ""


@needs_ledgers
@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="its interpreters leak by themselves before 3.14"
)
@pytest.mark.parametrize(
    "name", ["nothing", "standard library", "large objects", "many small objects"]
)
def test_interpreters_of_the_standard_library_leave_no_arena(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", STANDARD_LIBRARY.format(work=WORK[name])],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    before, after = map(int, run.stdout.split())
    assert after - before < 10, run.stdout


@needs_ledgers
def test_a_child_of_fork_has_the_lock_of_the_ledgers() -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORK_WHILE_LOCKED],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (run.returncode, run.stderr) == (0, "")


@needs_ledgers
def test_the_guard_stops_who_uses_what_was_left() -> None:
    run = subprocess.run(
        [sys.executable, "-c", USE_AFTER_CLOSE],
        capture_output=True,
        timeout=240,
        env=os.environ | {"ATOLL_HEAP_GUARD": "1"},
    )
    assert run.stdout == b"closed", run.stderr
    assert run.returncode == -signal.SIGSEGV


@needs_ledgers
@pytest.mark.slow
def test_nobody_uses_what_closed_interpreters_left() -> None:
    out = run_child(STRESS_GUARD, timeout=280, ATOLL_HEAP_GUARD="1")
    assert out.endswith("at the exit\n")
