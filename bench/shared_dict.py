"""SharedDict against its peers, in one run on one machine.

A read, a write and a read-modify-write of one key, of a small value and of 64 KiB; alone,
and the reads also while another process writes other keys, and the same key, all the
time. The peer between processes is `multiprocessing.Manager().dict()`, whose items
`change()` counts up under a lock; within a process it is the dict of this process.

Every figure is the median of rounds: wall clock for one operation. All take turns, but for
those beside a writer, each of which has its own.

    python bench/shared_dict.py [--rounds N] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from atoll import Event, SharedDict

SPAWN = multiprocessing.get_context("spawn")
SMALL = {"visits": 1, "name": "ann"}
LARGE = bytes(64 << 10)
KEYS = 1000
type Action = Callable[[Any, int], None]


def read(table: Any, count: int) -> None:
    for _ in range(count):
        table["key 5"]


def read_large(table: Any, count: int) -> None:
    for _ in range(count):
        table["large"]


def write(table: Any, count: int) -> None:
    for _ in range(count):
        table["key 5"] = SMALL


def write_large(table: Any, count: int) -> None:
    for _ in range(count):
        table["large"] = LARGE


def change(table: Any, count: int) -> None:
    for _ in range(count):
        table.change("count", lambda value: value + 1, 0)


def change_guarded(table: Any, count: int) -> None:
    table, lock = table
    for _ in range(count):
        with lock:
            table["count"] = table["count"] + 1


def filled(table: Any) -> Any:
    for i in range(KEYS):
        table[f"key {i}"] = SMALL
    table["large"], table["count"] = LARGE, 0
    return table


# ---- beside a writer -------------------------------------------------------------------


def write_on(table: Any, keys: list[str], begun: Event, stop: Event) -> None:
    begun.set()
    while not stop.is_set():
        for key in keys:
            table[key] = SMALL


@contextmanager
def a_writer(table: Any, keys: list[str]) -> Iterator[None]:
    """Another process that sets `keys` all the time."""
    begun, stop = Event(shared=True), Event(shared=True)
    process = SPAWN.Process(target=write_on, args=(table, keys, begun, stop))
    process.start()
    begun.wait()
    try:
        yield
    finally:
        stop.set()
        process.join()


# ---- rounds ----------------------------------------------------------------------------


def once(action: Action, table: Any, count: int) -> float:
    """Nanoseconds for one of `count`."""
    begin = time.perf_counter_ns()
    action(table, count)
    return (time.perf_counter_ns() - begin) / count


def measure(rounds: int, count: int) -> dict[str, float]:
    """The median of each, in nanoseconds."""
    seen: dict[str, list[float]] = {}
    with SPAWN.Manager() as manager:
        tables: dict[str, tuple[Any, int]] = {
            "SharedDict": (filled(SharedDict()), count),
            "SharedDict(shared=True)": (filled(SharedDict(shared=True)), count),
            "Manager().dict()": (filled(manager.dict()), max(count // 50, 2)),
        }
        actions = {"read": read, "write": write, "change": change}
        large = {"read of 64 KiB": read_large, "write of 64 KiB": write_large}

        def take_turns(which: dict[str, Action], share: int) -> None:
            for what, action in which.items():
                for name, (table, many) in tables.items():
                    times = max(many // share, 2)
                    if action is change and name.startswith("Manager"):
                        both = table, manager.Lock()
                        found = once(change_guarded, both, times)
                    else:
                        found = once(action, table, times)
                    seen.setdefault(f"{what}: {name}", []).append(found)

        for _ in range(rounds):
            take_turns(actions, 1)
            take_turns(large, 20)
        del tables["SharedDict"]  # of this process alone
        beside = {"other keys": ["key 1", "key 2"], "the same key": ["key 5"]}
        for which, keys in beside.items():
            title = f"read, another writes {which}"
            for name, (table, many) in tables.items():
                with a_writer(table, keys):  # one writer at a time: for two there
                    for _ in range(rounds):  # may be no processor
                        found = once(read, table, many)
                        seen.setdefault(f"{title}: {name}", []).append(found)
    return {name: statistics.median(values) for name, values in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="one round, to try it")
    parser.add_argument("--json", action="store_true", help="figures in nanoseconds")
    options = parser.parse_args()
    found = measure(*((1, 50) if options.quick else (options.rounds, 2000)))
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{value / 1000:10.2f} µs  {name}")
    print()
    for name, value in found.items():
        what, _, who = name.partition(": ")
        if who.startswith("Manager"):
            ratio = value / found[f"{what}: SharedDict(shared=True)"]
            print(f"{ratio:8.1f} times  {what}: Manager().dict() / SharedDict")


if __name__ == "__main__":
    main()
