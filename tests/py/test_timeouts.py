"""One rule for every `timeout=`: a table of all that wait, against a table of values.

None, infinity and centuries wait for ever, whatever type says them; 0 and what is less
do not wait; what is no number is refused, before anything happens. Where the standard
library has another rule for negative numbers, its replacement here has that one.
"""

import asyncio
import math
import queue
import threading
from decimal import Decimal
from fractions import Fraction

import pytest

import atoll
import atoll.futures
from atoll import interpreters, pep554

DEADLINE = 60
FOR_EVER = [None, math.inf, 1e300, 2**63, 10**400, 10**9]
AT_ONCE = [0, 0.0, False, 1e-9, Decimal(0), Fraction(0)]
NEGATIVE = [-0.5, -2, -math.inf, -(10**400)]
NO_NUMBERS = [
    (math.nan, ValueError),
    ("1", TypeError),
    ([], TypeError),
    (1j, TypeError),
]

# name -> a function that makes (wait, satisfy, what it gives then, what when it is late)
ROWS = {}
MINUS_ONE_IS_FOR_EVER = {"Lock.acquire", "RLock.acquire"}
NEGATIVE_IS_REFUSED = {"Queue.get", "Queue.put"}


def row(name):
    def add(make):
        ROWS[name] = make
        return make

    return add


# ---- channels ------------------------------------------------------------------------


@row("Channel.recv")
def _():
    channel = atoll.Channel(1)
    return channel.recv, lambda: channel.send("x"), "x", TimeoutError


@row("Channel.recv_many")
def _():
    channel = atoll.Channel(1)
    return (
        lambda t: channel.recv_many(5, timeout=t),
        lambda: channel.send("x"),
        ["x"],
        TimeoutError,
    )


@row("Channel.send")
def _():
    channel = atoll.Channel(1)
    channel.send(1)
    return lambda t: channel.send(2, t), channel.recv, None, TimeoutError


@row("Channel.send_many")
def _():
    channel = atoll.Channel(1)
    channel.send(1)
    return lambda t: channel.send_many([2], t), channel.recv, 1, TimeoutError


@row("Channel.recv_async")
def _():
    channel = atoll.Channel(1)

    async def wait(timeout):
        return await channel.recv_async(timeout)

    return (
        lambda t: asyncio.run(wait(t)),
        lambda: channel.send("x"),
        "x",
        TimeoutError,
    )


@row("Channel.send_async")
def _():
    channel = atoll.Channel(1)
    channel.send(1)

    async def wait(timeout):
        return await channel.send_async(2, timeout)

    return lambda t: asyncio.run(wait(t)), channel.recv, None, TimeoutError


@row("select")
def _():
    channel = atoll.Channel(1)
    return (
        lambda t: atoll.select(channel, timeout=t)[1],
        lambda: channel.send("x"),
        "x",
        TimeoutError,
    )


@row("Broadcast.send")
def _():
    broadcast = atoll.Broadcast(1)
    subscription = broadcast.subscribe()
    broadcast.send(1)
    return lambda t: broadcast.send(2, t), subscription.recv, 1, TimeoutError


@row("Broadcast.send_many")
def _():
    broadcast = atoll.Broadcast(1)
    subscription = broadcast.subscribe()
    broadcast.send(1)
    return lambda t: broadcast.send_many([2], t), subscription.recv, 1, TimeoutError


@row("Subscription.recv")
def _():
    broadcast = atoll.Broadcast(4)
    subscription = broadcast.subscribe()
    return subscription.recv, lambda: broadcast.send("x"), "x", TimeoutError


@row("Subscription.recv_many")
def _():
    broadcast = atoll.Broadcast(4)
    subscription = broadcast.subscribe()
    return (
        lambda t: subscription.recv_many(5, t),
        lambda: broadcast.send("x"),
        ["x"],
        TimeoutError,
    )


@row("pep554.recv")
def _():
    receiver, sender = pep554.create_channel()
    return receiver.recv, lambda: sender.send_nowait("x"), "x", TimeoutError


@row("pep554.send")
def _():
    receiver, sender = pep554.create_channel()
    return lambda t: sender.send("x", t), receiver.recv, None, TimeoutError


@row("Queue.get")
def _():
    items = interpreters.create_queue()
    return (
        lambda t: items.get(timeout=t),
        lambda: items.put("x"),
        "x",
        interpreters.QueueEmpty,
    )


@row("Queue.put")
def _():
    items = interpreters.create_queue(1)
    items.put(1)
    return (
        lambda t: items.put(2, timeout=t),
        items.get,
        None,
        interpreters.QueueFull,
    )


# ---- locks ---------------------------------------------------------------------------


def held(lock):
    """The lock, which another thread holds, and how it lets go."""
    taken, go = threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            go.wait(DEADLINE)

    threading.Thread(target=hold, daemon=True).start()
    assert taken.wait(DEADLINE)
    return lambda t: lock.acquire(timeout=t), go.set, True, False


@row("Lock.acquire")
def _():
    return held(atoll.Lock())


@row("RLock.acquire")
def _():
    return held(atoll.RLock())


@row("Semaphore.acquire")
def _():
    return held(atoll.Semaphore(1))


@row("Event.wait")
def _():
    event = atoll.Event()
    return event.wait, event.set, True, False


@row("Condition.wait_for")
def _():
    condition, told = atoll.Condition(), []

    def wait(timeout):
        with condition:
            return condition.wait_for(lambda: bool(told), timeout)

    def tell():
        with condition:
            told.append(True)
            condition.notify_all()

    return wait, tell, True, False


@row("Condition.wait")
def _():
    condition, told = atoll.Condition(), []

    def wait(timeout):
        with condition:
            return bool(told) or condition.wait(timeout)

    def tell():
        with condition:
            told.append(True)
            condition.notify_all()

    return wait, tell, True, False


@row("Barrier.wait")
def _():
    barrier = atoll.Barrier(2)
    return (
        lambda t: barrier.wait(t) in (0, 1),
        lambda: barrier.wait(DEADLINE),
        True,
        atoll.BrokenBarrierError,
    )


@row("AtomicInt.wait")
def _():
    number = atoll.AtomicInt(0)

    def tell():
        number.store(1)
        number.notify_all()

    return lambda t: number.wait(0, t), tell, 1, TimeoutError


# ---- pools ---------------------------------------------------------------------------


POOLS = []


@pytest.fixture(scope="module", autouse=True)
def pool():
    with atoll.Pool(2, model="threads") as made:
        POOLS.append(made)
        yield made
        POOLS.clear()


def gated():
    gate = queue.SimpleQueue()
    return gate.get, lambda: gate.put("x")


@row("PoolFuture.result")
def _():
    task, go = gated()
    return POOLS[0].submit(task).result, go, "x", TimeoutError


@row("PoolFuture.exception")
def _():
    task, go = gated()
    return POOLS[0].submit(task).exception, go, None, TimeoutError


@row("Pool.map")
def _():
    task, go = gated()
    return (
        lambda t: list(POOLS[0].map(lambda _: task(), [0], timeout=t)),
        go,
        ["x"],
        TimeoutError,
    )


@row("Pool.imap_unordered")
def _():
    task, go = gated()
    return (
        lambda t: list(POOLS[0].imap_unordered(lambda _: task(), [0], timeout=t)),
        go,
        ["x"],
        TimeoutError,
    )


@row("Pool.submit_with timeout")
def _():
    task, go = gated()
    return (
        lambda t: POOLS[0].submit_with(task, timeout=t).result(DEADLINE),
        go,
        "x",
        TimeoutError,
    )


@row("Pool.submit_with deadline")
def _():
    task, go = gated()
    return (
        lambda t: POOLS[0].submit_with(task, deadline=t).result(DEADLINE),
        go,
        "x",
        TimeoutError,
    )


@row("Pool.run")
def _():
    task, go = gated()

    async def wait(timeout):
        return await POOLS[0].run(task, timeout=timeout)

    return lambda t: asyncio.run(wait(t)), go, "x", TimeoutError


@row("Pool")
def _():
    task, go = gated()

    def wait(timeout):
        with atoll.Pool(1, model="threads", timeout=timeout) as made:
            try:
                return made.submit(task).result(DEADLINE)
            finally:
                go()  # it does not hear an interrupt

    return wait, go, "x", TimeoutError


# ---- the table -----------------------------------------------------------------------


def outcome(wait, timeout):
    try:
        return wait(timeout)
    except Exception as error:
        return type(error)


def waits(name, timeout):
    """It waits until it is satisfied."""
    wait, satisfy, given, _ = ROWS[name]()
    told = []
    thread = threading.Thread(
        target=lambda: told.append(outcome(wait, timeout)), daemon=True
    )
    thread.start()
    satisfy()
    thread.join(DEADLINE)
    assert told == [given]


def is_late(name, timeout):
    """It comes back without; what it began, if anything, is let go."""
    wait, satisfy, _, late = ROWS[name]()
    try:
        assert outcome(wait, timeout) == late
    finally:
        if not name.startswith(("Barrier", "pep554.send")):
            satisfy()


@pytest.mark.parametrize("timeout", FOR_EVER, ids=lambda v: str(v)[:8])
@pytest.mark.parametrize("name", ROWS)
def test_for_ever(name, timeout):
    waits(name, timeout)


@pytest.mark.parametrize("timeout", AT_ONCE, ids=repr)
@pytest.mark.parametrize("name", ROWS)
def test_at_once(name, timeout):
    is_late(name, timeout)


@pytest.mark.parametrize("timeout", NEGATIVE, ids=lambda v: str(v)[:8])
@pytest.mark.parametrize("name", ROWS)
def test_negative(name, timeout):
    if name in MINUS_ONE_IS_FOR_EVER | NEGATIVE_IS_REFUSED:
        wait, satisfy, _, _ = ROWS[name]()
        with pytest.raises(ValueError, match="non-negative"):
            wait(timeout)
        satisfy()
    else:
        is_late(name, timeout)


@pytest.mark.parametrize("name", sorted(MINUS_ONE_IS_FOR_EVER))
def test_minus_one_of_threading(name):
    waits(name, -1)
    waits(name, -1.0)


@pytest.mark.parametrize(("timeout", "error"), NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("name", ROWS)
def test_no_number(name, timeout, error):
    wait, satisfy, _, _ = ROWS[name]()
    with pytest.raises(error):
        wait(timeout)
    if name not in ("Pool", "Barrier.wait", "pep554.send"):
        satisfy()


@pytest.mark.parametrize(
    "timeout", [*FOR_EVER, *AT_ONCE, *NEGATIVE], ids=lambda v: str(v)[:8]
)
def test_an_idle_interpreter_closes_in_any_time(timeout, monkeypatch):
    monkeypatch.setattr("atoll._interpreter._FINISH_GRACE", DEADLINE)
    interpreter = atoll.Interpreter()
    assert interpreter.call(abs, -1) == 1
    interpreter.close(timeout=timeout)
    assert interpreter.closed


def test_close_waits_for_centuries_if_it_is_told_to(monkeypatch):
    """Longer than poll() can be told of, on the main thread."""
    monkeypatch.setattr("atoll._interpreter._SHORT_WAIT", 0.001)

    def held(entered, gate):
        entered.send(None)
        gate.recv()

    for timeout in (1e7, 1e300, 10**400):
        gate, entered = atoll.Channel(1), atoll.Channel(1)
        with atoll.Interpreter() as interpreter:
            future = interpreter.submit(held, entered, gate)
            entered.recv(DEADLINE)
            timer = threading.Timer(0.1, gate.send, [None])
            timer.start()
            interpreter.close(timeout=timeout)
            assert future.result(DEADLINE) is None
            timer.join()


def test_a_time_that_is_no_number_closes_nothing():
    with atoll.Interpreter() as interpreter:
        for timeout, error in NO_NUMBERS:
            with pytest.raises(error):
                interpreter.close(timeout=timeout)
        assert interpreter.call(abs, -1) == 1


def test_a_task_without_any_time_does_not_run(pool):
    ran = []
    for limits in ({"timeout": 0}, {"deadline": 0}, {"timeout": -1, "deadline": 5}):
        future = pool.submit_with(ran.append, (1,), **limits)
        assert isinstance(future.exception(0), TimeoutError)
    assert pool.submit(list, ran).result(DEADLINE) == []


def test_a_limit_of_its_own_is_none_if_it_is_infinite():
    task, go = gated()
    with atoll.Pool(1, model="threads", timeout=0) as pool:
        assert isinstance(pool.submit(abs, 1).exception(DEADLINE), TimeoutError)
        future = pool.submit_with(task, timeout=math.inf)
        go()
        assert future.result(DEADLINE) == "x"
