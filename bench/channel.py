"""Channels against their peers, in one run on one machine.

Round trips of a small message; small messages one way (`_one_way.py`); a message
of 8 bytes to 64 MB answered by a small one; one message to three receivers; and a
dict that others read. The peers: the same spin-then-park in plain C, which is the limit;
`queue.SimpleQueue` between two threads; `multiprocessing`'s `Pipe`, `Queue`,
`shared_memory` and `Manager`; and the standard library's queue between interpreters.

The goals are said with the ratios. A round trip stands against plain C in
pairs, one measured right after the other: where two processors of a virtual machine
lie changes from second to second, and with it how long a line takes from one to the
other. While they are two threads of one core it takes next to nothing, and the ratio is
that of the instructions alone, about three: so the goal is one for two cores, where
plain C takes some 250 ns.

Both ends are counted: a time is wall clock for a message, from before the first send
until the other side has the last one, divided by their number. Every figure is the
median of rounds in which all take turns.

    python bench/channel.py [--pin same|two|free|all] [--rounds N] [--quick]
                            [--json] [--save F | --compare F]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import _one_way
from _one_way import drain, drain_batches, drain_queue
from _sides import Cpus, interpreter, per, pin, process, thread
from _standard import standard_queues

from atoll import Broadcast, Channel, SharedBuffer, SharedDict

ROOT = Path(__file__).resolve().parent.parent
SIZES = [8, 64, 1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 23, 64 << 20]
# How long a side spins before it sleeps is learnt; where threads run, looked up.
SETTLE_SECONDS = 0.1
# Of a round trip and of that in plain C, which take a few milliseconds each.
TRIPS = 10_000
TRIP_PAIRS = 7


def name_of(size: int) -> str:
    for unit, text in ((1 << 20, "MB"), (1 << 10, "KB")):
        if size >= unit:
            return f"{size // unit} {text}"
    return f"{size} B"


# ---- the other side -----------------------------------------------------------------


def echo(there: Any, back: Any, cpus: list[int] | None) -> None:
    """Send back whatever comes, until that is None."""
    pin(cpus)
    recv, send = there.recv, back.send
    while (value := recv()) is not None:
        send(value)


def acknowledge(there: Any, back: Any, cpus: list[int] | None) -> None:
    """Answer each message with True, until one is None."""
    pin(cpus)
    while there.recv() is not None:
        back.send(True)


def echo_queue(there: Any, back: Any, cpus: list[int] | None) -> None:
    pin(cpus)
    while (value := there.get()) is not None:
        back.put(value)


def read_shared(name: str, there: Any, back: Any, cpus: list[int] | None) -> None:
    """Answer each word with True, the memory being mapped already."""
    pin(cpus)
    memory = shared_memory.SharedMemory(name, track=False)
    while there.recv() is not None:
        back.send(True)
    memory.close()


# ---- round trips ----------------------------------------------------------------------


def trips(send: Any, recv: Any, rounds: int, payload: Any = 1) -> float:
    """Nanoseconds for a round trip, once the two sides have met and settled."""
    settled = 0
    until = time.monotonic() + SETTLE_SECONDS
    while settled == 0 or time.monotonic() < until:
        send(payload)
        recv()
        settled += 1

    def run() -> None:
        for _ in range(rounds):
            send(payload)
            recv()

    taken = per(rounds, run)
    send(None)
    return taken


def build_c() -> str | None:
    """The path of the ping-pong in plain C."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = f"{tempfile.mkdtemp()}/pingpong"
    sources = ["bench/c/pingpong.c", "src/sys/park.c", "src/sys/clock.c"]
    options = ["-O3", "-D_GNU_SOURCE", "-Isrc", "-pthread", "-o", program]
    subprocess.run([compiler, *options, *sources], check=True, cwd=ROOT)
    return program


def limit_trip(program: str, cpus: Cpus) -> float:
    arguments = [str(each[0]) for each in cpus if each]
    return float(subprocess.check_output([program, str(4 * TRIPS), *arguments]))


def channel_trip(rounds: int, cpus: Cpus) -> float:
    there, back = Channel(16), Channel(16)
    with interpreter(echo, there, back, cpus[1]):
        pin(cpus[0])
        return trips(there.send, back.recv, rounds)


def thread_trip(rounds: int, cpus: Cpus) -> float:
    there: queue.SimpleQueue[Any] = queue.SimpleQueue()
    back: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with thread(echo_queue, there, back, cpus[1]):
        pin(cpus[0])
        return trips(there.put, back.get, rounds)


def pipe_trip(rounds: int, cpus: Cpus) -> float:
    here, there = multiprocessing.Pipe()
    with process(echo, there, there, cpus[1]):
        pin(cpus[0])
        return trips(here.send, here.recv, rounds)


def process_queue_trip(rounds: int, cpus: Cpus) -> float:
    context = multiprocessing.get_context("spawn")
    there, back = context.Queue(), context.Queue()
    with process(echo_queue, there, back, cpus[1]):
        pin(cpus[0])
        return trips(there.put, back.get, rounds)


def standard_trip(rounds: int, cpus: Cpus) -> float | None:
    found = standard_queues()
    if found is None:
        return None
    interpreters, create, home, options = found
    there, back = create(**options), create(**options)
    other = interpreters.create()
    code = (
        f"import os\n"
        f"if {cpus[1]!r}: os.sched_setaffinity(0, {cpus[1]!r})\n"
        f"from {home} import Queue\n"
        f"there, back = Queue({there.id}), Queue({back.id})\n"
        f"while (value := there.get()) is not None:\n"
        f"    back.put(value, **{options!r})"
    )
    with thread(other.exec, code):
        pin(cpus[0])
        return trips(lambda value: there.put(value, **options), back.get, rounds)


# ---- sizes -------------------------------------------------------------------------------


def channel_size(size: int, rounds: int, cpus: Cpus, shared: bool) -> float:
    """Bytes, or a SharedBuffer, to an interpreter."""
    there, back = Channel(16), Channel(16)
    with interpreter(acknowledge, there, back, cpus[1]):
        pin(cpus[0])
        payload: Any = SharedBuffer(size) if shared else bytes(size)
        return trips(there.send, back.recv, rounds, payload)


def pipe_size(size: int, rounds: int, cpus: Cpus) -> float:
    """Bytes to a process through a pipe."""
    here, there = multiprocessing.Pipe()
    with process(acknowledge, there, there, cpus[1]):
        pin(cpus[0])
        return trips(here.send, here.recv, rounds, bytes(size))


def shared_memory_size(size: int, rounds: int, cpus: Cpus) -> float:
    """Bytes copied into memory that a process has mapped, and a word to say so."""
    here, there = multiprocessing.Pipe()
    memory = shared_memory.SharedMemory(create=True, size=size)
    try:
        with process(read_shared, memory.name, there, there, cpus[1]):
            pin(cpus[0])
            payload = bytes(size)
            view = memory.buf
            assert view is not None

            def send(value: object) -> None:
                if value is not None:
                    view[:size] = payload
                here.send(value)

            return trips(send, here.recv, rounds, True)
    finally:
        memory.close()
        memory.unlink()


# ---- to many, and for many ------------------------------------------------------------


def broadcast_stream(count: int, cpus: Cpus, batch: int = 1) -> float:
    """A small tuple to three interpreters; for one message, not for one copy."""
    broadcast, done = Broadcast(4096), Channel(3)
    function = drain if batch == 1 else drain_batches
    contexts = [
        interpreter(function, broadcast.subscribe(), done, cpus[1]) for _ in range(3)
    ]
    with contexts[0], contexts[1], contexts[2]:
        pin(cpus[0])
        for _ in range(3):
            done.recv()

        def run() -> None:
            if batch == 1:
                for i in range(count):
                    broadcast.send((i, "name"))
            else:
                for first in range(0, count, batch):
                    broadcast.send_many(
                        [(i, "name") for i in range(first, first + batch)]
                    )
            broadcast.send(None)
            for _ in range(3):
                done.recv()

        return per(count, run)


def thread_broadcast(count: int, cpus: Cpus) -> float:
    """The same to three threads, each with a SimpleQueue."""
    queues: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(3)]
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    contexts = [thread(drain_queue, each, done, cpus[1]) for each in queues]
    with contexts[0], contexts[1], contexts[2]:
        pin(cpus[0])
        for _ in range(3):
            done.get()

        def run() -> None:
            for i in range(count):
                for each in queues:
                    each.put((i, "name"))
            for each in queues:
                each.put(None)
            for _ in range(3):
                done.get()

        return per(count, run)


def dict_reads(table: Any, count: int) -> float:
    """A read of one of a hundred keys, with a value of three small fields."""
    keys = [f"key {i}" for i in range(100)]
    for key in keys:
        table[key] = {"id": 7, "name": key, "ok": True}

    def run() -> None:
        for i in range(count):
            table[keys[i % 100]]

    return per(count, run)


def manager_reads(count: int) -> float:
    with multiprocessing.get_context("spawn").Manager() as manager:
        return dict_reads(manager.dict(), count)


# ---- all of it ----------------------------------------------------------------------


def steps(cpus: Cpus, scale: int) -> dict[str, Callable[[], Any]]:
    """What is measured, by name; `scale` divides the numbers of messages."""
    many = max(100_000 // scale, 25_600)
    some, few = 10_000 // scale, 100 // min(scale, 10)
    found: dict[str, Callable[[], Any]] = _one_way.steps(cpus, scale)
    found |= {
        "round trip: SimpleQueue, threads": lambda: thread_trip(some, cpus),
        "round trip: Pipe, processes": lambda: pipe_trip(some // 5, cpus),
        "round trip: Queue, processes": lambda: process_queue_trip(some // 5, cpus),
        "round trip: interpreters.Queue": lambda: standard_trip(few // 10, cpus),
        "to three: broadcast": lambda: broadcast_stream(many, cpus),
        "to three: broadcast, batches of 256": lambda: broadcast_stream(
            many // 256 * 256, cpus, 256
        ),
        "to three: SimpleQueues, threads": lambda: thread_broadcast(many, cpus),
        "read: SharedDict": lambda: dict_reads(SharedDict(), some),
        "read: Manager().dict(), processes": lambda: manager_reads(some // 10),
    }
    for size in SIZES:
        rounds = max(3, min(some, (256 << 20) // size) // (1 if size < 1 << 20 else 4))
        for how, action in {
            "channel, bytes": lambda s, r: channel_size(s, r, cpus, False),
            "channel, SharedBuffer": lambda s, r: channel_size(s, some, cpus, True),
            "Pipe": lambda s, r: pipe_size(s, min(r, 500), cpus),
            "shared_memory": lambda s, r: shared_memory_size(s, min(r, 500), cpus),
        }.items():
            found[f"{name_of(size)}: {how}"] = (
                lambda s=size, r=rounds, a=action: a(s, r)  # type: ignore[misc]
            )
    return found


AGAINST_C = "channel / plain C (at most 1.5, on two CPUs)"
RATIOS = [
    (
        "interpreters.Queue / channel (1,000)",
        "round trip: interpreters.Queue",
        "round trip: channel",
    ),
    (
        "SimpleQueue / channel, round trip",
        "round trip: SimpleQueue, threads",
        "round trip: channel",
    ),
    (
        "Pipe / channel, round trip",
        "round trip: Pipe, processes",
        "round trip: channel",
    ),
    *_one_way.ratios(),
    (
        "SimpleQueues / broadcast, to three",
        "to three: SimpleQueues, threads",
        "to three: broadcast",
    ),
    (
        "SimpleQueues / broadcast, to three, in batches",
        "to three: SimpleQueues, threads",
        "to three: broadcast, batches of 256",
    ),
    (
        "64 MB / 64 bytes, SharedBuffer (under 2)",
        "64 MB: channel, SharedBuffer",
        "64 B: channel, SharedBuffer",
    ),
    (
        "64 MB / 64 bytes, bytes (under 2)",
        "64 MB: channel, bytes",
        "64 B: channel, bytes",
    ),
    ("Pipe / channel, 64 MB of bytes", "64 MB: Pipe", "64 MB: channel, bytes"),
    ("Manager / SharedDict", "read: Manager().dict(), processes", "read: SharedDict"),
]


def measure(how: str, rounds: int, quick: bool, program: str | None) -> dict[str, Any]:
    """All of it, nanoseconds each."""
    allowed = sorted(os.sched_getaffinity(0))
    cpus: Cpus = (None, None)
    if how == "same":
        cpus = ([allowed[0]], [allowed[0]])
    elif how == "two":
        cpus = ([allowed[0]], [allowed[-1]])
    taken: dict[str, list[float]] = {}

    def take(name: str, step: Callable[[], Any]) -> Any:
        result = step()
        pin(allowed)
        if result is not None:
            taken.setdefault(name, []).append(result)
        return result

    for _ in range(rounds):
        for _ in range(TRIP_PAIRS):
            trip = take("round trip: channel", lambda: channel_trip(TRIPS, cpus))
            if program is not None:
                limit = take("round trip: plain C", lambda: limit_trip(program, cpus))
                taken.setdefault(AGAINST_C, []).append(trip / limit)
        for name, step in steps(cpus, 20 if quick else 1).items():
            take(name, step)
    return {name: statistics.median(each) for name, each in taken.items()}


def report(results: dict[str, Any], before: dict[str, Any]) -> None:
    for name in sorted(results, key=lambda name: (name[0].isdigit(), 0)):
        if name == AGAINST_C:
            continue
        change = ""
        if before.get(name):
            change = f"{results[name] / before[name]:8.2f}x before"
        print(f"{name:38} {results[name]:14,.0f} ns{change}")
    if AGAINST_C in results:
        print(f"{AGAINST_C:48} {results[AGAINST_C]:10.2f}")
    for text, above, below in RATIOS:
        if above in results and below in results:
            print(f"{text:48} {results[above] / results[below]:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pin", choices=["same", "two", "free", "all"], default="free")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a twentieth of it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--compare", type=Path)
    options = parser.parse_args()
    program = build_c()
    hows = ["same", "two", "free"] if options.pin == "all" else [options.pin]
    results = {
        how: measure(how, options.rounds, options.quick, program) for how in hows
    }
    if program is not None:
        shutil.rmtree(Path(program).parent)
    if options.save:
        options.save.write_text(json.dumps(results, indent=1))
    if options.json:
        print(json.dumps(results, indent=1))
        return
    before = json.loads(options.compare.read_text()) if options.compare else {}
    for how, each in results.items():
        print(f"-- pinned: {how}")
        report(each, before.get(how, {}))


if __name__ == "__main__":
    main()
