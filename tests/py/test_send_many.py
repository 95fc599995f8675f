"""send_many(), of a channel and of a broadcast: batches, and what ends them early."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from atoll import (
    Broadcast,
    Channel,
    ClosedError,
    Empty,
    Event,
    Interpreter,
    LaggedError,
    NotShareableError,
    Subscription,
)

DEADLINE = 60.0
LOCKED = {"lock": threading.Lock()}


class Both:
    """A channel, or a broadcast with two subscriptions: ends to send to and to read."""

    def __init__(self, kind: str, capacity: int) -> None:
        self.sender: Any
        self.readers: list[Any]
        if kind == "channel":
            self.sender = Channel(capacity)
            self.readers = [self.sender]
        else:
            self.sender = Broadcast(capacity)
            self.readers = [self.sender.subscribe() for _ in range(2)]

    def drained(self) -> list[Any]:
        """What is there, which is the same for every reader."""
        lists: list[list[Any]] = []
        for reader in self.readers:
            got: list[Any] = []
            try:
                while True:
                    got += reader.recv_many(timeout=0)
            except (TimeoutError, ClosedError):
                lists.append(got)
        assert all(each == lists[0] for each in lists)
        return lists[0]


kinds = pytest.mark.parametrize("kind", ["channel", "broadcast"])


def in_thread(
    function: Callable[..., Any], *arguments: Any, **more: Any
) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *arguments, **more)
    pool.shutdown(wait=False)
    return future


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def raised(kind: type[BaseException], function: Callable[[], object]) -> int:
    """How many the exception says were sent."""
    with pytest.raises(kind) as caught:
        function()
    sent: int = caught.value.sent  # type: ignore[attr-defined]
    return sent


@kinds
def test_any_iterable(kind: str) -> None:
    both = Both(kind, 3000)
    for shape in (list, tuple, iter, lambda each: dict.fromkeys(each)):
        for count in (0, 1, 255, 256, 257, 512, 700):
            assert both.sender.send_many(shape(range(count))) == count
            assert both.drained() == list(range(count))
    mixed = [0, "a", (1, 2), None, b"x" * 1000, {"k": [1.5]}, 2**100] * 50
    assert both.sender.send_many(objects=mixed, timeout=None) == len(mixed)
    assert both.drained() == mixed
    with pytest.raises(TypeError):
        both.sender.send_many(3)
    with pytest.raises(TypeError):
        both.sender.send_many()
    with pytest.raises(TypeError):
        both.sender.send_many([], 1, 2)


@kinds
@pytest.mark.parametrize("timeout", [float("nan"), "1", [], 1j])
def test_a_wrong_timeout_sends_nothing(kind: str, timeout: Any) -> None:
    both = Both(kind, 4)
    for send, what in ((both.sender.send_many, [1]), (both.sender.send, 1)):
        with pytest.raises((TypeError, ValueError)):
            send(what, timeout=timeout)
    assert both.drained() == []


@kinds
@pytest.mark.parametrize("before", [0, 3, 255, 256, 300])
def test_what_stands_before_an_error_is_sent(kind: str, before: int) -> None:
    both = Both(kind, 1000)
    objects = [*range(before), LOCKED, 7]
    with pytest.raises(NotShareableError) as caught:
        both.sender.send_many(objects)
    assert f"objects[{before}]['lock']" in str(caught.value)
    assert caught.value.sent == before  # type: ignore[attr-defined]
    assert both.drained() == objects[:before]

    def breaks() -> Iterator[int]:
        yield from range(before)
        raise LookupError("in the middle")

    assert raised(LookupError, lambda: both.sender.send_many(breaks())) == before
    assert both.drained() == objects[:before]


def test_an_exception_that_takes_no_attributes_is_raised_all_the_same() -> None:
    class Bare(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    def breaks() -> Iterator[int]:
        yield 1
        raise Bare

    both = Both("broadcast", 8)
    with pytest.raises(Bare):
        both.sender.send_many(breaks())
    assert both.drained() == [1]


@kinds
@pytest.mark.parametrize("capacity", [1, 5, 300])
@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_timeout_says_how_many_were_sent(
    kind: str, capacity: int, timeout: float
) -> None:
    both = Both(kind, capacity)
    many = range(capacity + 400)
    sent = raised(TimeoutError, lambda: both.sender.send_many(many, timeout))
    assert sent == capacity
    assert both.drained() == list(range(capacity))


def test_a_block_reaches_all_or_none() -> None:
    broadcast = Broadcast(10)
    fast, slow = broadcast.subscribe(), broadcast.subscribe()
    assert raised(TimeoutError, lambda: broadcast.send_many(range(20), timeout=0)) == 10
    assert fast.recv_many() == list(range(10))
    # The fast one has room for all of it, and gets what the slow one does.
    assert [slow.recv() for _ in range(3)] == [0, 1, 2]
    assert raised(TimeoutError, lambda: broadcast.send_many("abcdef", timeout=0)) == 3
    assert fast.recv_many() == ["a", "b", "c"]
    assert slow.recv_many() == [*range(3, 10), "a", "b", "c"]


@kinds
def test_room_is_waited_for(kind: str) -> None:
    both = Both(kind, 3)
    sending = in_thread(both.sender.send_many, range(1000), DEADLINE)
    for reader in both.readers[1:]:
        in_thread(lambda reader=reader: [reader.recv(DEADLINE) for _ in range(1000)])
    got = [both.readers[0].recv(DEADLINE) for _ in range(1000)]
    assert got == list(range(1000))
    assert sending.result(DEADLINE) == 1000


@kinds
def test_a_close_says_how_many_were_sent(kind: str) -> None:
    both = Both(kind, 4)
    full = threading.Event()

    def sends() -> int:
        with pytest.raises(TimeoutError):
            both.sender.send_many([7] * 9, timeout=0)
        full.set()
        return raised(ClosedError, lambda: both.sender.send_many(range(9), DEADLINE))

    sending = in_thread(sends)
    assert full.wait(DEADLINE)
    assert [each.recv(DEADLINE) for each in both.readers] == [7] * len(both.readers)
    # It waits again when its first object has come.
    until(lambda: len(both.readers[0]) == 4)
    both.sender.close()
    assert sending.result(DEADLINE) == 1
    assert both.drained() == [7, 7, 7, 0]
    assert raised(ClosedError, lambda: both.sender.send_many([1, 2])) == 0
    assert both.sender.send_many([]) == 0


@kinds
def test_the_iterable_may_close_it(kind: str) -> None:
    both = Both(kind, 1000)

    def objects() -> Iterator[int]:
        yield from range(300)
        both.sender.close()
        yield 300

    # A batch is packed before any of it is sent: the second is not.
    assert raised(ClosedError, lambda: both.sender.send_many(objects())) == 256
    assert both.drained() == list(range(256))


def test_the_iterable_may_subscribe_and_send() -> None:
    broadcast = Broadcast(1000)
    first = broadcast.subscribe()
    late: list[Subscription] = []

    def objects() -> Iterator[int]:
        yield from range(256)
        late.append(broadcast.subscribe())
        broadcast.send("between")
        yield 256

    assert broadcast.send_many(objects()) == 257
    got: list[Any] = []
    while len(got) < 258:
        got += first.recv_many(timeout=DEADLINE)
    assert got == [*range(256), "between", 256]
    assert late[0].recv_many() == ["between", 256]


@kinds
def test_an_object_is_packed_once_and_in_order(kind: str) -> None:
    packed: list[int] = []

    class Noted:
        def __init__(self, number: int) -> None:
            self.number = number

        def __reduce__(self) -> Any:
            packed.append(self.number)
            return int, (self.number,)

    both = Both(kind, 10)
    sending = in_thread(both.sender.send_many, [Noted(n) for n in range(600)], DEADLINE)
    lists = [
        in_thread(lambda each=each: [each.recv(DEADLINE) for _ in range(600)])
        for each in both.readers
    ]
    assert sending.result(DEADLINE) == 600
    assert all(each.result(DEADLINE) == list(range(600)) for each in lists)
    assert packed == list(range(600))


def test_drop_oldest_never_waits() -> None:
    broadcast = Broadcast(8, slow="drop_oldest")
    slow = [broadcast.subscribe() for _ in range(40)]
    assert broadcast.send_many([(n,) for n in range(1000)], timeout=0) == 1000
    for subscription in slow:
        with pytest.raises(LaggedError) as caught:
            subscription.recv()
        assert caught.value.missed == 992
        assert subscription.recv_many() == [(n,) for n in range(992, 1000)]


def test_close_ends_the_slow_in_the_middle_of_a_batch() -> None:
    broadcast = Broadcast(8, slow="close")
    slow = broadcast.subscribe()
    waiting = broadcast.subscribe()
    got = in_thread(lambda: waiting.recv(DEADLINE))
    assert broadcast.send_many("abc") == 3
    assert got.result(DEADLINE) == "a"
    assert waiting.recv_many() == ["b", "c"]
    # The one has room for 8, the other for 5.
    assert broadcast.send_many(range(6)) == 6
    assert slow.closed and not waiting.closed
    assert slow.recv_many() == ["a", "b", "c", 0, 1, 2, 3, 4]
    with pytest.raises(LaggedError):
        slow.recv()
    with pytest.raises(ClosedError):
        slow.recv()
    assert waiting.recv_many() == list(range(6))
    assert broadcast.send_many(range(100)) == 100  # and nobody is left
    assert broadcast.subscribers == 0


def test_all_that_sleep_are_woken() -> None:
    broadcast = Broadcast(1000)
    subscriptions = [broadcast.subscribe() for _ in range(6)]
    begin = threading.Barrier(7)

    def receive(subscription: Subscription) -> list[int]:
        begin.wait(DEADLINE)
        return [subscription.recv(DEADLINE) for _ in range(200)]

    got = [in_thread(receive, each) for each in subscriptions]
    begin.wait(DEADLINE)
    assert broadcast.send_many(range(200)) == 200
    assert all(each.result(DEADLINE) == list(range(200)) for each in got)


def test_several_that_wait_on_one_subscription_share_a_batch() -> None:
    broadcast = Broadcast(1000)
    subscription = broadcast.subscribe()
    begin = threading.Barrier(5)

    def receive() -> int:
        begin.wait(DEADLINE)
        number: int = subscription.recv(DEADLINE)
        return number

    got = [in_thread(receive) for _ in range(4)]
    begin.wait(DEADLINE)
    broadcast.send_many(range(4))
    assert sorted(each.result(DEADLINE) for each in got) == [0, 1, 2, 3]
    with pytest.raises(Empty):
        subscription.try_recv()


@pytest.mark.parametrize("slow", ["block", "drop_oldest", "close"])
def test_many_senders_and_guests(slow: Any) -> None:
    """Batches of several threads, while subscriptions come, go and are closed."""
    broadcast = Broadcast(5, slow=slow)
    stays = [broadcast.subscribe() for _ in range(2)]
    each, senders = 1500, 3
    done = threading.Event()

    def follow(subscription: Subscription) -> tuple[list[tuple[int, int]], int]:
        got: list[tuple[int, int]] = []
        missed = 0
        while True:
            try:
                got += subscription.recv_many(7, timeout=DEADLINE)
            except LaggedError as error:
                missed += error.missed
            except ClosedError:
                return got, missed

    def visit() -> None:
        while not done.is_set():
            guest = broadcast.subscribe()
            try:
                guest.recv(timeout=0.001)
            except (TimeoutError, LaggedError, ClosedError):
                pass
            if slow != "close":
                guest.close()

    def send(name: int) -> int:
        sent = 0
        while sent < each:
            batch = [(name, n) for n in range(sent, min(sent + 97, each))]
            sent += broadcast.send_many(batch, timeout=DEADLINE)
        return sent

    followers = [in_thread(follow, subscription) for subscription in stays]
    visiting = in_thread(visit)
    sending = [in_thread(send, name) for name in range(senders)]
    assert [future.result(DEADLINE) for future in sending] == [each] * senders
    done.set()
    visiting.result(DEADLINE)
    broadcast.close()
    results = [follower.result(DEADLINE) for follower in followers]
    for got, missed in results:
        for name in range(senders):
            numbers = [number for who, number in got if who == name]
            assert numbers == sorted(set(numbers))
        if slow == "block":
            assert missed == 0 and got == results[0][0]
        if slow != "close" or missed == 0:
            assert len(got) + missed == each * senders


def send_there(sender: Any, count: int) -> int:
    sent: int = sender.send_many(((n, "x" * (n % 50)) for n in range(count)), 60)
    return sent


@kinds
def test_from_one_interpreter_to_another(kind: str) -> None:
    both = Both(kind, 16)

    def read(reader: Iterable[tuple[int, str]]) -> list[tuple[int, int]]:
        return [(number, len(text)) for number, text in reader]

    expected = [(n, n % 50) for n in range(2000)]
    with Interpreter() as one, Interpreter() as other:
        sending = in_thread(one.call, send_there, both.sender, 2000)
        reading = [in_thread(other.call, read, both.readers[0])]
        reading += [in_thread(read, reader) for reader in both.readers[1:]]
        assert sending.result(DEADLINE) == 2000
        both.sender.close()
        assert [each.result(DEADLINE) for each in reading] == [expected] * len(reading)


def test_a_closing_interpreter_says_how_many_it_sent() -> None:
    broadcast, told = Broadcast(4), Channel()
    subscription = broadcast.subscribe()
    begun = Event()

    def send(broadcast: Broadcast, told: Channel, begun: Event) -> None:
        import threading

        def run() -> None:
            begun.set()
            try:
                broadcast.send_many(range(10))
            except Exception as error:
                told.try_send((type(error).__name__, getattr(error, "sent", None)))

        threading.Thread(target=run).start()

    interpreter = Interpreter()
    interpreter.call(send, broadcast, told, begun)
    assert begun.wait(DEADLINE)
    until(lambda: len(subscription) == 4)
    interpreter.close()
    assert told.recv(DEADLINE) == ("ClosedError", 4)
    assert subscription.recv_many() == [0, 1, 2, 3]


@kinds
def test_a_signal_handler_that_raises_ends_the_wait(kind: str) -> None:
    both = Both(kind, 2)
    main = threading.main_thread().ident
    heard: list[bool] = []

    class Stop(Exception):
        pass

    def handler(*_: object) -> None:
        if not heard:
            heard.append(True)
            raise Stop

    def interrupt() -> None:
        until(lambda: len(both.readers[-1]) == 2)
        while not heard:
            signal.pthread_kill(main, signal.SIGUSR1)  # type: ignore[arg-type]
            time.sleep(0.01)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        sent = raised(Stop, lambda: both.sender.send_many(range(5)))
        thread.join(DEADLINE)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sent == 2 and both.drained() == [0, 1]
