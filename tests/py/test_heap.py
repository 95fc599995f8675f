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

def private_and_shared_megabytes():
    with open("/proc/self/smaps_rollup") as rollup:
        pss = next(line for line in rollup if line.startswith("Pss:"))
    return int(pss.split()[1]) / 1024

def cycle():
    with atoll.Interpreter() as interpreter:
        interpreter.exec('''{work}''')

for _ in range(5):
    cycle()
before = private_and_shared_megabytes()
for _ in range(20):
    cycle()
print((private_and_shared_megabytes() - before) / 20)
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

for _ in range(10):
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
        timeout=120,
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
        timeout=120,
        check=True,
    )
    assert float(run.stdout) < 400, run.stdout


def test_debug_allocators_are_left_alone() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-c", CYCLES.format(work="import json")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stderr == ""


@needs_ledgers
def test_the_guard_stops_who_uses_what_was_left() -> None:
    run = subprocess.run(
        [sys.executable, "-c", USE_AFTER_CLOSE],
        capture_output=True,
        timeout=120,
        env=os.environ | {"ATOLL_HEAP_GUARD": "1"},
    )
    assert run.stdout == b"closed", run.stderr
    assert run.returncode == -signal.SIGSEGV


@needs_ledgers
@pytest.mark.slow
def test_nobody_uses_what_closed_interpreters_left() -> None:
    out = run_child(STRESS_GUARD, timeout=280, ATOLL_HEAP_GUARD="1")
    assert out.endswith("at the exit\n")
