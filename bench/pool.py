"""The pool against the standard library's executors, multiprocessing and loky.

    python bench/pool.py [--json FILE] [--workers 2] [--rounds 5] [--only TEXT]

Every pool is up at the same time, and each row is measured in rounds, one pool after the
other in each, so that what else the machine does meets all of them. What is shown is the
median, and how many times that of the first line it is. InterpreterPoolExecutor is there
from CPython 3.14 on: `tools/pythons run 3.14 -- python bench/pool.py`.

no-op       µs a task, all submitted before the first is waited for
no-op CPU   the same in CPU time of this process: what else runs does not matter
waited for  µs a task, each waited for
1 MB        µs a task with a bytes argument, pipelined
64 MB       µs a task with a numpy array that is not written to, pipelined
CPU         how many times faster tasks in Python are together than one by one
numpy       the same for tasks that sort an array
uneven      time over the ideal one, where every tenth task takes 20 times as long
start       ms from nothing to the first result
memory      MB (PSS, with children) that a started pool with numpy in it adds
"""

import argparse
import concurrent.futures as cf
import contextlib
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import atoll
except ImportError as error:
    sys.exit(f"atoll is not built for this Python ({error}); `make build` does that")

MB = 1 << 20
ENOUGH = 0.02  # seconds that a measurement of large arguments takes at least


# ---- tasks -----------------------------------------------------------------------


def add(number: int) -> int:
    return number + 1


def length(data: Any) -> int:
    return len(data)


def burn(count: int) -> int:
    total = 0
    for i in range(count):
        total += i * i
    return total


def sort(size: int) -> float:
    import numpy

    return float(numpy.sort(numpy.random.default_rng(1).random(size))[0])


def load_numpy(seconds: float) -> None:
    import numpy  # noqa: F401

    time.sleep(seconds)  # long enough for every worker to get one


# ---- contenders ------------------------------------------------------------------


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


def contenders(workers: int) -> dict[str, Callable[[], Any]]:
    """What is compared."""
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, Callable[[], Any]] = {
        "atoll interpreters": lambda: atoll.Pool(workers, model="interpreters"),
        "atoll threads": lambda: atoll.Pool(workers, model="threads"),
        "atoll processes": lambda: atoll.Pool(workers, model="processes"),
        "ThreadPoolExecutor": lambda: cf.ThreadPoolExecutor(workers),
        "ProcessPoolExecutor": lambda: cf.ProcessPoolExecutor(
            workers, mp_context=spawn
        ),
        "multiprocessing.Pool": lambda: Multiprocessing(workers),
    }
    if hasattr(cf, "InterpreterPoolExecutor"):
        found["InterpreterPoolExecutor"] = lambda: cf.InterpreterPoolExecutor(workers)
    with contextlib.suppress(ImportError):
        import loky

        found["loky"] = lambda: loky.ProcessPoolExecutor(workers)
    return found


def absent() -> str:
    """Which contenders are not here, and why."""
    words = []
    if not hasattr(cf, "InterpreterPoolExecutor"):
        words.append("InterpreterPoolExecutor comes with CPython 3.14")
    if importlib.util.find_spec("loky") is None:
        words.append("loky is not installed")
    return "; ".join(words)


# ---- rows ------------------------------------------------------------------------


def seconds(pool: Any, calls: list[tuple[Any, ...]]) -> float:
    """For all of `calls`, submitted before the first is waited for."""
    began = time.perf_counter()
    futures = [pool.submit(*call) for call in calls]
    for future in futures:
        future.result()
    return time.perf_counter() - began


def pipelined(pool: Any, count: int, *call: Any) -> float:
    """Microseconds a task."""
    return seconds(pool, [call] * count) / count * 1e6


def pipelined_cpu(pool: Any, count: int, *call: Any) -> float:
    """Microseconds of this process's CPU time a task, all its threads together."""
    began = time.process_time()
    seconds(pool, [call] * count)
    return (time.process_time() - began) / count * 1e6


def pipelined_large(pool: Any, *call: Any) -> float:
    """Microseconds a task: as many as take a while, but for some that is one."""
    once = seconds(pool, [call])
    return pipelined(pool, min(max(8, int(ENOUGH / once)), 1000), *call)


def waited_for(pool: Any, count: int) -> float:
    """Microseconds a task, one by one."""
    return sum(seconds(pool, [(add, i)]) for i in range(count)) / count * 1e6


def together(pool: Any, count: int, *call: Any) -> float:
    """How many times faster tasks are together than one by one."""
    alone = sum(seconds(pool, [call]) for _ in range(count))
    return alone / seconds(pool, [call] * count)


def uneven(pool: Any, workers: int) -> float:
    """Time of tasks of uneven length over that of evenly shared work."""
    calls = [(burn, 400_000 if i % 10 == 5 else 20_000) for i in range(20 * workers)]
    alone = seconds(pool, [(burn, 400_000)])
    ideal = alone * sum(count for _, count in calls) / 400_000 / workers
    return seconds(pool, calls) / ideal


def rows(workers: int) -> Iterator[tuple[str, Callable[[Any], float]]]:
    """The measurements that need a pool that is up."""
    yield "no-op", lambda pool: pipelined(pool, 5000, add, 1)
    yield "no-op CPU", lambda pool: pipelined_cpu(pool, 5000, add, 1)
    yield "waited for", lambda pool: waited_for(pool, 300)
    data = b"x" * MB
    yield "1 MB", lambda pool: pipelined_large(pool, length, data)
    yield "CPU", lambda pool: together(pool, 2 * workers, burn, 1_000_000)
    yield "uneven", lambda pool: uneven(pool, workers)
    try:
        import numpy
    except ImportError:
        print("numpy is not installed: no 64 MB, no numpy", file=sys.stderr)
        return
    array = numpy.zeros(8 * MB)
    array.flags.writeable = False
    yield "64 MB", lambda pool: pipelined_large(pool, length, array)
    yield "numpy", lambda pool: together(pool, 4 * workers, sort, 300_000)


# ---- start and memory, in processes of their own ---------------------------------


def proportional_mb() -> float:
    """PSS of this process and its children."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        number = waiting.pop()
        for task in Path(f"/proc/{number}/task").iterdir():
            waiting += map(int, (task / "children").read_text().split())
        for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def fresh(name: str, workers: int) -> None:
    """Print the start-up in ms and the memory in MB of one pool, in a new process."""
    make = contenders(workers)[name]
    with contextlib.suppress(ImportError):
        import numpy  # noqa: F401
    before = proportional_mb()
    began = time.perf_counter()
    pool = make()
    pool.submit(add, 1).result()
    start = time.perf_counter() - began
    with contextlib.suppress(Exception):  # a plain interpreter cannot
        seconds(pool, [(load_numpy, 0.3)] * workers)
    print(json.dumps([start * 1e3, proportional_mb() - before]))
    pool.shutdown()


def fresh_figures(name: str, workers: int) -> list[float]:
    """`fresh` in a child."""
    command = [sys.executable, __file__, "--fresh", name, "--workers", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: list[float] = json.loads(done.stdout)
    return figures


# ---- the whole -------------------------------------------------------------------


def measure(workers: int, rounds: int, only: str) -> dict[str, dict[str, list[float]]]:
    """Every figure of every round: row, contender, figures."""
    made = {n: m for n, m in contenders(workers).items() if only in n}
    found: dict[str, dict[str, list[float]]] = {}

    def note(row: str, name: str, figure: float) -> None:
        found.setdefault(row, {}).setdefault(name, []).append(figure)

    with contextlib.ExitStack() as stack:
        pools = {}
        for name, make in made.items():
            pools[name] = make()
            stack.callback(pools[name].shutdown)
            pipelined(pools[name], 500, add, 1)
        for row, figure in rows(workers):
            able = {}
            for name, pool in pools.items():
                try:
                    figure(pool)  # imports, first touches
                    able[name] = pool
                except Exception as error:  # numpy in a plain interpreter, for one
                    print(f"{name} cannot do {row}: {error}", file=sys.stderr)
            for _ in range(rounds):
                for name, pool in able.items():
                    note(row, name, figure(pool))
            print(row, "done", file=sys.stderr)
    for _ in range(min(rounds, 3)):
        for name in made:
            start, memory = fresh_figures(name, workers)
            note("start", name, start)
            note("memory", name, memory)
    return found


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """The table of medians."""
    names = list(next(iter(found.values())))
    print(f"{'median':24}" + "".join(f"{row:>16}" for row in found))
    for name in names:
        cells = []
        for figures in found.values():
            if name not in figures:
                cells.append("cannot")
                continue
            median = statistics.median(figures[name])
            ratio = median / statistics.median(figures[names[0]])
            digits = 2 if median < 10 else 0
            cells.append(f"{median:.{digits}f} ({ratio:.2g}x)")
        print(f"{name:24}" + "".join(f"{cell:>16}" for cell in cells))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="contenders with this in their name")
    parser.add_argument("--json", help="a file for every figure of every round")
    parser.add_argument("--fresh", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fresh:
        fresh(options.fresh, options.workers)
        return
    if absent():
        print(absent(), file=sys.stderr)
    found = measure(options.workers, options.rounds, options.only)
    if not any(found.values()):
        parser.error(f"no contender has {options.only!r} in its name")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    print(f"Python {sys.version.split()[0]}, {options.workers} workers")
    show(found)


if __name__ == "__main__":
    main()
