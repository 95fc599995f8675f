"""Shared things on their way to a pool's workers and back, dropped as soon as sent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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
    SharedArray,
    SharedBuffer,
    SharedDict,
    Struct,
    open_shared,
)
from atoll._pool import handles, memory, worker_process


class Point(Struct):
    x: float
    hits: AtomicInt


MAKE: dict[str, Callable[[], Any]] = {
    "buffer": lambda: SharedBuffer(64),
    "slice": lambda: SharedBuffer(64)[8:16].toreadonly(),
    "array": lambda: SharedArray((4, 4), "f8"),
    "struct": lambda: Point(x=2.5),
    "structs": lambda: Point.array(3),
    "dict": lambda: SharedDict({"a": 1}, shared=True),
    "lock": lambda: Lock(shared=True),
    "rlock": lambda: RLock(shared=True),
    "condition": lambda: Condition(Lock(shared=True), shared=True),
    "event": lambda: Event(shared=True),
    "semaphore": lambda: Semaphore(3, shared=True),
    "barrier": lambda: Barrier(2, shared=True),
    "atomic": lambda: AtomicInt(7, shared=True),
}


def make(kind: str) -> Any:
    return MAKE[kind]()


def same(thing: Any) -> Any:
    return thing


def facts(thing: Any) -> tuple[Any, ...]:
    """What is the same for all handles of what was made alike."""
    if isinstance(thing, (SharedBuffer, SharedArray)):
        return thing.shape, thing.dtype, thing.readonly, bytes(thing)
    if isinstance(thing, Point):
        return thing.x, thing.hits.load()
    if isinstance(thing, AtomicInt):
        return (thing.load(),)
    if isinstance(thing, SharedDict):
        return (dict(thing.items()),)
    return (type(thing),)


@pytest.mark.parametrize("kind", MAKE)
def test_what_a_task_returns_and_drops(pool: atoll.Pool, kind: str) -> None:
    things = [pool.submit(make, kind).result(DEADLINE_S) for _ in range(3)]
    for thing in things:
        assert facts(thing) == facts(make(kind))
    if kind != "struct":
        assert len(set(things)) == 3


@pytest.mark.parametrize("kind", MAKE)
def test_what_was_dropped_when_the_task_was_queued(pool: atoll.Pool, kind: str) -> None:
    sent = [pool.submit(facts, make(kind)) for _ in range(20)]
    assert [f.result(DEADLINE_S) for f in sent] == [facts(make(kind))] * 20
    thing = make(kind)
    back = pool.submit(same, thing).result(DEADLINE_S)
    assert back == thing
    if kind != "struct":
        assert hash(back) == hash(thing)


def write(buffer: SharedBuffer, place: int) -> int:
    buffer[place] = place
    return len(buffer)


@pytest.mark.parametrize("away", ["interpreters", "processes"])
def test_what_was_released_when_the_task_was_queued(away: Any) -> None:
    """On threads the task has the object itself, which is released then."""
    with atoll.Pool(2, model=away) as pool:
        with SharedBuffer(64) as buffer:
            kept = buffer[:]
            sent = pool.submit(write, buffer, 7)
        assert sent.result(DEADLINE_S) == 64 and kept[7] == 7


def count_up(number: int) -> tuple[SharedArray, bytes, list[SharedBuffer]]:
    array = SharedArray(4, "i4")
    array[0] = number
    return array, bytes([number]) * (1 << 20), [SharedBuffer(1), SharedBuffer(2)]


def test_beside_large_buffers_and_in_maps(pool: atoll.Pool) -> None:
    for number, (array, data, buffers) in enumerate(pool.map(count_up, range(12))):
        assert array[0] == number and len(data) == 1 << 20 and data[5] == number
        assert [len(buffer) for buffer in buffers] == [1, 2]
    pairs = ((SharedBuffer(n), n - 1) for n in range(1, 40))
    found = pool.map(write, *zip(*pairs, strict=True), chunksize=5)
    assert list(found) == list(range(1, 40))


def many(count: int) -> list[SharedBuffer]:
    return [SharedBuffer(n + 1) for n in range(count)]


def lengths(buffers: list[SharedBuffer], data: bytes) -> tuple[list[int], int]:
    return [len(buffer) for buffer in buffers], len(data)


def test_more_than_one_message_has_room_for(pool: atoll.Pool) -> None:
    count = 260
    buffers = pool.submit(many, count).result(DEADLINE_S)
    assert [len(buffer) for buffer in buffers] == list(range(1, count + 1))
    sent = pool.submit(lengths, buffers, bytes(2 << 20))
    del buffers
    assert sent.result(DEADLINE_S) == (list(range(1, count + 1)), 2 << 20)


class WithBuffer(Exception):
    pass


def fail() -> None:
    buffer = SharedBuffer(64)
    buffer[3] = 33
    raise WithBuffer("no", buffer)


def test_in_an_exception(pool: atoll.Pool) -> None:
    with pytest.raises(WithBuffer) as caught:
        pool.submit(fail).result(DEADLINE_S)
    assert caught.value.args[1][3] == 33


def fail_with(things: tuple[Any, ...]) -> None:
    raise WithBuffer(things[0], Lock(), *things)


def test_in_an_exception_of_an_interpreter() -> None:
    things = (Channel(), AtomicInt(3), SharedDict(a=1), SharedBuffer(8))
    with atoll.Interpreter() as interpreter, pytest.raises(WithBuffer) as caught:
        interpreter.call(fail_with, things)
    channel, lock, *same = caught.value.args
    assert channel == things[0] and tuple(same) == things
    assert lock.acquire(blocking=False)
    assert "in fail_with" in str(caught.value.__cause__)
    with atoll.Pool(1, model="interpreters") as pool:
        with pytest.raises(WithBuffer) as caught:
            list(pool.map(fail_with, [things]))
        assert caught.value.args[2:] == things


kept: dict[str, Any] = {}


def keep(**things: Any) -> None:
    kept.update(things)


def look(name: str) -> int:
    return kept[name][5]


def item(array: SharedArray) -> Any:
    return array[5]


def keep_positional(buffer: SharedBuffer, event: Any) -> None:
    kept["initial"] = buffer
    event.set()


def test_of_an_initializer_and_broadcast(model: Any) -> None:
    """Released by the time that the worker, or another one in its place, starts."""
    event = Event(shared=True)
    with SharedBuffer(64) as buffer:
        buffer[5] = 55
        pool = atoll.Pool(
            1,
            model=model,
            initializer=keep_positional,
            initargs=(buffer[:], event),
            max_tasks_per_worker=None if model == "threads" else 1,
        )
    with pool:
        for _ in range(3):
            assert pool.submit(look, "initial").result(DEADLINE_S) == 55
        assert event.is_set()
        array = SharedArray(8, "i2")
        array[5] = 12
        everywhere = pool.broadcast(array)
        for _ in range(3):
            assert pool.submit(item, everywhere).result(DEADLINE_S) == 12


def begin(*things: Any) -> None:
    kept["things"] = things


def use_things() -> int:
    channel, lock, table, counter, news = kept["things"]
    with lock:
        table["number"] = counter.add(3)
    channel.send("from there")
    return news.send("to all") or 0


def test_an_initializer_gets_what_belongs_to_the_process() -> None:
    things = channel, lock, table, _, news = (
        Channel(keep_open=True),
        Lock(),
        SharedDict(),
        AtomicInt(1),
        Broadcast(),
    )
    heard = news.subscribe()
    with atoll.Pool(
        1,
        model="interpreters",
        initializer=begin,
        initargs=things,
        max_tasks_per_worker=1,
    ) as pool:
        for _ in range(2):
            pool.submit(use_things).result(DEADLINE_S)
            assert channel.recv(DEADLINE_S) == "from there"
            assert heard.recv(DEADLINE_S) == "to all"
    assert not lock.locked() and table["number"] == 7
    with pytest.raises(atoll.NotShareableError, match=r"initargs\[1\], of type .*Lock"):
        atoll.Pool(1, model="processes", initializer=begin, initargs=(0, lock))


# ---- who ends in between -------------------------------------------------------------


def test_of_a_process_that_has_ended() -> None:
    with atoll.Pool(1, model="processes", max_tasks_per_worker=1) as pool:
        sent = [pool.submit(make, "buffer") for _ in range(4)]
        for future in sent:
            assert len(future.result(DEADLINE_S)) == 64


SENDER = """
import os, signal, socket, sys
from atoll import SharedBuffer
from atoll._pool import handles, memory, worker_process
sock = socket.socket(fileno=int(sys.argv[1]))
buffer = SharedBuffer(4096)
buffer[9] = 99
data, apart, things = memory.dump([buffer, bytes(1 << 20)], "object")
del buffer
bundle = handles.Bundle.of(things, apart)
worker_process.send_block(sock, 0, data, apart, bundle)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_sent_by_a_process_that_was_killed() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-c", SENDER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd="/",
            )
        assert child.wait(DEADLINE_S) == -signal.SIGKILL
        kind, data, buffers, arrived = worker_process.receive_block(ours)
        with arrived:
            buffer, filled = atoll._atoll.loads(data, trusted=True, apart=buffers)
    assert kind == 0 and filled == bytes(1 << 20)
    assert len(buffer) == 4096 and buffer[9] == 99


@pytest.mark.parametrize("received", [False, True], ids=["on-its-way", "received"])
def test_what_nobody_takes_is_let_go(received: bool) -> None:
    reading, writing = os.pipe()
    try:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            bundle = handles.Bundle({(0, 0): (writing, None)})
            os.close(writing)
            worker_process.send_block(theirs, 0, b"words", None, bundle)
            if received:
                kind, data, _, arrived = worker_process.receive_block(ours)
                assert (kind, data) == (0, b"words") and arrived
                del arrived
        assert os.read(reading, 1) == b""  # the last writing end has gone
    finally:
        os.close(reading)


def test_what_was_sent_whole_needs_nobody_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    send_fds = socket.send_fds

    def and_the_receiver_ends(*arguments: Any) -> int:
        sent = send_fds(*arguments)
        theirs.close()
        return sent

    buffer = SharedBuffer(64)
    _, _, things = memory.dump(buffer, "object")
    bundle = handles.Bundle.of(things)
    assert bundle is not None
    monkeypatch.setattr(socket, "send_fds", and_the_receiver_ends)
    with ours:  # not a BrokenPipeError, by which nobody would have got it
        worker_process.send_block(ours, worker_process.CALL, b"words", None, bundle)


def test_a_bundle_is_closed_by_who_makes_it() -> None:
    reading, writing = os.pipe()
    bundle = handles.Bundle({(0, 0): (writing, None)})
    os.close(writing)
    bundle.close()
    assert os.read(reading, 1) == b""
    os.close(reading)


PARENT = """
import os, sys
import atoll
from atoll import SharedBuffer

def give(name):
    buffer = SharedBuffer(4096, name=name)
    return buffer, os.getpid()

if __name__ == "__main__":
    pool = atoll.Pool(1, model="processes")
    buffer, process = pool.submit(give, sys.argv[1]).result()
    waiting = [pool.submit(len, SharedBuffer(64, name=sys.argv[1] + str(n)))
               for n in range(3)]
    print(process, flush=True)
    sys.stdin.read()
"""


def is_anywhere(name: str) -> bool:
    try:
        open_shared(name).release()
    except FileNotFoundError:
        return False
    return True


def test_the_pool_is_killed(tmp_path: Path) -> None:
    name = f"killed-pool-{os.getpid()}"
    program = tmp_path / "program.py"
    program.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(program), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert is_anywhere(name)
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{worker}").exists())
    wait_until(lambda: not any(is_anywhere(name + end) for end in ("", "0", "1", "2")))


# ---- what is left --------------------------------------------------------------------

COUNTS = """
import gc, os, time
from pathlib import Path
import atoll
from atoll import Lock, SharedArray, SharedBuffer, SharedDict

def numbers():
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    return len(os.listdir("/proc/self/fd")), maps.count("/memfd:")

def give(number):
    return [SharedBuffer(4096), SharedArray(9, "f8"), Lock(shared=True),
            SharedDict(shared=True, size=1 << 16), bytes(1 << 20)]

def take(things):
    return things[0][0]

def fail(things):
    raise ValueError(things[0])

def use(pool, count):
    for number in range(count):
        things = pool.submit(give, number).result()
        assert pool.submit(take, things).result() == 0
        pool.submit(take, [SharedBuffer(8)])  # nobody asks
        try:
            pool.submit(fail, things).result()
        except ValueError as error:
            assert error.args[0] == things[0]
    assert sum(map(take, pool.map(give, range(count)))) == 0

if __name__ == "__main__":
    with atoll.Pool(1, model="processes") as pool:
        use(pool, 2)
        before = numbers() + pool.submit(numbers).result()
        use(pool, 20)
        # Without a GIL a thread lets go of what it has made when it next runs.
        end = time.monotonic() + 60
        while True:
            after = numbers() + pool.submit(numbers).result()
            if all(now <= then for now, then in zip(after, before)):
                break
            assert time.monotonic() < end, (before, after)
    print("even")
"""

LIMITED = """
import errno, os, resource
import atoll
from atoll import SharedBuffer

def give(count):
    return [SharedBuffer(8) for _ in range(count)]

def limit(count):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return len(os.listdir("/proc/self/fd"))

if __name__ == "__main__":
    with atoll.Pool(1, model="processes") as pool:
        assert len(pool.submit(give, 300).result()) == 300
        process = pool.submit(os.getpid).result()
        before = limit(100)
        try:
            pool.submit(give, 300).result()
            raise AssertionError("there was room")
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        assert len(os.listdir("/proc/self/fd")) == before
        assert len(pool.submit(give, 3).result()) == 3
        limit(1000)
        things = give(300)
        pool.submit(limit, 100).result()
        try:
            pool.submit(len, things).result()
            raise AssertionError("there was room")
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        assert pool.submit(len, things[:3]).result() == 3
        assert pool.submit(os.getpid).result() == process
    print("even")
"""


@pytest.mark.parametrize("program", [COUNTS, LIMITED], ids=["counts", "no-room"])
def test_descriptors_and_mappings(tmp_path: Path, program: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.stdout, done.stderr) == ("even\n", "")
