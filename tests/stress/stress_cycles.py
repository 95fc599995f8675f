"""Interpreters that come and go: does the process grow?

    python tests/stress/stress_cycles.py --cycles 500 --modules fastapi,numpy,orjson

Each cycle creates an interpreter, imports the modules, does a small piece of work with
those that `WORK` knows, and closes it. Resident memory (RSS), mappings, threads and
what malloc has given out are printed every `--every` cycles; the slope is a
least-squares line through the cycles after the first `--warm-up`. Exit status 1 when
that is above `--limit` MB a cycle. It is not proportional memory: that grows when
another process ends with which this one shared a library.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import time
from pathlib import Path

import atoll

WORK = {
    "numpy": """
import numpy
left = numpy.arange(90_000, dtype=float).reshape(300, 300)
assert (left @ numpy.eye(300))[2, 3] == 603.0
""",
    "fastapi": """
import asyncio, fastapi, pydantic
class Item(pydantic.BaseModel):
    name: str
    price: float
app = fastapi.FastAPI()
@app.post("/items")
async def create(item: Item) -> Item:
    return item
async def ask():
    sent = []
    body = b'{"name": "reef", "price": "4.5"}'
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
             "method": "POST", "path": "/items", "raw_path": b"/items",
             "query_string": b"", "root_path": "", "scheme": "http",
             "headers": [(b"content-type", b"application/json")],
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    await app(scope, receive, send)
    return sent
sent = asyncio.run(ask())
assert sent[0]["status"] == 200, sent
assert sent[1]["body"] == b'{"name":"reef","price":4.5}', sent
""",
    "orjson": """
import orjson
assert orjson.loads(orjson.dumps({"a": [1, 2.5, None]})) == {"a": [1, 2.5, None]}
""",
    "pydantic": """
import pydantic
assert pydantic.TypeAdapter(list[int]).validate_python(["1", 2]) == [1, 2]
""",
    "pandas": """
import pandas
assert pandas.DataFrame({"k": [1, 1, 2], "v": [1, 2, 3]}).groupby("k").v.sum()[1] == 3
""",
    "scipy": """
import scipy.linalg, scipy.optimize, numpy
assert abs(scipy.linalg.det(numpy.eye(50) * 2) - 2.0**50) < 1
assert abs(scipy.optimize.brentq(lambda x: x * x - 2, 0, 2) - 2**0.5) < 1e-9
""",
    "lxml": """
import lxml.etree
assert lxml.etree.fromstring("<a><b/><b/></a>").xpath("count(//b)") == 2
""",
    "cryptography": """
from cryptography.fernet import Fernet
key = Fernet(Fernet.generate_key())
assert key.decrypt(key.encrypt(b"reef")) == b"reef"
""",
    "uvloop": """
import asyncio, uvloop
async def wait():
    await asyncio.sleep(0)
    return 7
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    assert runner.run(wait()) == 7
""",
    "greenlet": """
import greenlet
main = greenlet.getcurrent()
other = greenlet.greenlet(lambda: main.switch(7))
assert other.switch() == 7
""",
    "pyarrow": """
import pyarrow, pyarrow.compute
assert pyarrow.compute.sum(pyarrow.array(range(1000))).as_py() == 499500
""",
    "h5py": """
import h5py, numpy
with h5py.File("reef", "w", driver="core", backing_store=False) as file:
    file["a"] = numpy.arange(10)
    assert file["a"][3] == 3
""",
}


def memory_mb(kind: str = "Rss") -> float:
    """Resident memory of this process; with "Pss" the proportional one."""
    with open("/proc/self/smaps_rollup") as lines:
        return (
            next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))
            / 1024
        )


def mapping_count() -> int:
    """Mappings of this process."""
    with open("/proc/self/maps", "rb") as lines:
        return sum(1 for _ in lines)


def thread_count() -> int:
    """Threads of this process."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


class MallocInfo(ctypes.Structure):
    """What mallinfo2() returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def malloc_kb() -> float:
    """What malloc has given out and not got back; 0 before glibc 2.33."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = MallocInfo
    info = mallinfo()
    return float(info.uordblks + info.hblkhd) / 1024


def one_cycle(modules: list[str]) -> None:
    """Create, import, work, close."""
    with atoll.Interpreter() as interpreter:
        for module in modules:
            interpreter.exec(WORK.get(module, f"import {module}"))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--warm-up", type=int, default=20, metavar="CYCLES")
    parser.add_argument("--every", type=int, default=20, metavar="CYCLES")
    parser.add_argument("--modules", default="fastapi,pydantic,orjson,numpy")
    parser.add_argument("--limit", type=float, default=0.1, metavar="MB")
    parser.add_argument(
        "--trim", action="store_true", help="malloc_trim before measuring"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the cycles; returns the exit status."""
    options = parse(arguments)
    modules = options.modules.split(",")
    measured: list[tuple[int, float, int, int, float]] = []
    began = time.monotonic()
    print("cycle  RSS MB  mappings  threads  malloc KB  s/cycle", flush=True)
    for cycle in range(1, options.cycles + 1):
        one_cycle(modules)
        if cycle % options.every and cycle != options.warm_up:
            continue
        gc.collect()
        if options.trim:
            ctypes.CDLL(None).malloc_trim(0)
        measured.append(
            (cycle, memory_mb(), mapping_count(), thread_count(), malloc_kb())
        )
        each = (time.monotonic() - began) / cycle
        print(
            "{:5}  {:6.1f}  {:8}  {:7}  {:9.0f}  {:7.3f}".format(*measured[-1], each),
            flush=True,
        )
    warm = [row for row in measured if row[0] >= options.warm_up]
    if len(warm) < 2:
        print("too few cycles for a slope")
        return 2
    cycles = [row[0] for row in warm]
    slopes = [
        statistics.linear_regression(cycles, [row[column] for row in warm]).slope
        for column in (1, 2, 3, 4)
    ]
    print(
        f"a cycle after the first {options.warm_up}: {slopes[0]:+.4f} MB, "
        f"{slopes[1]:+.2f} mappings, {slopes[2]:+.3f} threads, "
        f"{slopes[3]:+.1f} KB in malloc"
    )
    return 1 if slopes[0] > options.limit else 0


if __name__ == "__main__":
    sys.exit(main())
