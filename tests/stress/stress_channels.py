"""Four interpreters send, select and close at random; processes with shared memory die.

    python tests/stress/stress_channels.py [--seconds 600] [--seed N]

Each round makes channels of random capacity. Senders in two interpreters send numbered
objects of random kinds, one at a time or in batches; receivers in two others take them
by `recv`, `recv_many`, `select` and iteration; in some rounds the channels are closed
in mid-send. What a sender was told was accepted must be received, once and in order.
Beside it a process maps a shared buffer, writes to it, and is killed; the buffer must
be readable after that. Prints what was counted and ends with 1 where anything was lost,
doubled, out of order, hung or leaked.

Every third round is of a broadcast instead: two interpreters send, two more and a
thread receive, and a guest subscribes, reads a little and is closed with its
subscription in hand. Who is waited for must get everything, all in one order; who is
not must get or be told of everything; nobody waits for the guest. A shared dict counts
what was sent.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import os
import random
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from atoll import (
    Broadcast,
    Channel,
    ClosedError,
    Empty,
    Interpreter,
    LaggedError,
    SharedBuffer,
    SharedDict,
    Subscription,
)

HANG_SECONDS = 120.0
# Senders may both wait for room in a channel other than the one looked at.
LOOK_SECONDS = 0.002
LEAK_KIB = 64 * 1024


def payload(kind: int, number: int) -> Any:
    """Something of every way in which an object can cross."""
    kinds = (
        number,
        str(number),
        number / 7,
        None,
        b"x" * (number % 300),
        [number, "a"],
    )
    return kinds[kind % len(kinds)]


def send(name: int, seed: int, channels: list[Channel], count: int) -> list[int]:
    """Send up to `count` to each channel; how many each accepted."""
    chance = random.Random(seed)
    accepted = [0] * len(channels)
    is_open = [True] * len(channels)
    while any(is_open):
        place = chance.choice([i for i, each in enumerate(is_open) if each])
        first = accepted[place]
        batch = min(chance.choice((1, 1, 1, 5, 40)), count - first)
        if batch == 0:
            is_open[place] = False
            continue
        objects = (
            (name, number, payload(chance.randrange(6), number))
            for number in range(first, first + batch)
        )
        try:
            if chance.random() < 0.5:
                accepted[place] += channels[place].send_many(objects, HANG_SECONDS)
            else:
                for obj in objects:
                    channels[place].send(obj, timeout=HANG_SECONDS)
                    accepted[place] += 1
        except ClosedError as error:
            accepted[place] += getattr(error, "sent", 0)
            is_open[place] = False
    return accepted


def send_batches(
    name: int, seed: int, channels: list[Channel], count: int
) -> list[int]:
    """The same with send_many(), on channels that stay open."""
    chance = random.Random(seed)
    for channel in channels:
        first = 0
        while first < count:
            batch = min(chance.choice((1, 7, 300)), count - first)
            objects = ((name, first + i, payload(i, first + i)) for i in range(batch))
            first += channel.send_many(objects, timeout=HANG_SECONDS)
    return [count] * len(channels)


def receive(seed: int, channels: list[Channel]) -> list[list[tuple[int, int]]]:
    """Receive until all are closed and drained: (sender, number) for each channel."""
    from atoll import select

    chance = random.Random(seed)
    got: list[list[tuple[int, int]]] = [[] for _ in channels]
    is_open = [True] * len(channels)
    while any(is_open):
        place = chance.choice([i for i, each in enumerate(is_open) if each])
        channel = channels[place]
        how = chance.randrange(4)
        try:
            if how == 0:
                taken = [channel.recv(timeout=LOOK_SECONDS)]
            elif how == 1:
                taken = channel.recv_many(chance.choice((2, 50)), LOOK_SECONDS)
            elif how == 2:
                chosen, one = select(*channels, timeout=HANG_SECONDS)
                place, taken = channels.index(chosen), [one]
            elif len(channels) == 1:
                taken = [next(channel)]
            else:
                taken = [channel.try_recv()]
        except ClosedError:
            if how == 2:
                break
            is_open[place] = False
        except (Empty, TimeoutError):
            if how == 2:
                raise
        except StopIteration:
            is_open[place] = False
        else:
            got[place] += [(name, number) for name, number, _ in taken]
    return got


def scribble(buffer: SharedBuffer, ready: Any) -> None:
    """Write for ever to shared memory."""
    memory = memoryview(buffer)
    ready.set()
    while True:
        for i in range(len(memory)):
            memory[i] = (memory[i] + 1) & 0xFF


def kill_one() -> None:
    """A process that maps a shared buffer is killed while it writes."""
    context = multiprocessing.get_context("spawn")
    buffer = SharedBuffer(4096)
    ready = context.Event()
    process = context.Process(target=scribble, args=(buffer, ready), daemon=True)
    process.start()
    if not ready.wait(HANG_SECONDS):
        raise TimeoutError("the process did not begin")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(HANG_SECONDS)
    assert process.exitcode == -signal.SIGKILL
    assert len(bytes(buffer)) == 4096


def check(
    accepted: list[list[int]], received: list[list[list[tuple[int, int]]]]
) -> dict[str, int]:
    """Count what went wrong; `accepted` by sender and channel."""
    counts = {"messages": 0, "lost": 0, "doubled": 0, "disordered": 0}
    for place in range(len(accepted[0])):
        for name, of_sender in enumerate(accepted):
            lists = [
                [number for who, number in got[place] if who == name]
                for got in received
            ]
            every = sorted(number for each in lists for number in each)
            counts["messages"] += len(every)
            counts["lost"] += len(set(range(of_sender[place])) - set(every))
            counts["doubled"] += len(every) - len(set(every))
            counts["disordered"] += sum(each != sorted(each) for each in lists)
    return counts


def one_round(
    chance: random.Random, interpreters: list[Interpreter], pool: ThreadPoolExecutor
) -> dict[str, int]:
    channels = [
        Channel(chance.choice((1, 2, 16, 500)), keep_open=True)
        for _ in range(chance.randint(1, 4))
    ]
    count = chance.choice((10, 200, 1000))
    close_early = chance.random() < 0.4
    function = send if close_early or chance.random() < 0.5 else send_batches
    senders: list[Future[list[int]]] = [
        pool.submit(
            interpreters[name].call,
            function,
            name,
            chance.getrandbits(32),
            channels,
            count,
        )
        for name in range(2)
    ]
    receivers = [
        pool.submit(interpreters[2 + i].call, receive, chance.getrandbits(32), channels)
        for i in range(2)
    ]
    if close_early:
        for channel in channels:
            time.sleep(chance.random() * 0.01)
            channel.close()
    accepted = [sender.result(HANG_SECONDS * 2) for sender in senders]
    for channel in channels:
        channel.close()
    received = [receiver.result(HANG_SECONDS * 2) for receiver in receivers]
    return check(accepted, received)


def publish(
    name: int, seed: int, broadcast: Broadcast, count: int, table: SharedDict
) -> int:
    """Send up to `count`; how many were accepted."""
    chance = random.Random(seed)
    accepted = 0
    while accepted < count:
        batch = min(chance.choice((1, 1, 20)), count - accepted)
        objects = [
            (name, number, payload(chance.randrange(6), number))
            for number in range(accepted, accepted + batch)
        ]
        closed = False
        try:
            if batch == 1:
                broadcast.send(objects[0], timeout=HANG_SECONDS)
            else:
                broadcast.send_many(objects, timeout=HANG_SECONDS)
        except ClosedError as error:
            closed, batch = True, getattr(error, "sent", 0)
        accepted += batch
        table.change("sent", lambda sent, more=batch: sent + more, 0)  # type: ignore[misc]
        if closed:
            break
    return accepted


def follow(seed: int, subscription: Subscription) -> tuple[list[tuple[int, int]], int]:
    """Receive until the end: (sender, number) for each, and how many were missed."""
    from atoll import select

    chance = random.Random(seed)
    got: list[tuple[int, int]] = []
    missed = 0
    while True:
        how = chance.randrange(4)
        try:
            if how == 0:
                taken = [subscription.recv(timeout=HANG_SECONDS)]
            elif how == 1:
                taken = subscription.recv_many(chance.choice((2, 50)), HANG_SECONDS)
            elif how == 2:
                taken = [select(subscription, timeout=HANG_SECONDS)[1]]
            else:
                taken = [next(subscription)]
        except LaggedError as error:
            missed += error.missed
        except (ClosedError, StopIteration):
            return got, missed
        else:
            got += [(name, number) for name, number, _ in taken]


def visit(broadcast: Broadcast) -> None:
    """Subscribe, read a little, and stop reading; the subscription stays."""
    import builtins

    subscription = broadcast.subscribe()
    builtins.kept = (subscription, broadcast)  # type: ignore[attr-defined]
    for _ in range(3):
        try:
            subscription.recv(timeout=LOOK_SECONDS)
        except (TimeoutError, LaggedError):
            pass


def check_broadcast(
    slow: str,
    accepted: list[int],
    received: list[tuple[list[tuple[int, int]], int]],
) -> dict[str, int]:
    """Count what went wrong."""
    counts = {"broadcast": 0, "lost": 0, "doubled": 0, "disordered": 0}
    for got, missed in received:
        counts["broadcast"] += len(got)
        counts["doubled"] += len(got) - len(set(got))
        ended = slow == "close" and missed != 0  # got the beginning, and then no more
        if not ended:
            counts["lost"] += abs(sum(accepted) - len(got) - missed)
        for name in range(len(accepted)):
            numbers = [number for who, number in got if who == name]
            counts["disordered"] += numbers != sorted(numbers)
            if slow == "close":
                counts["lost"] += numbers != list(range(len(numbers)))
    if slow == "block":
        counts["disordered"] += any(got != received[0][0] for got, _ in received)
    return counts


def broadcast_round(
    chance: random.Random, interpreters: list[Interpreter], pool: ThreadPoolExecutor
) -> dict[str, int]:
    slow = chance.choice(("block", "drop_oldest", "close"))
    broadcast = Broadcast(chance.choice((1, 3, 100)), slow=slow)  # type: ignore[arg-type]
    table = SharedDict()
    count = chance.choice((10, 300))
    follower: Any = follow
    followers = [
        pool.submit(call, follower, chance.getrandbits(32), broadcast.subscribe())
        for call in (
            interpreters[2].call,
            interpreters[3].call,
            lambda function, *arguments: function(*arguments),
        )
    ]
    senders = [
        pool.submit(
            interpreters[name].call,
            publish,
            name,
            chance.getrandbits(32),
            broadcast,
            count,
            table,
        )
        for name in range(2)
    ]
    if chance.random() < 0.3:
        with Interpreter() as guest:
            try:
                guest.call(visit, broadcast)
            except ClosedError:
                pass
    if chance.random() < 0.3:
        broadcast.close()
    accepted = [sender.result(HANG_SECONDS * 2) for sender in senders]
    broadcast.close()
    received = [each.result(HANG_SECONDS * 2) for each in followers]
    counts = check_broadcast(slow, accepted, received)
    counts["lost"] += abs(table.get("sent", 0) - sum(accepted))
    return counts


def resident_kib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def descriptor_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    totals = {"rounds": 0, "killed": 0}
    until = time.monotonic() + options.seconds
    baseline: tuple[int, int] | None = None
    with ThreadPoolExecutor(8) as pool:
        interpreters = [Interpreter() for _ in range(4)]
        # At least one round of a broadcast, however slow the machine.
        while totals["rounds"] < 3 or time.monotonic() < until:
            faulthandler.dump_traceback_later(HANG_SECONDS * 3, exit=True)
            is_broadcast = totals["rounds"] % 3 == 2
            run = broadcast_round if is_broadcast else one_round
            for name, number in run(chance, interpreters, pool).items():
                totals[name] = totals.get(name, 0) + number
            totals["rounds"] += 1
            if totals["rounds"] % 20 == 1:
                kill_one()
                totals["killed"] += 1
            if totals["rounds"] % 10 == 0:
                place = chance.randrange(4)
                interpreters[place].close()
                interpreters[place] = Interpreter()
            if totals["rounds"] == 40:
                baseline = (resident_kib(), descriptor_count())
        if baseline is not None:
            totals["grown_kib"] = resident_kib() - baseline[0]
            totals["more_descriptors"] = descriptor_count() - baseline[1]
        for interpreter in interpreters:
            interpreter.close()
    faulthandler.cancel_dump_traceback_later()
    print(totals)
    bad = totals["lost"] + totals["doubled"] + totals["disordered"]
    leaked = (
        totals.get("grown_kib", 0) > LEAK_KIB or totals.get("more_descriptors", 0) > 8
    )
    return 1 if bad or leaked else 0


if __name__ == "__main__":
    sys.exit(main())
