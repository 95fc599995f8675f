"""Wrong uses of what is shared: each gets an error that names the thing and the way out."""

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest

import atoll
from atoll import (
    AtomicInt,
    Barrier,
    BoundedSemaphore,
    Broadcast,
    Channel,
    ClosedError,
    Condition,
    Empty,
    Event,
    Full,
    LaggedError,
    Lock,
    RLock,
    Semaphore,
    SharedArray,
    SharedBuffer,
    SharedDict,
    Struct,
    StructArray,
    open_shared,
    select,
    transfer,
)


class Point(Struct):
    x: float
    small: Annotated[int, "int8"]
    label: Annotated[bytes, 4]


def full() -> Channel:
    channel = Channel(1)
    channel.send(0)
    return channel


def closed() -> Channel:
    channel = Channel()
    channel.close()
    return channel


def with_full_subscription(send: Callable[[Broadcast], object]) -> None:
    broadcast = Broadcast(1)
    subscription = broadcast.subscribe()
    broadcast.send(0)
    send(broadcast)
    assert len(subscription) == 1


def lagging() -> Any:
    broadcast = Broadcast(1, slow="drop_oldest")
    subscription = broadcast.subscribe()
    broadcast.send_many(range(2))
    return subscription


def ended() -> Any:
    broadcast = Broadcast()
    subscription = broadcast.subscribe()
    broadcast.close()
    return subscription


def under_a_view(use: Callable[[SharedBuffer], object]) -> None:
    buffer = SharedBuffer(8)
    with memoryview(buffer):
        use(buffer)


def of_type(annotation: Any) -> type:
    return type("Wrong", (Struct,), {"__annotations__": {"a": annotation}})


A: Any = SharedArray((2, 3), "int32")

MISTAKES: dict[str, tuple[Callable[[], Any], type[BaseException], str]] = {
    # ---- channels and broadcasts ----
    "capacity-type": (
        lambda: Channel("5"),
        TypeError,
        "capacity must be an int, not str",
    ),
    "capacity-none": (lambda: Channel(None), TypeError, "capacity must be an int"),
    "capacity-float": (lambda: Channel(1.5), TypeError, "int, not float"),
    "capacity-zero": (lambda: Channel(0), ValueError, "capacity must be at least 1"),
    "capacity-huge": (
        lambda: Channel(2**40),
        OverflowError,
        "capacity must be at most",
    ),
    "capacity-beyond": (lambda: Channel(2**70), OverflowError, "capacity .* 64 bits"),
    "timeout-type": (
        lambda: Channel().recv("1"),
        TypeError,
        "timeout must be a number of seconds or None, not str",
    ),
    "timeout-nan": (lambda: Channel().recv(float("nan")), ValueError, "timeout .* nan"),
    "send-full": (lambda: full().send(1, 0), TimeoutError, "channel had no room"),
    "try-send-full": (lambda: full().try_send(1), Full, "channel is full: it holds 1"),
    "send-many-full": (
        lambda: full().send_many([1], timeout=0),
        TimeoutError,
        "channel had no room",
    ),
    "recv-empty": (lambda: Channel().recv(0), TimeoutError, "nothing came"),
    "try-recv-empty": (lambda: Channel().try_recv(), Empty, "nothing is there"),
    "recv-async": (
        lambda: asyncio.run(Channel().recv_async(0)),
        TimeoutError,
        "nothing came",
    ),
    "send-async": (
        lambda: asyncio.run(full().send_async(1, 0)),
        TimeoutError,
        "no room",
    ),
    "send-closed": (lambda: closed().send(1), ClosedError, "the channel is closed"),
    "recv-closed": (lambda: closed().recv(), ClosedError, "the channel is closed"),
    "limit-type": (lambda: Channel().recv_many("a"), TypeError, "limit must be an int"),
    "limit-zero": (
        lambda: Channel().recv_many(0),
        ValueError,
        "limit must be at least",
    ),
    "send-lock": (
        lambda: Channel().send([threading.Lock()]),
        atoll.NotShareableError,
        r"object\[0\], .*an atoll.Lock can be",
    ),
    "slow-name": (
        lambda: Broadcast(slow="x"),
        ValueError,
        "slow must be 'block', 'drop_oldest' or 'close', not 'x'",
    ),
    "slow-type": (lambda: Broadcast(slow=3), TypeError, "slow must be 'block'.* not 3"),
    "broadcast-capacity": (
        lambda: Broadcast("1"),
        TypeError,
        "capacity must be an int",
    ),
    "broadcast-huge": (
        lambda: Broadcast(2**40),
        OverflowError,
        "capacity must be at most",
    ),
    "broadcast-full": (
        lambda: with_full_subscription(lambda it: it.send(1, 0)),
        TimeoutError,
        "a subscription had no room",
    ),
    "broadcast-try-full": (
        lambda: with_full_subscription(lambda it: it.try_send(1)),
        Full,
        "subscription of the br",
    ),
    "lagged": (lambda: lagging().recv(), LaggedError, "1 object was missed"),
    "recv-ended": (lambda: ended().recv(), ClosedError, "broadcast, .* is closed"),
    "subscription": (
        lambda: atoll.Subscription(),
        TypeError,
        r"Broadcast\.subscribe\(\)",
    ),
    # ---- select ----
    "select-none": (
        lambda: select(),
        ValueError,
        r"select\(\) takes 1 to 256 .* not 0",
    ),
    "select-list": (lambda: select([Channel()]), TypeError, r"select\(\*channels\)"),
    "select-int": (lambda: select(1), TypeError, "Channel or a Subscription, not int"),
    "select-sender": (
        lambda: select(Broadcast()),
        TypeError,
        r"subscribe\(\) gives one",
    ),
    "select-late": (lambda: select(Channel(), timeout=0), TimeoutError, "nothing came"),
    "select-closed": (lambda: select(closed()), ClosedError, "every channel is closed"),
    # ---- locks and their kin ----
    "lock-name-type": (lambda: Lock(name=5), TypeError, "name must be a str or None"),
    "lock-name-null": (lambda: Lock(name="a\0b"), ValueError, "null character"),
    "lock-name-long": (
        lambda: Lock(name="a" * 300),
        ValueError,
        "name must have at most 180 bytes, not 300",
    ),
    "lock-open-type": (lambda: Lock.open(3), TypeError, "name must be a str, not int"),
    "lock-open": (
        lambda: Lock.open("nobody's"),
        FileNotFoundError,
        "no Lock is called",
    ),
    "lock-timeout": (
        lambda: Lock().acquire(timeout="x"),
        TypeError,
        "timeout must be a number of seconds",
    ),
    "lock-release": (lambda: Lock().release(), RuntimeError, "a lock that is not held"),
    "event-wait": (lambda: Event().wait("x"), TypeError, "timeout must be a number"),
    "semaphore-type": (lambda: Semaphore("1"), TypeError, "value must be an int"),
    "semaphore-n": (lambda: Semaphore().release("1"), TypeError, "n must be an int"),
    "barrier-type": (lambda: Barrier("2"), TypeError, "parties must be an int"),
    "barrier-many": (lambda: Barrier(70000), ValueError, "1 to 65535, not 70000"),
    "condition-lock": (
        lambda: Condition(threading.Lock()),
        TypeError,
        "needs an atoll.Lock or atoll.RLock, not _thread.lock",
    ),
    "condition-wait": (lambda: Condition().wait(), RuntimeError, "lock .* is not held"),
    "atomic-type": (
        lambda: AtomicInt("x"),
        TypeError,
        "an AtomicInt takes ints, not str",
    ),
    "atomic-range": (lambda: AtomicInt(2**63), OverflowError, "64 bits"),
    "atomic-wait": (
        lambda: AtomicInt().wait(0, 0),
        TimeoutError,
        "value did not change",
    ),
    # ---- shared memory ----
    "size-type": (
        lambda: SharedBuffer(b"abc"),
        TypeError,
        "size must be an int, not bytes",
    ),
    "size-zero": (lambda: SharedBuffer(0), ValueError, "size must be at least 1"),
    "size-huge": (lambda: SharedBuffer(2**62), MemoryError, "no room for 4611686"),
    "buffer-name": (
        lambda: SharedBuffer(1, name=b"x"),
        TypeError,
        "name must be a str",
    ),
    "looked-at": (
        lambda: under_a_view(transfer),
        BufferError,
        "let the view .* go first",
    ),
    "transfer": (lambda: transfer(3), TypeError, "send it as it is"),
    "open-type": (lambda: open_shared(3), TypeError, "name must be a str, not int"),
    "open-nothing": (
        lambda: open_shared("nobody's"),
        FileNotFoundError,
        "no shared buffer",
    ),
    "shape-type": (
        lambda: SharedArray("a", "u1"),
        TypeError,
        "shape must be an int or a",
    ),
    "shape-none": (
        lambda: SharedArray(None, "u1"),
        TypeError,
        "shape must be an int or a",
    ),
    "shape-item": (
        lambda: SharedArray(("a",), "u1"),
        TypeError,
        "item of shape must be an",
    ),
    "shape-negative": (
        lambda: SharedArray((-1,), "u1"),
        ValueError,
        "0 or more .* not -1",
    ),
    "shape-huge": (lambda: SharedArray(2**62, "i8"), ValueError, "more bytes than"),
    "item-type": (lambda: SharedArray(3, "O"), TypeError, "bool, int8 to int64"),
    "key-type": (lambda: SharedDict()[1.5], TypeError, "str, bytes or int, not float"),
    "dict-arguments": (
        lambda: SharedDict().compare_and_set("x", 1),
        TypeError,
        "takes 3 arguments",
    ),
    "interpreter-name": (
        lambda: atoll.Interpreter(name=3),
        TypeError,
        "name must be a str or None, not int",
    ),
    # ---- structs ----
    "field-str": (lambda: of_type(str), TypeError, r"Wrong.a: .*Annotated\[bytes"),
    "field-bytes": (lambda: of_type(bytes), TypeError, "does not say how many"),
    "field-list": (
        lambda: of_type(list),
        TypeError,
        "Wrong.a: list is no type of a fie",
    ),
    "field-shape": (
        lambda: of_type(Annotated[float, 0]),
        ValueError,
        "Wrong.a: 0 is no shape",
    ),
    "value-type": (lambda: Point(x="a"), TypeError, "Point.x takes no str"),
    "value-float": (lambda: Point(small=1.5), TypeError, "Point.small takes no float"),
    "value-range": (lambda: Point(small=200), OverflowError, "range of Point.small"),
    "value-text": (lambda: Point(label="a"), TypeError, "label takes bytes, not str"),
    "value-size": (lambda: Point(label=b"12345"), ValueError, "5 .* into the 4 of"),
    "field-unknown": (lambda: Point(y=1), TypeError, "Point has no field 'y'"),
    "field-delete": (lambda: delattr(Point(), "x"), AttributeError, "set, not deleted"),
    "count-type": (
        lambda: Point.array("2"),
        TypeError,
        "count must be an int, not str",
    ),
    "index-type": (
        lambda: Point.array(2)["a"],
        TypeError,
        "an int or a slice, not str",
    ),
    "no-struct": (
        lambda: StructArray(int, A),
        TypeError,
        "item must be a subclass of St",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_message_names_the_thing(mistake: str) -> None:
    use, error, words = MISTAKES[mistake]
    with pytest.raises(error, match=words):
        use()


NAMED: dict[str, Callable[[Any], Any]] = {
    "Lock": lambda name: Lock(name=name),
    "RLock": lambda name: RLock(name=name),
    "Condition": lambda name: Condition(name=name),
    "Event": lambda name: Event(name=name),
    "Semaphore": lambda name: Semaphore(name=name),
    "BoundedSemaphore": lambda name: BoundedSemaphore(name=name),
    "Barrier": lambda name: Barrier(2, name=name),
    "AtomicInt": lambda name: AtomicInt(name=name),
    "SharedBuffer": lambda name: SharedBuffer(8, name=name),
    "SharedArray": lambda name: SharedArray(2, "int8", name=name),
    "SharedDict": lambda name: SharedDict(name=name),
    "Struct": lambda name: Point.array(2, name=name),
}


@pytest.mark.parametrize("kind", NAMED)
def test_what_is_no_name(kind: str) -> None:
    """One rule for everything that other processes find: no other thing is made."""
    make = NAMED[kind]
    for name, words in {
        "": "name must not be empty",
        "a\0b": "null character",
        "lone \udc80": "name must be text that UTF-8 can hold",
        "a" * 181: "name must have at most 180 bytes, not 181",
        "é" * 91: "name must have at most 180 bytes, not 182",
    }.items():
        with pytest.raises(ValueError, match=words):
            make(name)
    with pytest.raises(TypeError, match="name must be a str"):
        make(b"bytes")
    assert make(None) is not None


@pytest.mark.parametrize(
    "use",
    [lambda: A[1], lambda: A[...], lambda: A.__setitem__(0, 5)],
    ids=["row", "ellipsis", "set-row"],
)
def test_an_index_that_a_memoryview_refuses(use: Callable[[], Any]) -> None:
    with pytest.raises((NotImplementedError, TypeError)) as caught:
        use()
    assert any("numpy.asarray()" in note for note in caught.value.__notes__)


def test_what_was_refused_is_as_it_was() -> None:
    channel = Channel(1)
    with pytest.raises(TypeError):
        channel.send(1, timeout="x")  # type: ignore[arg-type]
    assert len(channel) == 0
    buffer = SharedBuffer(8)
    view = memoryview(buffer)
    with pytest.raises(BufferError):
        buffer.release()
    view[0] = 7
    view.release()
    assert buffer[0] == 7
    point = Point(x=1.5)
    with pytest.raises(TypeError):
        point.small = 1.5  # type: ignore[assignment]
    assert (point.x, point.small) == (1.5, 0)
