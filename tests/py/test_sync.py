"""Locks, conditions, events, semaphores and barriers: threading's API."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from waiting import wait_until

from atoll import (
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    Channel,
    Condition,
    Event,
    Interpreter,
    Lock,
    RLock,
    Semaphore,
)

DEADLINE = 60.0


def in_thread(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """A future of `function(*args)` on a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *args)
    pool.shutdown(wait=False)
    return future


def handle_of(thing: Any) -> Any:
    """Another handle to the same thing, as another interpreter would get it."""
    channel = Channel()
    channel.send(thing)
    return channel.recv()


@pytest.mark.parametrize("make", [Lock, RLock])
def test_lock(make: Callable[[], Lock | RLock]) -> None:
    lock = make()
    with pytest.raises(RuntimeError):
        lock.release()
    with lock as entered:
        assert entered and lock.locked()
        elsewhere = in_thread(lambda: lock.acquire(blocking=False))
        assert elsewhere.result(DEADLINE) is False
        assert in_thread(lambda: lock.acquire(timeout=0.01)).result(DEADLINE) is False
    assert not lock.locked()
    with pytest.raises(ValueError):
        lock.acquire(False, 1)
    with pytest.raises(ValueError):
        lock.acquire(timeout=-2)
    same = handle_of(lock)
    assert same == lock and hash(same) == hash(lock) and same != make()
    with same:
        assert lock.locked()


def test_only_rlock_is_recursive() -> None:
    rlock, lock = RLock(), Lock()
    with rlock, rlock:
        assert handle_of(rlock).acquire()
        rlock.release()

        def release() -> None:
            with pytest.raises(RuntimeError):
                rlock.release()

        in_thread(release).result(DEADLINE)
    with lock:
        assert not lock.acquire(timeout=0.01)
        in_thread(lock.release).result(DEADLINE)  # any thread may
        assert lock.acquire(False)


def test_a_thread_that_ended_leaves_an_rlock_locked() -> None:
    """A later one may have its number of the kernel's and its stack, not its locks."""
    lock = RLock()

    def in_a_thread(function: Callable[[], object]) -> object:
        got: list[object] = []
        thread = threading.Thread(target=lambda: got.append(function()))
        thread.start()
        thread.join()
        return got.pop()

    assert in_a_thread(lock.acquire) is True
    for _ in range(5):
        assert in_a_thread(lambda: lock.acquire(blocking=False)) is False
    with Interpreter() as one:
        assert one.call(lambda lock: lock.acquire(blocking=False), lock) is False


@pytest.mark.parametrize("make", [Lock, RLock, lambda: Semaphore(1)])
def test_exclusion(make: Callable[[], Any]) -> None:
    guard, counts = make(), {"now": 0, "most": 0, "all": 0}

    def work(mine: Any) -> None:
        for _ in range(500):
            with mine:
                counts["now"] += 1
                counts["most"] = max(counts["most"], counts["now"])
                counts["all"] += 1
                counts["now"] -= 1

    for future in [in_thread(work, handle_of(guard)) for _ in range(4)]:
        future.result(DEADLINE)
    assert counts == {"now": 0, "most": 1, "all": 2000}


@pytest.mark.parametrize("make", [Lock, RLock, lambda: None])
def test_condition(make: Callable[[], Any]) -> None:
    condition = Condition(make())
    with pytest.raises(RuntimeError):
        condition.wait()
    with pytest.raises(RuntimeError):
        condition.notify()
    ready: list[int] = []

    def consume() -> int:
        with condition:
            assert condition.wait_for(lambda: ready, DEADLINE)
            return ready.pop()

    consumers = [in_thread(consume) for _ in range(3)]
    for i in range(3):
        with condition:
            ready.append(i)
            condition.notify()
    assert sorted(future.result(DEADLINE) for future in consumers) == [0, 1, 2]
    with condition:
        assert condition.wait(0.01) is False
        assert condition.wait_for(lambda: 0, 0.01) == 0


def test_notify_all() -> None:
    condition = Condition()
    waiting = Semaphore(0)

    def wait() -> bool:
        with condition:
            waiting.release()
            return condition.wait(DEADLINE)

    futures = [in_thread(wait) for _ in range(4)]
    for _ in futures:
        assert waiting.acquire(timeout=DEADLINE)
    with condition:  # all have let it go, so all wait
        condition.notify_all()
    assert all(future.result(DEADLINE) for future in futures)


def test_condition_needs_a_lock_of_ours() -> None:
    for wrong in (threading.Lock(), 3, Event(), Condition()):
        with pytest.raises(TypeError):
            Condition(wrong)  # type: ignore[arg-type]


def test_event() -> None:
    event = Event()
    assert not event.is_set() and event.wait(0.01) is False
    futures = [in_thread(handle_of(event).wait, DEADLINE) for _ in range(3)]
    event.set()
    assert all(future.result(DEADLINE) for future in futures)
    assert event.wait()
    event.clear()
    assert not event.is_set()


def test_semaphore() -> None:
    semaphore = BoundedSemaphore(2)
    assert semaphore.acquire() and semaphore.acquire()
    assert semaphore.acquire(blocking=False) is False
    assert semaphore.acquire(timeout=0.01) is False
    waiting = in_thread(lambda: handle_of(semaphore).acquire(timeout=DEADLINE))
    semaphore.release(2)
    assert waiting.result(DEADLINE) is True
    semaphore.release()
    with pytest.raises(ValueError):
        semaphore.release()
    with pytest.raises(ValueError):
        semaphore.release(0)
    with pytest.raises(ValueError):
        Semaphore(-1)


def test_barrier() -> None:
    barrier = Barrier(3)
    assert barrier.parties == 3 and barrier.n_waiting == 0 and not barrier.broken
    for _ in range(50):
        futures = [in_thread(barrier.wait, DEADLINE) for _ in range(3)]
        assert sorted(future.result(DEADLINE) for future in futures) == [0, 1, 2]


def test_a_barrier_whose_round_has_ended_is_not_broken_by_who_is_interrupted() -> None:
    class Interrupted(Exception):
        pass

    barrier = Barrier(2)
    others: list[Future[int]] = []

    def let_the_other_come(number: int, frame: object) -> None:
        others.append(in_thread(barrier.wait, DEADLINE))
        others[0].result(DEADLINE)
        raise Interrupted

    def signal_when_it_waits() -> None:
        wait_until(lambda: barrier.n_waiting == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, let_the_other_come)
    try:
        told = in_thread(signal_when_it_waits)
        with pytest.raises(Interrupted):
            barrier.wait(DEADLINE)
        told.result(DEADLINE)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert others[0].result() == 1 and not barrier.broken


def test_broken_barrier() -> None:
    barrier = Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)
    assert barrier.broken
    with pytest.raises(BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    waiting = in_thread(barrier.wait, DEADLINE)
    barrier.abort()
    with pytest.raises(BrokenBarrierError):
        waiting.result(DEADLINE)
    with pytest.raises(ValueError):
        Barrier(0)
