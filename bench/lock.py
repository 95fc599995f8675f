"""Locks and atomic ints against their peers, in one run on one machine.

A lock that nobody else wants; one that two want all the time; and a token that two pass
to and fro, which is what a wake costs. Between two threads with one GIL the peer is
`threading`, between two processes `multiprocessing`, and between two interpreters there
is none; a mutex of one futex word in plain C is the limit for all.

A time is wall clock for one acquire and release, of both parties together; of a token,
for one way there and back. Every figure is the median of rounds in which all take turns.

    python bench/lock.py [--pin same|two|all] [--rounds N] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from atoll import AtomicInt, Event, Interpreter, Lock, RLock, Semaphore

ROOT = Path(__file__).resolve().parent.parent
SPAWN = multiprocessing.get_context("spawn")
type Cpus = list[int] | None
type Measure = Callable[[], float]


def pin(cpus: Cpus) -> None:
    if cpus:
        os.sched_setaffinity(0, cpus)


# ---- alone -----------------------------------------------------------------------------


def acquire_release(lock: Any, count: int) -> None:
    acquire, release = lock.acquire, lock.release
    for _ in range(count):
        acquire()
        release()


def enter_leave(lock: Any, count: int) -> None:
    for _ in range(count):
        with lock:
            pass


def add(number: AtomicInt, count: int) -> None:
    change = number.add
    for _ in range(count):
        change()


class Guarded:
    """What an AtomicInt is in the standard library."""

    def __init__(self) -> None:
        self.lock, self.value = threading.Lock(), 0


def add_guarded(number: Guarded, count: int) -> None:
    for _ in range(count):
        with number.lock:
            number.value += 1


def alone(action: Callable[[Any, int], None], thing: Any, count: int) -> Measure:
    def measure() -> float:
        begin = time.perf_counter_ns()
        action(thing, count)
        return (time.perf_counter_ns() - begin) / count

    return measure


def alone_measures(count: int) -> dict[str, Measure]:
    things: dict[str, Any] = {
        "threading.Lock": threading.Lock(),
        "atoll.Lock": Lock(),
        "atoll.Lock(shared=True)": Lock(shared=True),
        "multiprocessing.Lock": SPAWN.Lock(),
        "threading.RLock": threading.RLock(),
        "atoll.RLock": RLock(),
        "threading.Semaphore": threading.Semaphore(),
        "atoll.Semaphore": Semaphore(),
    }
    found = {
        f"acquire, release: {name}": alone(acquire_release, thing, count)
        for name, thing in things.items()
    }
    for name in ("threading.Lock", "atoll.Lock"):
        found[f"with: {name}"] = alone(enter_leave, things[name], count)
    found["n += 1: under threading.Lock"] = alone(add_guarded, Guarded(), count)
    found["n += 1: atoll.AtomicInt"] = alone(add, AtomicInt(), count)
    return found


# ---- two parties -------------------------------------------------------------------------


def contend(
    lock: Any, start: Semaphore, done: Semaphore, stop: Event, count: int, cpus: Cpus
) -> None:
    """Take the lock `count` times, whenever told to start."""
    pin(cpus)
    acquire, release = lock.acquire, lock.release
    while start.acquire() and not stop.is_set():
        for _ in range(count):
            acquire()
            release()
        done.release()


def answer(
    tokens: Any, start: Semaphore, done: Semaphore, stop: Event, count: int, cpus: Cpus
) -> None:
    """Pass the token back `count` times, whenever told to start."""
    pin(cpus)
    there, back = tokens
    while start.acquire() and not stop.is_set():
        for _ in range(count):
            there.acquire()
            back.release()
        done.release()


def ask(
    tokens: Any, start: Semaphore, done: Semaphore, stop: Event, count: int, cpus: Cpus
) -> None:
    pin(cpus)
    there, back = tokens
    while start.acquire() and not stop.is_set():
        for _ in range(count):
            there.release()
            back.acquire()
        done.release()


@contextmanager
def in_thread(function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    yield
    thread.join()


@contextmanager
def in_interpreter(function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    with Interpreter() as other, in_thread(other.call, function, *arguments):
        yield


@contextmanager
def in_process(function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    process = SPAWN.Process(target=function, args=arguments)
    process.start()
    yield
    process.join()


PLACES = {"threads": in_thread, "interpreters": in_interpreter, "processes": in_process}


def pair(
    stack: ExitStack,
    place: str,
    functions: tuple[Callable[..., None], Callable[..., None]],
    thing: Any,
    count: int,
    cpus: tuple[Cpus, Cpus],
) -> Measure:
    """Two parties that wait to be measured, until `stack` is left."""
    done = Semaphore(0, shared=True)
    starts = [Semaphore(0, shared=True) for _ in functions]
    stop = Event(shared=True)
    for function, begin, own in zip(functions, starts, cpus, strict=True):
        arguments = thing, begin, done, stop, count, own
        stack.enter_context(PLACES[place](function, *arguments))
    stack.callback(lambda: [stop.set(), *(begin.release() for begin in starts)])

    def measure() -> float:
        begin = time.perf_counter_ns()
        for one in starts:
            one.release()
        for _ in starts:
            done.acquire()
        return time.perf_counter_ns() - begin

    return measure


def pair_measures(
    stack: ExitStack, name: str, count: int, cpus: tuple[Cpus, Cpus]
) -> dict[str, Measure]:
    found: dict[str, Measure] = {}
    locks: list[tuple[str, str, Any]] = [
        ("threads", "threading.Lock", threading.Lock()),
        ("threads", "atoll.Lock", Lock()),
        ("interpreters", "atoll.Lock", Lock()),
        ("processes", "multiprocessing.Lock", SPAWN.Lock()),
        ("processes", "atoll.Lock(shared=True)", Lock(shared=True)),
    ]
    for place, what, lock in locks:
        run = pair(stack, place, (contend, contend), lock, count, cpus)
        title = f"two {place} want it, {name}: {what}"
        found[title] = lambda run=run: run() / (2 * count)  # type: ignore[misc]
    less = max(count // 10, 10)
    tokens: list[tuple[str, str, Callable[[], Any]]] = [
        ("threads", "threading.Semaphore", lambda: threading.Semaphore(0)),
        ("threads", "atoll.Semaphore", lambda: Semaphore(0)),
        ("interpreters", "atoll.Semaphore", lambda: Semaphore(0)),
        ("processes", "multiprocessing.Semaphore", lambda: SPAWN.Semaphore(0)),
        ("processes", "atoll.Semaphore", lambda: Semaphore(0, shared=True)),
    ]
    for place, what, make in tokens:
        both = make(), make()
        run = pair(stack, place, (ask, answer), both, less, cpus)
        title = f"a token between two {place}, {name}: {what}"
        found[title] = lambda run=run: run() / less  # type: ignore[misc]
    return found


# ---- the limit ------------------------------------------------------------------------


def plain_c(program: str, how: str, count: int, cpus: tuple[Cpus, Cpus]) -> Measure:
    places = [str(one[0]) for one in cpus if one]

    def measure() -> float:
        command = [program, how, str(count), *places]
        return float(subprocess.check_output(command, text=True))

    return measure


def compiled(folder: str) -> str | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = f"{folder}/lock"
    flags = ["-O3", "-D_GNU_SOURCE", "-Isrc", "-pthread", "-o", program]
    sources = ["bench/c/lock.c", "src/sys/park.c", "src/sys/clock.c"]
    subprocess.run([compiler, *flags, *sources], cwd=ROOT, check=True)
    return program


def layouts(wanted: str) -> dict[str, tuple[Cpus, Cpus]]:
    cpus = sorted(os.sched_getaffinity(0))
    found: dict[str, tuple[Cpus, Cpus]] = {}
    if wanted in ("same", "all"):
        found["same core"] = [cpus[0]], [cpus[0]]
    if wanted in ("two", "all") and len(cpus) > 1:
        found["two cores"] = [cpus[0]], [cpus[1]]
    return found


# ---- all of it ------------------------------------------------------------------------


def measured(arguments: argparse.Namespace) -> dict[str, float]:
    count = 2_000 if arguments.quick else 50_000
    rounds = 2 if arguments.quick else arguments.rounds
    none: tuple[Cpus, Cpus] = (None, None)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        program = compiled(folder)
        measures: dict[str, Measure] = {}
        if program:
            limit = plain_c(program, "alone", count * 10, none)
            measures["acquire, release: plain C"] = limit
        measures |= alone_measures(count)
        for name, cpus in layouts(arguments.pin).items():
            if program:
                for how in ("threads", "processes"):
                    title = f"two {how} want it, {name}: plain C"
                    measures[title] = plain_c(program, how, count * 4, cpus)
            measures |= pair_measures(stack, name, count // 5, cpus)
        taken: dict[str, list[float]] = {title: [] for title in measures}
        for measure in measures.values():
            measure()  # what is first done once is not counted
        for _ in range(rounds):
            for title, measure in measures.items():
                taken[title].append(measure())
    return {title: statistics.median(times) for title, times in taken.items()}


def show(results: dict[str, float]) -> None:
    """Each figure, and how it compares with the first of its group."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for title, time_ns in results.items():
        group, what = title.rsplit(": ", 1)
        groups.setdefault(group, []).append((what, time_ns))
    for group, members in groups.items():
        print(f"\n{group}")
        first, first_ns = members[0]
        for what, time_ns in members:
            against = "" if what == first else f"{time_ns / first_ns:8.2f} x {first}"
            print(f"  {what:28} {time_ns:12,.0f} ns {against}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pin", choices=["same", "two", "all"], default="all")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = measured(arguments)
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        show(results)


if __name__ == "__main__":
    main()
