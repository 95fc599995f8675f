"""An interrupt ends what waits at a channel or a lock, and loses nothing there."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest
from waiting import DEADLINE_S, wait_until

import atoll
from atoll import (
    AtomicInt,
    Barrier,
    Broadcast,
    Channel,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
    select,
)


class Things:
    """What the tasks wait for; each is sent as what it is, a shared thing."""

    def __init__(self) -> None:
        self.begun, self.inside = Event(), Event()
        self.told = Channel()
        self.empty, self.other = Channel(), Channel()
        self.full = Channel(1)
        self.full.send(0)
        self.broadcast = Broadcast(1)
        self.subscription = self.broadcast.subscribe()
        self.broadcast.send(0)
        self.lock, self.rlock = Lock(), RLock()
        self.event, self.semaphore = Event(), Semaphore(0)
        self.condition, self.barrier = Condition(), Barrier(2)
        self.number = AtomicInt()


def wait_on_condition(things: Any) -> None:
    with things.condition:
        things.inside.set()
        try:
            things.condition.wait()
        finally:
            things.told.send(things.condition.locked())


def wait_for_condition(things: Any) -> None:
    with things.condition:
        things.condition.wait_for(lambda: False)


WAITS: dict[str, Callable[[Any], object]] = {
    "recv": lambda t: t.empty.recv(),
    "recv with a timeout": lambda t: t.empty.recv(timeout=DEADLINE_S * 2),
    "recv_many": lambda t: t.empty.recv_many(),
    "iteration": lambda t: list(t.empty),
    "send": lambda t: t.full.send(1),
    "send_many": lambda t: t.full.send_many([1, 2]),
    "select": lambda t: select(t.empty, t.other),
    "broadcast": lambda t: t.broadcast.send(1),
    "broadcast of many": lambda t: t.broadcast.send_many([1, 2]),
    "lock": lambda t: t.lock.acquire(),
    "rlock": lambda t: t.rlock.acquire(),
    "event": lambda t: t.event.wait(),
    "semaphore": lambda t: t.semaphore.acquire(),
    "condition": wait_on_condition,
    "wait_for": wait_for_condition,
    "barrier": lambda t: t.barrier.wait(),
    "atomic int": lambda t: t.number.wait(0),
}


def run(wait: Callable[[Any], object], things: Any) -> object:
    things.begun.set()
    return wait(things)


def until_it_counts(things: Any, how: str) -> None:
    """Until the wait has begun, where more than its end is asserted."""
    if how == "condition":
        assert things.inside.wait(DEADLINE_S)
        with things.condition:  # the wait has let it go
            pass
    if how == "barrier":
        wait_until(lambda: things.barrier.n_waiting == 1)


def things_held() -> Any:
    """`Things` whose locks are held by a thread of this interpreter."""
    things = Things()
    holder = threading.Thread(
        target=lambda: (things.lock.acquire(), things.rlock.acquire())
    )
    holder.start()
    holder.join()
    return things


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("model", ["interpreters", "threads"])
def test_a_task_that_waits_is_cancelled(model: Any, how: str) -> None:
    things = things_held()
    with atoll.Pool(1, model=model) as pool:
        future = pool.submit(run, WAITS[how], things)
        assert things.begun.wait(DEADLINE_S)
        until_it_counts(things, how)
        assert future.cancel(running=True)
        with pytest.raises(CancelledError):
            future.result(DEADLINE_S)
        # The worker is free: it was not replaced, nor does it wait any more.
        assert pool.submit(abs, -1).result(DEADLINE_S) == 1
        assert pool.stuck() == []
    assert len(things.full) == len(things.subscription) == 1
    if how == "condition":
        assert things.told.recv(timeout=DEADLINE_S), "the lock came with the interrupt"
    assert not things.condition.locked()
    assert things.barrier.broken == (how == "barrier")


@pytest.mark.parametrize("model", ["interpreters", "threads"])
def test_its_time_is_over(model: Any) -> None:
    with atoll.Pool(1, model=model) as pool:
        late = pool.submit_with(Channel.recv, (Channel(),), timeout=0.01)
        with pytest.raises(TimeoutError):
            late.result(DEADLINE_S)
        assert pool.submit(abs, -1).result(DEADLINE_S) == 1


@pytest.mark.parametrize("model", ["interpreters", "threads"])
def test_what_comes_later_is_received_by_others(model: Any) -> None:
    """A notification that was for the interrupted one goes to the next."""
    channel, begun, got = Channel(), Channel(), Channel()

    def receive(channel: Any, begun: Any, got: Any) -> None:
        begun.send(None)
        got.send(channel.recv())

    with atoll.Pool(3, model=model) as pool, channel:
        for turn in range(30):
            futures = [pool.submit(receive, channel, begun, got) for _ in range(3)]
            for _ in futures:
                begun.recv(timeout=DEADLINE_S)
            assert futures[turn % 3].cancel(running=True)
            with pytest.raises(CancelledError):
                futures[turn % 3].result(DEADLINE_S)
            wait_until(lambda: pool.stuck() == [])
            channel.send_many([turn, turn])
            received = [got.recv(timeout=DEADLINE_S) for _ in range(2)]
            assert received == [turn, turn]


def test_a_call_is_interrupted() -> None:
    things = things_held()
    with atoll.Interpreter() as one:
        for how in ("recv", "lock", "select"):
            things.begun.clear()
            future = one.submit(run, WAITS[how], things)
            assert things.begun.wait(DEADLINE_S)
            one.interrupt(InterruptedError)
            with pytest.raises(InterruptedError):
                future.result(DEADLINE_S)


def test_a_handled_interrupt_leaves_nothing_behind() -> None:
    """The next wait is one: it neither ends at once nor is it slept over."""

    def task(begun: Any, channel: Any) -> str:
        try:
            begun.set()
            channel.recv()
        except KeyboardInterrupt:
            try:
                channel.recv(timeout=0.01)
            except TimeoutError:
                begun.clear()
                return str(channel.recv())
        return "not interrupted"

    begun, channel = Event(), Channel()
    with atoll.Interpreter() as one:
        future = one.submit(task, begun, channel)
        assert begun.wait(DEADLINE_S)
        one.interrupt()
        wait_until(lambda: not begun.is_set())
        channel.send("there")
        assert future.result(DEADLINE_S) == "there"
