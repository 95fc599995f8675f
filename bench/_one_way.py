"""Small messages one way: a channel between interpreters, one by one and in batches,
against `queue.SimpleQueue` between two threads and a pipe between processes.

The objects exist at the sender, and the receiver lets go of them as it goes on, or keeps
them all. Python keeps one of each small int; all others must be made at the receiver,
unless one that it had before can be used again. "ints made and freed" says what that
takes with no message at all.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable
from typing import Any

from _sides import Cpus, interpreter, per, pin, process, thread

from atoll import Channel

BATCH = 256
KINDS: dict[str, list[Any]] = {
    "small ints": list(range(BATCH)),
    "ints": list(range(1000, 1000 + BATCH)),
    "floats": [i + 0.5 for i in range(BATCH)],
    "str": [f"k{i:04}" for i in range(BATCH)],
    "bytes": [b"k%04d" % i for i in range(BATCH)],
    "8 bytes": [b"k%07d" % i for i in range(BATCH)],
    "64 bytes": [b"%064d" % i for i in range(BATCH)],
    "tuples": [(i, f"k{i:04}") for i in range(BATCH)],
    "dicts": [{"number": i, "name": "n"} for i in range(BATCH)],
}

# ---- receivers ------------------------------------------------------------------------


def drain(there: Any, done: Any, cpus: list[int] | None) -> None:
    """Receive one at a time until None; say so, and before it that it has begun."""
    pin(cpus)
    done.send(True)
    recv = there.recv
    while recv() is not None:
        pass
    done.send(True)


def drain_batches(there: Any, done: Any, cpus: list[int] | None) -> None:
    """The same, as many at once as there are."""
    pin(cpus)
    done.send(True)
    while there.recv_many(256)[-1] is not None:
        pass
    done.send(True)


def drain_kept(there: Any, done: Any, cpus: list[int] | None) -> None:
    """The same, keeping all."""
    pin(cpus)
    done.send(True)
    kept: list[Any] = []
    while (batch := there.recv_many(BATCH))[-1] is not None:
        kept += batch
    done.send(True)


def drain_queue(there: Any, done: Any, cpus: list[int] | None) -> None:
    pin(cpus)
    done.put(True)
    get = there.get
    while get() is not None:
        pass
    done.put(True)


def drain_queue_kept(there: Any, done: Any, cpus: list[int] | None) -> None:
    pin(cpus)
    done.put(True)
    get, kept = there.get, []
    while (value := get()) is not None:
        kept.append(value)
    done.put(True)


# ---- senders --------------------------------------------------------------------------


def stream(send: Any, wait: Any, objects: list[Any], count: int) -> float:
    """Nanoseconds for a message of `count`, until the other side has had the last."""
    wait()

    def run() -> None:
        for _ in range(0, count, len(objects)):
            for each in objects:
                send(each)
        send(None)
        wait()

    return per(count, run)


def channel_stream(objects: list[Any], count: int, cpus: Cpus) -> float:
    there, done = Channel(4096), Channel(1)
    with interpreter(drain, there, done, cpus[1]):
        pin(cpus[0])
        return stream(there.send, done.recv, objects, count)


def batch_stream(
    objects: list[Any], count: int, cpus: Cpus, receiver: Any = drain_batches
) -> float:
    there, done = Channel(4096), Channel(1)
    with interpreter(receiver, there, done, cpus[1]):
        pin(cpus[0])
        done.recv()

        def run() -> None:
            for _ in range(0, count, len(objects)):
                there.send_many(objects)
            there.send(None)
            done.recv()

        return per(count, run)


def queue_stream(
    objects: list[Any], count: int, cpus: Cpus, receiver: Any = drain_queue
) -> float:
    there: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with thread(receiver, there, done, cpus[1]):
        pin(cpus[0])
        return stream(there.put, done.get, objects, count)


def pipe_stream(objects: list[Any], count: int, cpus: Cpus) -> float:
    here, there = multiprocessing.Pipe()
    with process(drain, there, there, cpus[1]):
        pin(cpus[0])
        return stream(here.send, here.recv, objects, count)


def making(count: int) -> float:
    """What a receiver of ints cannot do without that makes and frees each."""

    def run() -> None:
        for first in range(1000, 1000 + count, BATCH):
            list(range(first, first + BATCH))

    return per(count, run)


# ---- all of it ------------------------------------------------------------------------


def steps(cpus: Cpus, scale: int) -> dict[str, Callable[[], Any]]:
    """What is measured, by name; `scale` divides the numbers of messages."""
    # It takes some thousand messages until both sides are under way.
    many = max(2000 // scale, 200) * BATCH
    some = max(200 // scale, 40) * BATCH
    found: dict[str, Callable[[], Any]] = {}
    for kind, objects in KINDS.items():
        found[f"one way, {kind}: channel, batches"] = lambda objects=objects: (
            batch_stream(objects, many, cpus)
        )
        found[f"one way, {kind}: SimpleQueue"] = lambda objects=objects: queue_stream(
            objects, many, cpus
        )
    ints = KINDS["ints"]
    found |= {
        "one way, ints kept: channel, batches": lambda: batch_stream(
            ints, many, cpus, drain_kept
        ),
        "one way, ints kept: SimpleQueue": lambda: queue_stream(
            ints, many, cpus, drain_queue_kept
        ),
        "one way, ints: channel, one by one": lambda: channel_stream(ints, many, cpus),
        "one way, ints: Pipe, processes": lambda: pipe_stream(ints, some, cpus),
        "one way, ints made and freed": lambda: making(many),
    }
    return found


def ratios() -> list[tuple[str, str, str]]:
    """What is said of it: a text, and the names of two of the steps. The goal is five
    times for what crosses as one word; whatever is larger has none."""
    goals = dict.fromkeys(["8 bytes", "64 bytes", "tuples", "dicts", "ints kept"], "")
    found = [
        (
            f"SimpleQueue / channel, batches, {kind}{goals.get(kind, ' (5)')}",
            f"one way, {kind}: SimpleQueue",
            f"one way, {kind}: channel, batches",
        )
        for kind in [*KINDS, "ints kept"]
    ]
    one_by_one = "one way, ints: channel, one by one"
    found.append(
        (
            "SimpleQueue / channel, ints, one by one",
            "one way, ints: SimpleQueue",
            one_by_one,
        )
    )
    return found
