"""The locks of atoll against threading's: signatures, results and errors, one by one."""

import gc
import inspect
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import atoll

KINDS = {
    "Lock": (),
    "RLock": (),
    "Condition": (),
    "Event": (),
    "Semaphore": (2,),
    "BoundedSemaphore": (2,),
    "Barrier": (1,),
}
# Names that threading deprecated or never documented.
OLD = {"acquire_lock", "release_lock", "locked_lock", "notifyAll", "isSet"}


def public(thing):
    names = {name for name in dir(thing) if not name.startswith("_")} - OLD
    return names | ({"__enter__", "__exit__"} & set(dir(thing)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_is_there_with_its_parameters(kind):
    theirs = getattr(threading, kind)(*KINDS[kind])
    ours = getattr(atoll, kind)(*KINDS[kind])
    assert public(theirs) <= public(ours)
    for name in public(theirs) - {"__enter__", "__exit__"}:
        method = getattr(theirs, name)
        if callable(method):
            assert str(inspect.signature(getattr(ours, name))) == str(
                inspect.signature(method)
            ), name


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"Lock", "RLock"}))
def test_every_constructor_has_the_parameters(kind):
    theirs = inspect.signature(getattr(threading, kind)).parameters
    ours = inspect.signature(getattr(atoll, kind)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].default == parameter.default
    assert set(ours) - set(theirs) == {"shared", "name"}


def held(lock):
    lock.acquire()
    return lock


def in_it(condition, ask):
    with condition:
        return ask(condition)


def on_another_thread(ask):
    got = []
    thread = threading.Thread(target=lambda: got.append(outcome(ask)))
    thread.start()
    thread.join(60)
    return got[0]


def outcome(ask):
    try:
        return ask()
    except Exception as error:
        return error


# What is asked of both. A module stands for either.
CASES = {
    "acquire": lambda m: m.Lock().acquire(),
    "a second time": lambda m: held(m.Lock()).acquire(False),
    "with a timeout": lambda m: held(m.Lock()).acquire(timeout=0.001),
    "with timeout 0": lambda m: held(m.Lock()).acquire(True, 0),
    "negative": lambda m: m.Lock().acquire(timeout=-5),
    "not blocking, with a timeout": lambda m: m.Lock().acquire(False, 1),
    "a str": lambda m: m.Lock().acquire(timeout="x"),
    "nan": lambda m: m.Lock().acquire(timeout=math.nan),
    "too many": lambda m: m.Lock().acquire(True, 1, 2),
    "unknown": lambda m: m.Lock().acquire(wait=1),
    "locked": lambda m: (m.Lock().locked(), held(m.Lock()).locked()),
    "release of none": lambda m: m.Lock().release(),
    "release by another thread": lambda m: (
        lambda lock: (on_another_thread(lock.release), lock.locked())
    )(held(m.Lock())),
    "enter": lambda m: m.Lock().__enter__(),
    "exit": lambda m: held(m.Lock()).__exit__(None, None, None),
    "rlock": lambda m: (
        lambda lock: (lock.acquire(), lock.acquire(), lock.release(), lock.release())
    )(m.RLock()),
    "rlock released once too often": lambda m: (
        lambda lock: (lock.release(), lock.release())
    )(held(m.RLock())),
    "rlock, released by another": lambda m: (
        lambda lock: type(on_another_thread(lock.release))
    )(held(m.RLock())),
    "rlock, taken by another": lambda m: (
        lambda lock: on_another_thread(lambda: lock.acquire(False))
    )(held(m.RLock())),
    "condition: wait": lambda m: in_it(m.Condition(), lambda c: c.wait(0.001)),
    "condition: wait, negative": lambda m: in_it(m.Condition(), lambda c: c.wait(-1)),
    "condition: wait without": lambda m: m.Condition().wait(0.001),
    "condition: notify without": lambda m: m.Condition().notify(),
    "condition: notify_all without": lambda m: m.Condition().notify_all(),
    "condition: notify": lambda m: in_it(m.Condition(), lambda c: c.notify(n=3)),
    "condition: wait_for": lambda m: in_it(m.Condition(), lambda c: c.wait_for(lambda: 5)),
    "condition: wait_for, late": lambda m: in_it(
        m.Condition(), lambda c: c.wait_for(list, timeout=0.001)
    ),
    "condition: wait_for that raises": lambda m: in_it(
        m.Condition(), lambda c: c.wait_for(lambda: {}[1])
    ),
    "condition: of a lock": lambda m: m.Condition(m.Lock()).acquire(blocking=False),
    "event": lambda m: (
        lambda e: (e.wait(0), e.set(), e.wait(), e.is_set(), e.clear(), e.is_set())
    )(m.Event()),
    "event: negative": lambda m: m.Event().wait(-1),
    "event: a str": lambda m: m.Event().wait("x"),
    "semaphore": lambda m: (
        lambda s: (s.acquire(), s.acquire(False), s.acquire(timeout=0.001), s.release())
    )(m.Semaphore(1)),
    "semaphore: negative": lambda m: m.Semaphore(-1),
    "semaphore: release(3)": lambda m: (
        lambda s: (s.release(3), [s.acquire(False) for _ in range(4)])
    )(m.Semaphore(0)),
    "semaphore: release(n=0)": lambda m: m.Semaphore(0).release(n=0),
    "semaphore: not blocking, with a timeout": lambda m: m.Semaphore().acquire(False, 1),
    "semaphore: not blocking, with -1": lambda m: m.Semaphore().acquire(False, -1),
    "semaphore: negative timeouts": lambda m: [
        m.Semaphore(value).acquire(timeout=timeout)
        for value in (0, 1)
        for timeout in (-1, -1.0, -2.5, -0.0)
    ],
    "bounded: released too often": lambda m: m.BoundedSemaphore(1).release(),
    "bounded: by several": lambda m: (
        lambda s: (s.acquire(), s.release(2))
    )(m.BoundedSemaphore(2)),
    "barrier: 0 parties": lambda m: m.Barrier(0),
    "barrier of one": lambda m: (
        lambda b: (b.wait(), b.parties, b.n_waiting, b.broken)
    )(m.Barrier(1)),
    "barrier: late": lambda m: m.Barrier(2).wait(0.001),
    "barrier: aborted": lambda m: (
        lambda b: (b.abort(), b.broken, outcome(b.wait).args and 0, b.reset(), b.wait())
    )(m.Barrier(1)),
    "barrier: aborted, wait": lambda m: (lambda b: (b.abort(), b.wait()))(m.Barrier(1)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_same_comes_of_it(case):
    theirs, ours = (outcome(lambda m=m: CASES[case](m)) for m in (threading, atoll))
    if case == "barrier: aborted":
        theirs, ours = (got[:2] + got[3:] for got in (theirs, ours))
    if isinstance(theirs, Exception):
        assert isinstance(ours, type(theirs)), (theirs, ours)
        assert str(ours)  # and says why
    else:
        assert ours == theirs


def test_repr_shows_the_state():
    assert "unlocked" in repr(atoll.Lock())
    assert ": locked" in repr(held(atoll.RLock(shared=True)))
    assert " shared" in repr(atoll.Condition(shared=True))
    event = atoll.Event()
    assert "unset" in repr(event)
    event.set()
    assert ": set" in repr(event)
    barrier = atoll.Barrier(3)
    assert "waiters=0/3>" in repr(barrier)
    barrier.abort()
    assert "broken" in repr(barrier)
    assert repr(atoll.Semaphore()).startswith("<atoll.Semaphore at 0x")


def test_barrier_says_what_to_do_instead():
    with pytest.raises(TypeError, match=r"^timeout: .*wait\("):
        atoll.Barrier(2, timeout=1.0)
    with pytest.raises(TypeError, match=r"^action must be callable or None, not int"):
        atoll.Barrier(2, 1)
    assert atoll.Barrier(1, None, None).wait() == 0


@pytest.mark.parametrize("module", [threading, atoll])
def test_barrier_action(module):
    """Once a round, when all have come and before any has left."""
    rounds, parties, ran, left = 20, 4, [], []

    def action():
        assert len(left) == len(ran) * parties
        ran.append(threading.get_ident())

    def party():
        for number in range(1, rounds + 1):
            barrier.wait(60)
            assert len(ran) == number
            left.append(1)
            again.wait(60)

    barrier, again = module.Barrier(parties, action), module.Barrier(parties)
    threads = [threading.Thread(target=party) for _ in range(parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ran) == rounds and len(left) == rounds * parties


@pytest.mark.parametrize("module", [threading, atoll])
def test_barrier_action_that_raises(module):
    """It is raised where it is called, and the others get BrokenBarrierError."""

    def action():
        raise KeyError("mine")

    def party():
        try:
            barrier.wait(60)
        except Exception as error:
            raised.append(type(error))

    barrier, raised = module.Barrier(3, action), []
    threads = [threading.Thread(target=party) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert raised.count(KeyError) == 1
    assert sum(issubclass(each, threading.BrokenBarrierError) for each in raised) == 2
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken and barrier.n_waiting == 0


def test_barrier_action_of_one_alone():
    assert atoll.Barrier(1, lambda: None).wait() == 0
    barrier = atoll.Barrier(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert barrier.broken


def test_barrier_is_collected_with_its_action():
    class Token:
        pass

    def make():
        token, barrier = Token(), atoll.Barrier(2)
        barrier.action = lambda: (barrier, token)
        assert barrier.action() == (barrier, token)
        return weakref.ref(token)

    gone = make()
    gc.collect()
    assert gone() is None
    barrier = atoll.Barrier(2, print)
    assert barrier.action is print
    barrier.action = None
    assert barrier.action is None
    with pytest.raises(TypeError):
        barrier.action = 1


@pytest.mark.parametrize("late", [True, False])
def test_barrier_action_between_interpreters(late):
    """By a party that waits with it, though the last to come may have none."""

    def party(barrier, first, ready):
        assert barrier.action is None
        if first:
            ready.set()
            barrier.wait(60)
            return "there"
        ready.wait(60)
        barrier.wait(60)
        return "there"

    ran = []
    barrier, ready = atoll.Barrier(2), atoll.Event()
    barrier.action = lambda: ran.append(threading.get_ident())
    with atoll.Interpreter() as other, ThreadPoolExecutor(1) as executor:
        answer = executor.submit(other.call, party, barrier, late, ready)
        if late:  # main comes second, mostly
            assert ready.wait(60)
        else:
            ready.set()
        barrier.wait(60)
        assert ran == [threading.get_ident()]
        assert answer.result(60) == "there"


def test_instead_of_an_action():
    barrier, ran, seen = atoll.Barrier(4), [], []

    def party():
        if barrier.wait() == 0:
            ran.append(1)
        barrier.wait()
        seen.append(len(ran))

    threads = [threading.Thread(target=party) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [1, 1, 1, 1]
