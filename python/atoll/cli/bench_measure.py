"""Measures one contender of `atoll bench`; a program of its own, for any Python >= 3.12.

    python bench_measure.py --list
    python bench_measure.py NAME WORKERS [quick]

prints JSON. It imports nothing but the standard library, and atoll where that is the
contender, so that a Python without atoll can be compared too. Each contender has a fresh
process: what one leaves behind is not in the memory of the next.

Memory is the proportional set size (Pss) of this process and its children, so that what
processes share is counted once.
"""

import concurrent.futures as cf
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["contenders", "main", "measure"]

BURN = 200_000  # steps of a CPU-bound task, some 10 ms


def burn(count: int) -> int:
    """Keep a CPU busy."""
    total = 0
    for i in range(count):
        total += i * i
    return total


def echo(value: Any) -> Any:
    """Send it back."""
    return value


def contenders() -> dict[str, Callable[[int], cf.Executor]]:
    """Executors by name, each made for a number of workers."""
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, Callable[[int], cf.Executor]] = {}
    if importlib.util.find_spec("atoll") is not None:
        import atoll

        found["atoll interpreters"] = lambda n: atoll.Pool(n, model="interpreters")
        found["atoll threads"] = lambda n: atoll.Pool(n, model="threads")
        found["atoll processes"] = lambda n: atoll.Pool(n, model="processes")
    found["threads"] = cf.ThreadPoolExecutor
    standard = getattr(cf, "InterpreterPoolExecutor", None)
    if standard is not None:
        found["interpreters"] = standard
    found["multiprocessing"] = lambda n: cf.ProcessPoolExecutor(n, mp_context=spawn)
    return found


def _children() -> list[int]:
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        try:
            found += map(int, (thread / "children").read_text().split())
        except OSError:
            pass
    return found


def memory_mb() -> float:
    """Pss of this process and its children in MB."""
    total = 0
    for process in [os.getpid(), *_children()]:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1])
            for line in text.splitlines()
            if line.startswith("Pss:")
        )
    return total / 1e3


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _round_trip(pool: cf.Executor, value: object, rounds: int) -> float:
    """Microseconds there and back, the median."""
    trips = [_seconds(lambda: pool.submit(echo, value).result()) for _ in range(rounds)]
    return statistics.median(trips) * 1e6


def _run_all(pool: cf.Executor, tasks: int, count: int) -> None:
    for future in [pool.submit(burn, count) for _ in range(tasks)]:
        future.result()


def measure(
    make: Callable[[int], cf.Executor], workers: int, quick: bool
) -> dict[str, float]:
    """The numbers of one contender."""
    rounds = 20 if quick else 300
    count = BURN // 10 if quick else BURN
    repeats = 1 if quick else 5
    tasks = 4 * workers if quick else 20 * workers
    row: dict[str, float] = {}
    rates = {}
    for number in sorted({1, workers}):
        before = memory_mb()
        began = time.perf_counter()
        with make(number) as pool:
            pool.submit(echo, 1).result()
            row["start-up ms"] = (time.perf_counter() - began) * 1e3
            _run_all(pool, 4 * number, 1000)  # every worker is up
            row["memory per worker MB"] = (memory_mb() - before) / number
            if number == 1:
                row["round trip µs"] = _round_trip(pool, 1, rounds)
                row["round trip of 1 MB µs"] = _round_trip(
                    pool, bytes(1 << 20), max(3, rounds // 10)
                )
            taken = [
                _seconds(lambda p=pool: _run_all(p, tasks, count))  # type: ignore[misc]
                for _ in range(repeats)
            ]
        rates[number] = tasks * (count / BURN) / statistics.median(taken)
    row["CPU-bound tasks/s, 1 worker"] = rates[1]
    row[f"CPU-bound tasks/s, {workers} workers"] = rates[workers]
    row[f"speed-up of {workers}"] = rates[workers] / rates[1]
    return row


def about() -> dict[str, Any]:
    """What Python this is, and which contenders it has."""
    gil = sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True
    return {
        "python": platform.python_version(),
        "gil": gil,
        "contenders": list(contenders()),
    }


def main(arguments: list[str]) -> None:
    """Print what was asked for."""
    if arguments == ["--list"]:
        print(json.dumps(about()))
        return
    name, workers, *quick = arguments
    print(json.dumps(measure(contenders()[name], int(workers), bool(quick))))


if __name__ == "__main__":
    main(sys.argv[1:])
