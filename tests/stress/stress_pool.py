"""Tasks by the thousand, cancelled, late, crashing, on workers that come and go.

    python tests/stress/stress_pool.py --tasks 1000000 --model interpreters [--seed 1]

Every future must end exactly once, and in a way that its task allows; memory must not
grow with the number of tasks. Kinds, cancels and their moments are seeded.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures as cf
import os
import random
import sys
import threading
import time
from typing import Any

import atoll

WINDOW = 2000  # futures under way
DEADLINE = 120.0


def add(number: int) -> int:
    """A task that works."""
    return number + 1


def fail(number: int) -> int:
    """One that raises."""
    raise LookupError(number)


def spin() -> None:
    """One that ends when it is interrupted."""
    while True:
        pass


def crash() -> None:
    """One that takes its process along."""
    os._exit(9)


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Run:
    """One run: submits, and counts how futures end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.choose = random.Random(options.seed)
        self.lock = threading.Lock()
        self.calls = 0  # guarded: lock; of done callbacks
        self.ended: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []

    def called(self, future: cf.Future[object]) -> None:
        with self.lock:
            self.calls += 1

    def submit(self, pool: atoll.Pool, number: int) -> tuple[str, cf.Future[object]]:
        """Submit a task of a random kind."""
        chance = self.choose.random()
        processes = self.options.model == "processes"
        if chance < 0.0005:
            return "late", pool.submit_with(spin, timeout=0.01)
        if chance < 0.001:
            return "spin", pool.submit(spin)
        if chance < 0.0012 and processes:
            return "crash", pool.submit(crash)
        if chance < 0.05:
            return "fail", pool.submit(fail, number)
        if chance < 0.06:
            return "timed", pool.submit_with(add, (number,), timeout=DEADLINE)
        return "add", pool.submit(add, number)

    def check(self, number: int, kind: str, future: cf.Future[object]) -> None:
        """Wait for a future and see that it ended as its kind may end."""
        if kind == "spin":
            while not future.cancel(running=True):  # type: ignore[call-arg]
                time.sleep(0.001)
        try:
            result = future.result(DEADLINE)
            end = "value" if result == number + 1 else f"wrong value {result!r}"
        except cf.CancelledError:
            end = "cancelled"
        except TimeoutError:
            end = "timeout" if future.done() else "never"
        except Exception as error:
            end = type(error).__name__
        allowed = {
            "add": {"value", "cancelled"},
            "timed": {"value", "cancelled"},
            "fail": {"LookupError", "cancelled"},
            "late": {"timeout", "cancelled"},
            "spin": {"cancelled"},
            "crash": {"BrokenProcess", "cancelled"},
        }
        self.ended[end] += 1
        if end not in allowed[kind]:
            self.faults.append(f"task {number} ({kind}): {end}")

    def settled(self, pool: atoll.Pool) -> dict[str, Any]:
        """The pool's figures once nothing is under way.

        A future that timed out or was cancelled ends before its worker has unwound the
        interrupted task, so the last one may still count as unfinished for a moment.
        """
        end = time.monotonic() + DEADLINE
        while (stats := pool.stats())["unfinished"] and time.monotonic() < end:
            time.sleep(0.001)
        return stats

    def all(self) -> tuple[float, float]:
        """Everything; memory in MB after a quarter and at the end."""
        options = self.options
        under_way: collections.deque[tuple[int, str, cf.Future[object]]]
        under_way = collections.deque()
        quarter = 0.0
        with atoll.Pool(
            options.workers,
            model=options.model,
            max_tasks_per_worker=options.recycle or None,
        ) as pool:
            for number in range(options.tasks):
                kind, future = self.submit(pool, number)
                future.add_done_callback(self.called)
                under_way.append((number, kind, future))
                if self.choose.random() < 0.02:
                    running = self.choose.random() < 0.5
                    _, _, victim = self.choose.choice(under_way)
                    victim.cancel(running=running)  # type: ignore[call-arg]
                if len(under_way) >= WINDOW:
                    self.check(*under_way.popleft())
                if number == options.tasks // 4:
                    quarter = resident_mb()
            while under_way:
                self.check(*under_way.popleft())
            stats = self.settled(pool)
            if stats["unfinished"] or stats["queued"]:
                self.faults.append(f"left behind: {stats}")
            self.ended["restarts"] = stats["restarts"]
            final = resident_mb()
        if self.calls != options.tasks:
            self.faults.append(f"{self.calls} callbacks for {options.tasks} tasks")
        return quarter, final


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument(
        "--model",
        default="interpreters",
        choices=["interpreters", "threads", "processes"],
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recycle", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=40.0, help="MB of growth")
    options = parser.parse_args(arguments)
    run = Run(options)
    began = time.monotonic()
    quarter, final = run.all()
    ends = ", ".join(f"{count} {end}" for end, count in sorted(run.ended.items()))
    print(
        f"{options.tasks} tasks on {options.model} in {time.monotonic() - began:.0f} s"
    )
    print(f"{ends}; {final:.0f} MB, {final - quarter:+.1f} since a quarter")
    for fault in run.faults[:20]:
        print(fault, file=sys.stderr)
    return 1 if run.faults or final - quarter > options.limit else 0


if __name__ == "__main__":
    sys.exit(main())
