"""Channels: sending, waiting, closing, select and event loops."""

from __future__ import annotations

import _thread
import asyncio
import copy
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import atoll
from atoll import Channel, ClosedError, Empty, Full, select

DEADLINE = 60.0


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """A future of `function(*args)` on a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *args)
    pool.shutdown(wait=False)
    return future


def test_objects_arrive_in_order() -> None:
    channel = Channel()
    sent = [None, 1, 2.5, "text", b"bytes", [1, [2]], {"a": (1, 2)}, {1, 2}]
    for obj in sent:
        channel.send(obj)
    assert len(channel) == len(sent)
    assert [channel.recv() for _ in sent] == sent
    assert len(channel) == 0
    assert channel  # an empty channel is not false


WORDS = [
    *(None, True, False, ...),
    *(0, 1, -1, 255, 2**30, -(2**30), 2**31, 2**60 - 1, -(2**60), 2**60, -(2**60) - 1),
    *(2**63, -(2**64), 10**40),
    *(0.0, -0.0, 1.0, -1.5, 0.1, 1e-76, 1e-77, 1e77, 1e78, -1e308, 5e-324),
    *(float("inf"), float("-inf"), float("nan")),
    *("", "a", "seven77", "eight888", "\xe9\xff", "\u20ac", "\0\0", "\U0001f3dd"),
    *(b"", b"a", b"\0" * 7, b"\xff" * 7, b"eight888"),
]


@pytest.mark.parametrize("obj", WORDS, ids=repr)
def test_small_objects_are_the_same_on_the_other_side(obj: object) -> None:
    channel = Channel()
    channel.send(obj)
    channel.try_send(obj)
    channel.send_many([obj, [obj]])
    received = [channel.recv(), channel.try_recv(), *channel.recv_many()]
    assert [type(got) for got in received] == [type(obj)] * 3 + [list]
    assert [repr(got) for got in received] == [repr(obj)] * 3 + [repr([obj])]


class Sly(int):
    """A subclass, which must not become its base."""


def test_subclasses_of_small_types_keep_their_type() -> None:
    channel = Channel()
    channel.send(Sly(3))
    received = channel.recv()
    assert type(received) is Sly
    assert received == 3


def unpack_if(allowed: bool) -> str:
    if not allowed:
        raise LookupError("not to be unpacked")
    return "unpacked"


class Guarded:
    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed

    def __reduce__(self) -> tuple[Callable[[bool], str], tuple[bool]]:
        return unpack_if, (self.allowed,)


def test_what_cannot_be_unpacked_takes_nothing_with_it() -> None:
    channel = Channel()
    channel.send_many([1, Guarded(True), Guarded(False), 2, Guarded(False), 3, 4])
    channel.close()
    assert channel.recv_many() == [1, "unpacked"]
    with pytest.raises(LookupError):
        channel.recv_many()
    assert channel.recv() == 2
    with pytest.raises(LookupError):
        select(channel, timeout=DEADLINE)
    assert channel.recv_many(1) == [3]
    assert next(channel) == 4
    with pytest.raises(ClosedError):
        channel.recv()


def test_received_is_a_copy() -> None:
    channel = Channel()
    original = [1, 2]
    channel.send(original)
    original.append(3)
    assert channel.recv() == [1, 2]


def test_try_and_timeouts() -> None:
    channel = Channel(1)
    with pytest.raises(Empty) as empty:
        channel.try_recv()
    assert isinstance(empty.value, queue.Empty)
    channel.try_send(1)
    with pytest.raises(Full) as full:
        channel.try_send(2)
    assert isinstance(full.value, queue.Full)
    with pytest.raises(TimeoutError):
        channel.send(2, timeout=0.01)
    assert channel.recv(timeout=0) == 1
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        channel.recv(timeout=0.05)
    assert time.monotonic() - before >= 0.05
    with pytest.raises(TimeoutError):
        channel.recv(-1)


@pytest.mark.parametrize("capacity", [0, -1])
def test_capacity_must_be_positive(capacity: int) -> None:
    with pytest.raises(ValueError):
        Channel(capacity)


def test_wrong_arguments() -> None:
    channel = Channel()
    with pytest.raises(TypeError):
        channel.send()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        channel.send(1, timout=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        channel.send(1, 2, timeout=1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        channel.recv("soon")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        channel.recv(float("nan"))
    with pytest.raises(TypeError):
        select(channel, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        select()
    with pytest.raises(ValueError):
        channel.recv_many(0)


def test_what_cannot_be_packed_is_not_sent() -> None:
    channel = Channel()
    with pytest.raises(TypeError):
        channel.send(_thread.allocate_lock())
    assert len(channel) == 0
    with pytest.raises(TypeError):
        channel.send_many([1, 2, _thread.allocate_lock(), 3])
    assert channel.recv_many() == [1, 2]


def test_close_delivers_what_was_accepted() -> None:
    channel = Channel(capacity=8)
    channel.send_many([1, 2, 3])
    channel.close()
    channel.close()
    assert channel.closed
    with pytest.raises(ClosedError):
        channel.send(4)
    with pytest.raises(ClosedError):
        channel.try_send(4)
    assert list(channel) == [1, 2, 3]
    with pytest.raises(ClosedError):
        channel.recv()
    with pytest.raises(ClosedError):
        channel.recv_many()


def test_leaving_the_block_closes() -> None:
    with Channel() as channel:
        channel.send(1)
    assert channel.closed
    assert list(channel) == [1]


def test_many() -> None:
    channel = Channel(capacity=1000)
    assert channel.send_many(range(700)) == 700
    assert channel.recv_many(10) == list(range(10))
    received = channel.recv_many(1000)
    assert received == list(range(10, 10 + len(received)))
    while len(received) < 690:
        received += channel.recv_many()
    assert received == list(range(10, 700))
    with pytest.raises(TimeoutError):
        channel.recv_many(timeout=0.01)


class Shortens:
    """Empties the list that it stands in when it is packed."""

    def __init__(self, inside: list[object]) -> None:
        self.inside = inside

    def __reduce__(self) -> tuple[type, tuple[()]]:
        self.inside.clear()
        return (int, ())


class Stops:
    def __reduce__(self) -> str:
        raise StopIteration


def test_a_batch_of_words_and_messages():
    """Small objects cross in place of a pointer: in runs, and between others."""
    small = [0, 255, 256, -1, -5, -6, 2**60 - 1, -(2**60), 2**60, 2**200, None, True]
    small += [False, ..., 0.0, -0.0, 1.5, 1e300, "", "short", b"", b"seven b", "ünï"]
    large = [(1, 2), "longer than a word", [], {"a": 1}]
    for step in range(1, 9):
        objects: list[Any] = []
        for i in range(300):
            source = large if i % step == 0 else small
            objects.append(source[i % len(source)])
        for shape in (list, tuple, iter):
            channel = atoll.Channel(1000)
            assert channel.send_many(shape(objects)) == 300
            received = channel.recv_many(256)
            while len(received) < 300:
                received += channel.recv_many(256)
            assert repr(received) == repr(objects)


def test_send_many_of_every_kind() -> None:
    channel = Channel(2000)
    for objects in ([1, 2], (3, 4), range(5, 7), iter([7, 8]), {9: 0, 10: 0}):
        assert channel.send_many(objects) == 2
    assert channel.recv_many() == list(range(1, 11))
    for count in (0, 256, 512, 513):
        for kind in (list, tuple, iter):
            assert channel.send_many(kind(range(count))) == count
            received: list[int] = []
            while len(received) < count:
                received += channel.recv_many()
            assert received == list(range(count))
    with pytest.raises(TypeError):
        channel.send_many(1)  # type: ignore[arg-type]


def test_send_many_of_a_list_that_changes_meanwhile() -> None:
    channel = Channel()
    objects: list[object] = [1, 2]
    objects += [Shortens(objects), 3, 4]
    assert channel.send_many(objects) == 3
    assert channel.recv_many() == [1, 2, 0]
    for kind in (list, iter):  # an error of packing is not the end of the iteration
        with pytest.raises(StopIteration):
            channel.send_many(kind([1, Stops(), 2]))
        assert channel.recv_many() == [1]


@pytest.mark.parametrize("timeout", [float("nan"), "1", [], 1j])
def test_a_wrong_timeout_is_told_without_waiting(timeout: Any) -> None:
    channel = Channel()
    for action in (channel.send, channel.send_many):
        with pytest.raises((TypeError, ValueError)):
            action([], timeout=timeout)
    assert len(channel) == 0
    channel.send(1)
    for receive in (channel.recv, channel.recv_many):
        with pytest.raises((TypeError, ValueError)):
            receive(timeout=timeout)
    with pytest.raises((TypeError, ValueError)):
        select(channel, timeout=timeout)
    assert channel.recv(timeout=float("inf")) == 1
    for past in (0, -1, -0.5, float("-inf"), False):
        with pytest.raises(TimeoutError):
            channel.recv(timeout=past)


def test_send_many_waits_for_room() -> None:
    channel = Channel(capacity=3)
    sending = in_thread(channel.send_many, range(1000))
    assert [channel.recv(timeout=DEADLINE) for _ in range(1000)] == list(range(1000))
    assert sending.result(DEADLINE) == 1000


def test_receiver_waits() -> None:
    channel = Channel()
    receiving = in_thread(channel.recv, DEADLINE)
    channel.send("there")
    assert receiving.result(DEADLINE) == "there"


def test_close_wakes_waiters() -> None:
    empty, full = Channel(), Channel(1)
    full.send(0)
    waiting = [
        in_thread(empty.recv, DEADLINE),
        in_thread(full.send, 1, DEADLINE),
        in_thread(list, empty),
        in_thread(select, empty, empty),
    ]
    empty.close()
    full.close()
    for future in waiting[:2] + waiting[3:]:
        with pytest.raises(ClosedError):
            future.result(DEADLINE)
    assert waiting[2].result(DEADLINE) == []
    assert full.recv() == 0


def test_producers_and_consumers() -> None:
    channel = Channel(capacity=16)
    count = 2000

    def produce(name: int) -> None:
        for i in range(count):
            channel.send((name, i), timeout=DEADLINE)

    producers = [in_thread(produce, name) for name in range(3)]
    consumers = [in_thread(list, channel) for _ in range(3)]
    for producer in producers:
        producer.result(DEADLINE)
    channel.close()
    received = [consumer.result(DEADLINE) for consumer in consumers]
    for got in received:
        for name in range(3):
            of_one = [i for producer, i in got if producer == name]
            assert of_one == sorted(of_one)
    everything = sorted(item for got in received for item in got)
    assert everything == [(name, i) for name in range(3) for i in range(count)]


def test_channel_through_a_channel() -> None:
    outer, inner = Channel(), Channel()
    outer.send(inner)
    received = outer.recv()
    assert received == inner and received is not inner
    assert hash(received) == hash(inner)
    assert received != outer
    received.send("through")
    assert inner.recv() == "through"


class Woken(Exception):
    """Raised by the signal handler below."""


@pytest.mark.parametrize(
    "how", ["recv", "recv_many", "send", "send_many", "select", "next"]
)
def test_a_signal_ends_the_wait(how: str) -> None:
    empty, full = Channel(), Channel(1)
    full.send(0)
    waits = {
        "recv": empty.recv,
        "recv_many": empty.recv_many,
        "send": lambda: full.send(1),
        "send_many": lambda: full.send_many([1, 2]),
        "select": lambda: select(empty),
        "next": lambda: next(empty),
    }
    begun = threading.Event()
    woken = False  # no Event: its lock may be held when the next signal's handler runs

    def handler(number: int, frame: object) -> None:
        nonlocal woken
        if not woken:
            woken = True
            raise Woken

    def poke() -> None:
        begun.wait(DEADLINE)
        while not woken:
            time.sleep(0.01)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        poking = in_thread(poke)
        with pytest.raises(Woken):
            begun.set()
            waits[how]()
        poking.result(DEADLINE)
    finally:
        signal.signal(signal.SIGUSR1, before)


# The timer ends at any moment: before the wait, while it spins, as it falls asleep.
INTERRUPTED = """
import random, signal, time
from atoll import AtomicInt, Channel, Lock

class Enough(Exception):
    pass

def handler(number, frame):
    raise Enough

signal.signal(signal.SIGALRM, handler)
choose = random.Random(2)
lock = Lock()
lock.acquire()
waits = [Channel().recv, AtomicInt().wait, lock.acquire]
arguments = [(), (0,), ()]
begin = time.monotonic()
for number in range(1500):
    try:
        signal.setitimer(signal.ITIMER_REAL, choose.uniform(1e-6, 4e-5))
        waits[number % 3](*arguments[number % 3], timeout={deadline})
    except Enough:
        pass
    else:
        raise SystemExit("the signal was slept over")
"""


def test_no_signal_is_slept_over() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(deadline=DEADLINE)],
        capture_output=True,
        text=True,
        timeout=DEADLINE * 4,
    )
    assert done.returncode == 0, done.stderr


def test_a_handler_that_returns_lets_the_wait_go_on() -> None:
    channel = Channel()
    handled: list[int] = []  # no Event, as above
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    try:

        def poke() -> None:
            while not handled:
                time.sleep(0.01)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            channel.send("still there")

        poking = in_thread(poke)
        assert channel.recv(timeout=DEADLINE) == "still there"
        poking.result(DEADLINE)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_select() -> None:
    first, second, third = Channel(), Channel(), Channel()
    with pytest.raises(TimeoutError):
        select(first, second, third, timeout=0)
    with pytest.raises(TimeoutError):
        select(first, second, timeout=0.01)
    second.send("second")
    assert select(first, second, third) == (second, "second")
    waiting = in_thread(lambda: select(first, second, third, timeout=DEADLINE))
    third.send("third")
    channel, value = waiting.result(DEADLINE)
    assert channel is third and value == "third"
    first.close()
    second.send("left")
    second.close()
    assert select(first, second) == (second, "left")
    with pytest.raises(ClosedError):
        select(first, second)


def test_select_starves_nobody() -> None:
    busy, quiet = Channel(10_000), Channel()
    busy.send_many(range(5000))
    quiet.send("heard")
    chosen = [select(busy, quiet)[0] is quiet for _ in range(5000)]
    assert any(chosen)


# ---- event loops -----------------------------------------------------------------


def test_async_send_and_receive() -> None:
    async def main() -> list[int]:
        channel = Channel(capacity=2)

        async def produce() -> None:
            for i in range(500):
                await channel.send_async(i, timeout=DEADLINE)
            channel.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            return [value async for value in channel]

    assert asyncio.run(main()) == list(range(500))


def test_async_across_threads() -> None:
    there, back = Channel(4), Channel(4)

    async def echo() -> None:
        async for value in there:
            await back.send_async(value)
        back.close()

    echoing = in_thread(asyncio.run, echo())
    sending = in_thread(there.send_many, range(2000))
    assert [back.recv(timeout=DEADLINE) for _ in range(2000)] == list(range(2000))
    assert sending.result(DEADLINE) == 2000
    there.close()
    assert list(back) == []
    echoing.result(DEADLINE)


def test_async_timeout_and_cancel_lose_nothing() -> None:
    async def main() -> None:
        channel = Channel()
        with pytest.raises(TimeoutError):
            await channel.recv_async(timeout=0.01)
        first = asyncio.create_task(channel.recv_async())
        second = asyncio.create_task(channel.recv_async())
        await asyncio.sleep(0)
        # The send tells the first, which is cancelled before it can look.
        channel.send("for the second")
        first.cancel()
        assert await asyncio.wait_for(second, DEADLINE) == "for the second"
        assert first.cancelled()

    asyncio.run(main())


def test_async_waiters_leave_the_loop_alone_when_done() -> None:
    async def main() -> None:
        channel = Channel()
        task = asyncio.create_task(channel.recv_async())
        await asyncio.sleep(0)
        channel.send(1)
        assert await task == 1
        loop = asyncio.get_running_loop()
        selector = loop._selector  # type: ignore[attr-defined]
        assert len(selector.get_map()) == 1  # the loop's own pipe

    asyncio.run(main())


def test_public_names() -> None:
    assert {"Channel", "select"} <= set(atoll.__all__)


@pytest.mark.parametrize(
    "make", [Channel, atoll.Broadcast, lambda: atoll.Broadcast().subscribe()]
)
def test_one_stays_in_its_process(make: Callable[[], Any]) -> None:
    given = make()
    for action in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="belongs to this process, whose"):
            action(given)
    other = Channel()
    other.send(given)
    assert other.recv() == given
