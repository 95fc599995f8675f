"""Locks and their kin between processes, whose holders are killed."""

from __future__ import annotations

import copy
import multiprocessing
import operator
import os
import pickle
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from children import script

import atoll
from atoll import (
    AtomicInt,
    Barrier,
    BoundedSemaphore,
    ClosedError,
    Condition,
    Event,
    Interpreter,
    Lock,
    OwnerDeadError,
    Pool,
    RLock,
    Semaphore,
)

DEADLINE = 60.0
SPAWN = multiprocessing.get_context("spawn")

ALL: list[Callable[..., Any]] = [
    Lock,
    RLock,
    Condition,
    Event,
    Semaphore,
    BoundedSemaphore,
    lambda **how: Barrier(2, **how),
    AtomicInt,
]


def name_for(what: str) -> str:
    return f"test-{os.getpid()}-{what}"


def ended(child: subprocess.Popen[str]) -> str:
    """What it prints until it ends by itself, and well."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.close()
    # Not communicate(): what came with the first line is in this file's buffer.
    out = child.stdout.read()
    assert child.wait(DEADLINE) == 0
    return out


# ---- the ways to another process ------------------------------------------------------


def use_all(things: list[Any], done: Any) -> None:
    for lock in things[:2]:
        assert not lock.acquire(blocking=False)
    condition, event, semaphore, bounded, barrier, number = things[2:]
    assert event.wait(DEADLINE)
    assert semaphore.acquire(timeout=DEADLINE)
    bounded.acquire(timeout=DEADLINE)
    bounded.release()
    number.add(41)
    with condition:
        condition.notify()
    barrier.wait(DEADLINE)
    done.release()


def test_multiprocessing_passes_them() -> None:
    things = [make(shared=True) for make in ALL]
    lock, rlock, condition, event, _, _, barrier, number = things
    done = Semaphore(0, shared=True)
    lock.acquire()
    with rlock, condition:
        child = SPAWN.Process(target=use_all, args=(things, done))
        child.start()
        event.set()
        assert condition.wait(DEADLINE)
        barrier.wait(DEADLINE)
        assert done.acquire(timeout=DEADLINE)
    child.join(DEADLINE)
    assert child.exitcode == 0
    assert number.load() == 41


def answer(number: AtomicInt, lock: Lock) -> tuple[int, bool]:
    with lock:
        return number.add(), number.load() > 0


def test_a_pool_of_processes_passes_them() -> None:
    number, lock = AtomicInt(shared=True), Lock(name=name_for("pool"))
    with Pool(2, model="processes") as pool:
        futures = [pool.submit(answer, number, lock) for _ in range(20)]
        answers = [future.result(DEADLINE) for future in futures]
    assert sorted(answers) == [(i, True) for i in range(1, 21)]
    assert int(number) == 20


@pytest.mark.parametrize("make", ALL)
def test_pickle_gives_the_same_thing(make: Callable[..., Any]) -> None:
    thing = make(shared=True)
    assert pickle.loads(pickle.dumps(thing)) == thing
    assert copy.copy(thing) == thing


@pytest.mark.parametrize("make", ALL)
def test_one_of_this_process_does_not_leave_it(make: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="shared=True"):
        pickle.dumps(make())


def test_a_condition_takes_its_lock_along() -> None:
    lock = Lock(shared=True)
    condition = Condition(lock)
    other = pickle.loads(pickle.dumps(condition))
    assert other == condition
    with other:
        assert lock.locked()
    with pytest.raises(ValueError, match="shared"):
        Condition(Lock(), shared=True)
    with pytest.raises(ValueError, match="own"):
        Condition(lock, name=name_for("over"))
    assert pickle.loads(pickle.dumps(Condition(RLock(shared=True)))).acquire()


def test_what_was_let_go_of_meanwhile() -> None:
    sent = pickle.dumps(Lock(shared=True))
    with pytest.raises(FileNotFoundError, match="keep it"):
        pickle.loads(sent)


@pytest.mark.parametrize("make", ALL)
def test_names(make: Callable[..., Any]) -> None:
    name = name_for("named")
    thing = make(name=name)
    assert type(thing).open(name) == thing
    wrong = Event if not isinstance(thing, Event) else Lock
    with pytest.raises(TypeError, match="is a"):
        wrong.open(name)
    for missing in (name + "-not", ""):
        with pytest.raises(FileNotFoundError):
            type(thing).open(missing)
    with pytest.raises(FileExistsError, match=name):
        make(name=name)


def test_memory_that_is_none_of_ours() -> None:
    with open(os.memfd_create("test", os.MFD_ALLOW_SEALING), "wb") as file:
        file.truncate(4096)
        with pytest.raises(ValueError):
            atoll._atoll.sync_adopt(file.fileno(), None)  # type: ignore[attr-defined]


# ---- death ---------------------------------------------------------------------------

HOLD = """
lock = getattr(atoll, sys.argv[1]).open(sys.argv[2])
lock.acquire()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", [Lock, RLock, Condition])
def test_a_holder_that_is_killed(kind: Any) -> None:
    lock = kind(name=name_for("killed"))
    with script(HOLD, kind.__name__, name_for("killed")) as child:
        assert not lock.acquire(blocking=False) and lock.locked()
        with pytest.raises(RuntimeError, match="another"):
            lock.release()
        killer = threading.Timer(0.1, child.kill)
        killer.start()
        with pytest.raises(OwnerDeadError):
            lock.acquire()
        killer.join()
    assert lock.locked()  # it is ours
    lock.release()
    # Nobody has said that what it guards is whole: a with statement does not begin,
    # and does not keep it.
    for _ in range(2):
        with pytest.raises(OwnerDeadError), lock:
            raise AssertionError
        assert not lock.locked()
    with pytest.raises(OwnerDeadError):
        lock.acquire(timeout=DEADLINE)
    lock.mark_consistent()
    lock.release()
    with lock:
        assert lock.locked()
    with pytest.raises(RuntimeError):
        lock.mark_consistent()


def test_a_holder_that_exits() -> None:
    lock = Lock(name=name_for("exits"))
    with script(HOLD, "Lock", name_for("exits")) as child:
        ended(child)  # its input ends, and so does it, with the lock
    with pytest.raises(OwnerDeadError):
        lock.acquire()
    lock.mark_consistent()
    lock.release()


EXEC = """
import os
lock = atoll.Lock.open(sys.argv[1])
lock.acquire()
print("ready", flush=True)
os.execv(sys.executable, [sys.executable, "-c", "import sys; sys.stdin.read()"])
"""


def test_a_holder_that_becomes_another_program() -> None:
    lock = Lock(name=name_for("exec"))
    with script(EXEC, name_for("exec")), pytest.raises(OwnerDeadError):
        lock.acquire(timeout=DEADLINE)


WAIT = """
condition = atoll.Condition.open(sys.argv[1])
with condition:
    print("ready", flush=True)
    condition.wait()
"""


def test_no_notification_is_lost_on_the_dead() -> None:
    condition = Condition(name=name_for("condition"))
    told = Semaphore(0)

    def wait() -> None:
        with condition:
            assert condition.wait(DEADLINE)
        told.release()

    with script(WAIT, name_for("condition")) as first:
        with condition:  # the first one waits: it has let the lock go
            waiting = threading.Thread(target=wait)
            waiting.start()
        first.kill()
        first.wait(DEADLINE)
        while not told.acquire(timeout=0.01):
            with condition:
                condition.notify()  # never to the dead: once would do, when it waits
        waiting.join(DEADLINE)
    assert not waiting.is_alive()


TAKE_TURNS = """
lock = atoll.Lock.open(sys.argv[1])
number = atoll.AtomicInt.open(sys.argv[2])
print("ready", flush=True)
while True:
    try:
        lock.acquire()
    except atoll.OwnerDeadError:
        lock.mark_consistent()
    number.store(number.load() + 1)
    lock.release()
"""


def test_many_are_killed_and_none_hangs() -> None:
    lock, number = Lock(name=name_for("turns")), AtomicInt(name=name_for("number"))
    dead = 0
    for _ in range(6):
        names = name_for("turns"), name_for("number")
        with script(TAKE_TURNS, *names) as one, script(TAKE_TURNS, *names):
            before = number.load()
            while number.load() < before + 1000:
                pass
            one.kill()
            # The other one, and this process, go on.
            for _ in range(100):
                try:
                    assert lock.acquire(timeout=DEADLINE)
                except OwnerDeadError:
                    dead += 1
                    lock.mark_consistent()
                lock.release()
    try:
        assert lock.acquire(timeout=DEADLINE)
    except OwnerDeadError:
        dead += 1
    lock.release()
    assert dead <= 12  # each was killed once


ACT = """
barrier, number = atoll.Barrier.open(sys.argv[1]), atoll.AtomicInt.open(sys.argv[2])

def act():
    number.add(1)
    if sys.argv[3:]:
        print("acting", flush=True)
        threading.Event().wait()

barrier.action = act
print("ready", flush=True)
barrier.wait(60)
print("left", number.load())
"""


def test_a_barrier_s_action_in_another_process() -> None:
    barrier = Barrier(2, name=name_for("acted"))
    number = AtomicInt(name=name_for("actions"))
    with script(ACT, name_for("acted"), name_for("actions")) as child:
        barrier.wait(DEADLINE)
        assert number.load() == 1
        assert ended(child) == "left 1\n"
    assert not barrier.broken


def test_a_barrier_whose_action_is_killed() -> None:
    """Its timeout ends the wait for what will not come; reset() mends it."""
    barrier = Barrier(2, name=name_for("killed-act"))
    number = AtomicInt(name=name_for("actions"))
    with (
        ThreadPoolExecutor(2) as executor,
        script(ACT, name_for("killed-act"), name_for("actions"), "for ever") as child,
    ):
        waiting = executor.submit(barrier.wait, 2.0)
        assert child.stdout is not None
        # Nothing, where the timeout was over before the child came to its action.
        assert child.stdout.readline() in ("acting\n", "")
        child.kill()
        child.wait(DEADLINE)
        with pytest.raises(threading.BrokenBarrierError):
            waiting.result(DEADLINE)
        assert barrier.broken
        barrier.reset()
        barrier.action = lambda: number.add(10)
        before = number.load()
        parties = [executor.submit(barrier.wait, DEADLINE) for _ in range(2)]
        assert sorted(each.result(DEADLINE) for each in parties) == [0, 1]
        assert number.load() == before + 10


FORK = """
import os
lock = atoll.RLock(shared=True)
lock.acquire()
print("ready", flush=True)
child = os.fork()
if child == 0:
    try:
        lock.release()
    except RuntimeError:
        pass
    else:
        os._exit(2)
    if lock.acquire(timeout=0.01):
        os._exit(3)
    os.write(1, b"waits\\n")
    os._exit(0 if lock.acquire(timeout=60) and lock.release() is None else 4)
sys.stdin.readline()
lock.release()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with lock:
    print("again")
"""


def test_the_child_of_a_fork_is_another_process() -> None:
    with script(FORK) as child:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == "waits\n"
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "0\n"
        assert child.stdout.readline() == "again\n"


FORK_AND_DIE = """
import os
lock = atoll.Lock(shared=True)
with lock:
    pass
if os.fork() == 0:
    lock.acquire()
    os._exit(0)
os.wait()
print("ready", flush=True)
try:
    lock.acquire(timeout=60)
except atoll.OwnerDeadError:
    print("told")
"""


def test_the_death_of_the_child_of_a_fork() -> None:
    with script(FORK_AND_DIE) as child:
        assert ended(child) == "told\n"


# ---- interpreters ----------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"shared": True}])
@pytest.mark.parametrize("kind", [Lock, RLock, Condition])
def test_a_holder_whose_interpreter_closes(kind: Any, how: dict[str, bool]) -> None:
    lock = kind(**how)
    interpreter = Interpreter()
    assert interpreter.call(operator.methodcaller("acquire"), lock)
    assert not lock.acquire(blocking=False)
    interpreter.close()
    with pytest.raises(OwnerDeadError):
        lock.acquire(timeout=DEADLINE)
    lock.mark_consistent()
    lock.release()
    with lock:
        pass


def wait_on_a_thread(thing: Any, begins: Semaphore, outcome: AtomicInt) -> None:
    def wait() -> None:
        begins.release()
        try:
            if isinstance(thing, AtomicInt):
                thing.wait(0)
            elif isinstance(thing, (Event, Barrier)):
                thing.wait()
            else:
                thing.acquire()
        except ClosedError:
            outcome.store(1)

    threading.Thread(target=wait).start()


@pytest.mark.parametrize("how", [{}, {"shared": True}])
@pytest.mark.parametrize("make", ALL)
def test_closing_an_interpreter_ends_its_waits(
    make: Callable[..., Any], how: dict[str, bool]
) -> None:
    thing = make(**how)
    if hasattr(thing, "acquire"):
        thing.acquire()
    begins, outcome = Semaphore(0), AtomicInt()
    interpreter = Interpreter()
    interpreter.call(wait_on_a_thread, thing, begins, outcome)
    assert begins.acquire(timeout=DEADLINE)
    interpreter.close()  # joins the thread
    assert outcome.load() == 1


INTERRUPT = """
import signal

def once(*arguments):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, once)
thing = getattr(atoll, sys.argv[1])(*eval(sys.argv[2]), shared=bool(sys.argv[3]))
try:
    if hasattr(thing, "acquire"):
        if sys.argv[1] != "RLock":
            thing.acquire()
        else:
            holder = threading.Thread(target=thing.acquire)
            holder.start()
            holder.join()
        print("ready", flush=True)
        thing.acquire()
    else:
        print("ready", flush=True)
        thing.wait(*([0] if sys.argv[1] == "AtomicInt" else []))
except KeyboardInterrupt:
    print("interrupted", getattr(thing, "broken", None))
"""


@pytest.mark.parametrize("shared", ["", "yes"])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("Lock", "()"),
        ("RLock", "()"),
        ("Event", "()"),
        ("Semaphore", "()"),
        ("Barrier", "(2,)"),
        ("AtomicInt", "()"),
    ],
)
def test_control_c_ends_a_wait(kind: str, arguments: str, shared: str) -> None:
    with script(INTERRUPT, kind, arguments, shared) as child:
        # One that comes just before the wait begins does not end it, as with
        # threading's locks: so again until it has.
        while child.poll() is None:
            child.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.2)
        assert ended(child).startswith("interrupted")
