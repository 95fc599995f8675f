"""The pool against the standard library's executors, multiprocessing and loky.

Prints microseconds a task, and how many times longer than the first row the others
take. Everything runs in this one process, one after the other.

    python bench/pool.py [--json] [--workers N]
"""

import concurrent.futures as cf
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import atoll


def add(number: int) -> int:
    return number + 1


def length(data: Any) -> int:
    return len(data)


def burn(count: int) -> int:
    total = 0
    for i in range(count):
        total += i * i
    return total


class Multiprocessing:
    """multiprocessing.Pool with an executor's face."""

    def __init__(self, workers: int) -> None:
        self.pool = multiprocessing.get_context("spawn").Pool(workers)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        result = self.pool.apply_async(fn, args)
        result.result = result.get  # type: ignore[attr-defined]
        return result

    def shutdown(self) -> None:
        self.pool.close()
        self.pool.join()


def executors(workers: int) -> dict[str, Callable[[], Any]]:
    """What is compared."""
    found: dict[str, Callable[[], Any]] = {
        "atoll interpreters": lambda: atoll.Pool(workers, model="interpreters"),
        "atoll threads": lambda: atoll.Pool(workers, model="threads"),
        "atoll processes": lambda: atoll.Pool(workers, model="processes"),
        "ThreadPoolExecutor": lambda: cf.ThreadPoolExecutor(workers),
        "ProcessPoolExecutor": lambda: cf.ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn")
        ),
        "multiprocessing.Pool": lambda: Multiprocessing(workers),
    }
    if hasattr(cf, "InterpreterPoolExecutor"):
        found["InterpreterPoolExecutor"] = lambda: cf.InterpreterPoolExecutor(workers)
    try:
        import loky
    except ImportError:
        return found
    found["loky"] = lambda: loky.ProcessPoolExecutor(workers)
    return found


def pipelined(pool: Any, count: int, fn: Callable[..., Any], *args: Any) -> float:
    """Microseconds a task, all submitted before the first is waited for."""
    began = time.perf_counter()
    futures = [pool.submit(fn, *args) for _ in range(count)]
    for future in futures:
        future.result()
    return (time.perf_counter() - began) / count * 1e6


def one_by_one(pool: Any, count: int) -> float:
    """Microseconds a task, each waited for."""
    began = time.perf_counter()
    for i in range(count):
        pool.submit(add, i).result()
    return (time.perf_counter() - began) / count * 1e6


def measure(make: Callable[[], Any], workers: int) -> dict[str, float]:
    """All the numbers of one executor."""
    row = {}
    began = time.perf_counter()
    pool = make()
    pool.submit(add, 1).result()
    row["start ms"] = (time.perf_counter() - began) * 1e3
    pipelined(pool, 200, add, 1)
    row["no-op"] = min(pipelined(pool, 5000, add, 1) for _ in range(3))
    row["waited for"] = min(one_by_one(pool, 300) for _ in range(3))
    row["1 MB"] = min(pipelined(pool, 30, length, b"x" * (1 << 20)) for _ in range(3))
    try:
        import numpy

        data = numpy.zeros(8 << 20)
        data.flags.writeable = False
        row["64 MB array"] = min(pipelined(pool, 4, length, data) for _ in range(2))
    except ImportError:
        pass
    row["CPU-bound"] = pipelined(pool, 4 * workers, burn, 200_000)
    pool.shutdown()
    return row


def main() -> None:
    """Run it."""
    workers = os.process_cpu_count() or 1
    if "--workers" in sys.argv:
        workers = int(sys.argv[sys.argv.index("--workers") + 1])
    rows = {}
    for name, make in executors(workers).items():
        rows[name] = measure(make, workers)
        print(name, "done", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return
    columns = list(next(iter(rows.values())))
    base = next(iter(rows.values()))
    print(f"{'microseconds':24}" + "".join(f"{c:>20}" for c in columns))
    for name, row in rows.items():
        cells = (f"{row[c]:11.1f} {row[c] / base[c]:6.1f}x" for c in columns)
        print(f"{name:24}" + "".join(f"{c:>20}" for c in cells))


if __name__ == "__main__":
    main()
