"""Channels against their peers, in one run on one machine.

Round trips between two interpreters against the same spin-then-park in plain C and
against the standard library's interpreter queue; one-way small messages against
`queue.SimpleQueue` between two threads; a 64 MB buffer against 64 bytes.

    python bench/channel.py [--pin same|two|free] [--json] [--save F | --compare F]
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from atoll import Channel, Interpreter, SharedBuffer

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5


def pin(cpus: list[int] | None) -> None:
    """Keep the calling thread on `cpus`."""
    if cpus:
        os.sched_setaffinity(0, cpus)


def echo(there: Channel, back: Channel, cpus: list[int] | None) -> None:
    """Send back whatever comes."""
    pin(cpus)
    for value in there:
        back.send(value)


def drain(channel: Channel, done: Channel, cpus: list[int] | None) -> None:
    """Receive until closed, in batches, and say how many there were."""
    pin(cpus)
    count = 0
    while True:
        got = channel.recv_many(256)
        count += len(got)
        if got[-1] is None:
            break
    done.send(count)


def c_round_trip(rounds: int, cpus: list[list[int] | None]) -> float:
    """Nanoseconds for a round trip in plain C."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/pingpong"
        sources = ["bench/c/pingpong.c", "src/sys/park.c", "src/sys/clock.c"]
        subprocess.run(
            [
                "cc",
                "-O3",
                "-D_GNU_SOURCE",
                "-Isrc",
                "-pthread",
                "-o",
                program,
                *sources,
            ],
            check=True,
            cwd=ROOT,
        )
        arguments = [str(each[0]) for each in cpus if each]
        times = []
        for _ in range(REPEATS):
            command = [program, str(rounds), *arguments]
            times.append(float(subprocess.check_output(command)))
        return statistics.median(times)


def round_trip(rounds: int, cpus: list[list[int] | None], payload: object) -> float:
    """Nanoseconds for a round trip of `payload` between two interpreters."""
    there, back = Channel(16), Channel(16)
    with Interpreter() as interpreter:
        thread = threading.Thread(
            target=interpreter.call, args=(echo, there, back, cpus[1])
        )
        thread.start()
        pin(cpus[0])
        times = []
        for _ in range(REPEATS):
            begin = time.perf_counter_ns()
            for _ in range(rounds):
                there.send(payload)
                back.recv()
            times.append((time.perf_counter_ns() - begin) / rounds)
        there.close()
        thread.join()
    return statistics.median(times)


def one_way(count: int, cpus: list[list[int] | None], batch: int = 1) -> float:
    """Nanoseconds for a small message, one way, between two interpreters.

    Args:
        count: How many messages.
        cpus: Where the two sides run.
        batch: Above 1, so many with each `send_many`.
    """
    with Interpreter() as interpreter:
        times = []
        for _ in range(REPEATS):
            channel, done = Channel(4096), Channel(1)
            thread = threading.Thread(
                target=interpreter.call, args=(drain, channel, done, cpus[1])
            )
            thread.start()
            pin(cpus[0])
            begin = time.perf_counter_ns()
            send = channel.send
            if batch == 1:
                for i in range(count):
                    send(i)
            else:
                for first in range(0, count, batch):
                    channel.send_many(range(first, min(first + batch, count)))
            send(None)
            done.recv()
            times.append((time.perf_counter_ns() - begin) / count)
            thread.join()
    return statistics.median(times)


def simple_queue(count: int, cpus: list[list[int] | None]) -> float:
    """The same through `queue.SimpleQueue` between two threads."""
    times = []
    for _ in range(REPEATS):
        there: queue.SimpleQueue[object] = queue.SimpleQueue()

        def consume(there: queue.SimpleQueue[object] = there) -> None:
            pin(cpus[1])
            while there.get() is not None:
                pass

        thread = threading.Thread(target=consume)
        thread.start()
        pin(cpus[0])
        begin = time.perf_counter_ns()
        for i in range(count):
            there.put(i)
        there.put(None)
        thread.join()
        times.append((time.perf_counter_ns() - begin) / count)
    return statistics.median(times)


def standard_queue(rounds: int) -> float | None:
    """A round trip through `concurrent.interpreters.Queue`, or what it was on 3.13."""
    shared: dict[str, object] = {}
    try:
        from concurrent import interpreters  # type: ignore[attr-defined]
        from concurrent.interpreters import (  # type: ignore[import-not-found]
            create_queue,
        )

        home = "concurrent.interpreters"
    except ImportError:
        try:
            from test.support import interpreters  # type: ignore[no-redef]
            from test.support.interpreters.queues import create as create_queue
        except ImportError:
            return None
        home, shared = "test.support.interpreters.queues", {"syncobj": True}
    there, back = create_queue(**shared), create_queue(**shared)
    interpreter = interpreters.create()
    keyword = ", syncobj=True" if shared else ""
    code = (
        f"from {home} import Queue\n"
        f"there, back = Queue({there.id}), Queue({back.id})\n"
        f"while (value := there.get()) is not None:\n    back.put(value{keyword})"
    )
    thread = threading.Thread(target=interpreter.exec, args=(code,))
    thread.start()
    begin = time.perf_counter_ns()
    for i in range(rounds):
        there.put(i, **shared)
        back.get()
    taken = (time.perf_counter_ns() - begin) / rounds
    there.put(None, **shared)
    thread.join()
    return taken


def measure(how: str) -> dict[str, float | None]:
    """All of it, nanoseconds each."""
    allowed = sorted(os.sched_getaffinity(0))
    cpus: list[list[int] | None] = [None, None]
    if how == "same":
        cpus = [[allowed[0]], [allowed[0]]]
    elif how == "two":
        cpus = [[allowed[0]], [allowed[-1]]]
    results: dict[str, float | None] = {}
    steps: dict[str, Callable[[], float | None]] = {
        "round trip, plain C": lambda: c_round_trip(20_000, cpus),
        "round trip, channel": lambda: round_trip(5_000, cpus, 1),
        "round trip, 64 bytes": lambda: round_trip(3_000, cpus, SharedBuffer(64)),
        "round trip, 64 MB": lambda: round_trip(3_000, cpus, SharedBuffer(64 << 20)),
        "round trip, interpreters.Queue": lambda: standard_queue(100),
        "one way, channel": lambda: one_way(100_000, cpus),
        "one way, channel, batches of 256": lambda: one_way(100_000, cpus, 256),
        "one way, SimpleQueue of threads": lambda: simple_queue(100_000, cpus),
    }
    for name, step in steps.items():
        results[name] = step()
        pin(allowed)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pin", choices=["same", "two", "free"], default="free")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--compare", type=Path)
    options = parser.parse_args()
    results = measure(options.pin)
    if options.save:
        options.save.write_text(json.dumps(results, indent=1))
    if options.json:
        print(json.dumps(results, indent=1))
        return
    before = json.loads(options.compare.read_text()) if options.compare else {}
    for name, taken in results.items():
        if taken is None:
            print(f"{name:34} not in this Python")
            continue
        change = f"{taken / before[name]:8.2f}x before" if before.get(name) else ""
        print(f"{name:34} {taken:12,.0f} ns{change}")

    def ratio(text: str, above: str, below: str) -> None:
        first, second = results[above], results[below]
        if first and second:
            print(f"{text:48} {first / second:10.2f}")

    ratio(
        "channel / plain C (at most 1.5)", "round trip, channel", "round trip, plain C"
    )
    ratio("64 MB / 64 bytes (under 2)", "round trip, 64 MB", "round trip, 64 bytes")
    ratio(
        "interpreters.Queue / channel (1,000)",
        "round trip, interpreters.Queue",
        "round trip, channel",
    )
    ratio(
        "SimpleQueue / channel, one way (5)",
        "one way, SimpleQueue of threads",
        "one way, channel",
    )
    ratio(
        "SimpleQueue / channel, one way, batches (5)",
        "one way, SimpleQueue of threads",
        "one way, channel, batches of 256",
    )


if __name__ == "__main__":
    main()
