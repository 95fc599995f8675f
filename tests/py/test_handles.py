"""Handles of shared things: which are equal, and what they stand for."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atoll import (
    AtomicInt,
    Barrier,
    BoundedSemaphore,
    Broadcast,
    Channel,
    Condition,
    Event,
    Interpreter,
    Lock,
    RLock,
    Semaphore,
    SharedArray,
    SharedBuffer,
    SharedDict,
    Struct,
    open_shared,
    transfer,
)


class Point(Struct):
    x: float
    hits: AtomicInt


THINGS: dict[str, Callable[[], Any]] = {
    "channel": Channel,
    "broadcast": Broadcast,
    "subscription": lambda: Broadcast().subscribe(),
    "lock": Lock,
    "rlock": RLock,
    "condition": Condition,
    "event": Event,
    "semaphore": Semaphore,
    "bounded-semaphore": BoundedSemaphore,
    "barrier": lambda: Barrier(2),
    "atomic": AtomicInt,
    "dict": SharedDict,
    "buffer": lambda: SharedBuffer(64),
    "buffer-slice": lambda: SharedBuffer(64)[3:60],
    "buffer-readonly": lambda: SharedBuffer(64).toreadonly(),
    "array": lambda: SharedArray((4, 4), "f8"),
    "structs": lambda: Point.array(4),
}
SHARED: dict[str, Callable[[], Any]] = {
    "lock": lambda: Lock(shared=True),
    "rlock": lambda: RLock(shared=True),
    "condition": lambda: Condition(shared=True),
    "event": lambda: Event(shared=True),
    "semaphore": lambda: Semaphore(shared=True),
    "barrier": lambda: Barrier(2, shared=True),
    "atomic": lambda: AtomicInt(shared=True),
    "dict": lambda: SharedDict(shared=True),
    **{k: v for k, v in THINGS.items() if k.startswith(("buffer", "array", "structs"))},
}


def sent(thing: Any) -> Any:
    channel = Channel()
    channel.send(thing)
    return channel.recv()


@pytest.mark.parametrize("kind", THINGS)
def test_handles_of_one_thing_are_equal(kind: str) -> None:
    thing, other = THINGS[kind](), THINGS[kind]()
    handle = sent(thing)
    assert handle is not thing
    assert handle == thing and (handle != thing) is False
    assert hash(handle) == hash(thing)
    assert {thing: 1}[handle] == 1 and len({thing, handle, other}) == 2
    assert thing in [other, handle] and thing not in [other]
    assert other != thing and thing != 5 and thing != None  # noqa: E711
    with pytest.raises(TypeError):
        _ = thing < handle


@pytest.mark.parametrize("kind", SHARED)
def test_what_came_through_a_pickle_is_equal(kind: str) -> None:
    thing, other = SHARED[kind](), SHARED[kind]()
    handle = pickle.loads(pickle.dumps(thing))
    assert handle is not thing and handle == thing and hash(handle) == hash(thing)
    assert handle != other


def look_up(things: dict[Any, str], channel: Channel) -> list[str]:
    return [things[channel.recv()] for _ in things]


def test_keys_in_another_interpreter() -> None:
    things = {make(): kind for kind, make in THINGS.items() if kind != "structs"}
    channel = Channel()
    with Interpreter() as interpreter:
        found = interpreter.submit(look_up, things, channel)
        for thing in things:
            channel.send(thing)
        assert found.result(60) == list(things.values())


@pytest.mark.parametrize("kind", THINGS)
def test_handles_can_be_referred_to_weakly(kind: str) -> None:
    thing = THINGS[kind]()
    ended: list[str] = []
    reference = weakref.ref(thing, lambda _: ended.append("reference"))
    weakref.finalize(thing, ended.append, "finalizer")
    known = weakref.WeakKeyDictionary({thing: kind})
    assert reference() is thing and known[sent(thing)] == kind
    del thing
    gc.collect()
    assert reference() is None and len(known) == 0
    assert sorted(ended) == ["finalizer", "reference"]


def test_memory_is_compared_and_not_contents() -> None:
    buffer = SharedBuffer(64)
    assert buffer[:] == buffer and buffer[0:64] == buffer
    assert buffer[:32] != buffer and buffer[:32] != buffer[32:]
    assert buffer[8:16] == buffer[8:][:8] == buffer[:16][8:]
    assert hash(buffer[8:16]) == hash(buffer[8:][:8])
    assert buffer != SharedBuffer(64) and bytes(buffer) == bytes(SharedBuffer(64))
    assert buffer != copy.deepcopy(buffer) and buffer == copy.copy(buffer)
    assert buffer.toreadonly() != buffer and buffer.toreadonly() == buffer.toreadonly()
    array = SharedArray((4, 4), "f8")
    assert array[1:3] == array[1:][:2] and array[1:3] != array[:2]
    assert array != SharedArray((4, 4), "f8")


def test_the_same_bytes_in_another_shape_are_not_equal() -> None:
    buffer = SharedBuffer(64, name=f"shapes-{os.getpid()}")
    descriptor = buffer._describe()[0]

    def array(format: str, *shape: int) -> SharedArray:
        return SharedArray._restore(descriptor, 0, format, shape, False)

    layouts = [("d", (8,)), ("d", (2, 4)), ("d", (4, 2)), ("q", (8,)), ("d", (1, 8))]
    arrays = [array(format, *shape) for format, shape in layouts]
    assert len(set(arrays)) == len(layouts)
    assert array("d", 2, 4) == arrays[1]
    whole = array("B", 64)
    assert whole != buffer and buffer != whole  # one is an array
    assert open_shared(f"shapes-{os.getpid()}") == buffer


def test_an_array_and_one_of_numpy_compare_items() -> None:
    numpy = pytest.importorskip("numpy")
    array = SharedArray((2, 3), "int32")
    assert (numpy.asarray(array) == array).all()
    assert numpy.asarray(array).shape == (numpy.asarray(array) == array).shape


def test_a_released_buffer_leaves_its_set() -> None:
    for make in (lambda: SharedBuffer(8), lambda: SharedArray(3, "f4")):
        buffer: Any = make()
        twin, digest = copy.copy(buffer), hash(buffer)
        held = {buffer}
        buffer.release()
        assert hash(buffer) == digest == hash(twin)
        assert buffer == buffer and buffer != twin and twin != buffer
        assert twin not in held
        held.remove(buffer)
        moved = transfer(twin)
        assert moved != twin and twin == twin and hash(moved) == digest


def test_structs_are_compared_by_their_values() -> None:
    point, other = Point(x=1.0), Point(x=1.0)
    assert point == other == sent(point)
    other.x = 2.0
    assert point != other
    with pytest.raises(TypeError, match="unhashable"):
        hash(point)
    points = Point.array(4)
    assert points[1:3] == points[1:][:2] and points[1:3] != points[:2]
    assert points != Point.array(4) and points != 5
    assert copy.deepcopy(points) != points and copy.copy(points) == points


def test_an_atomic_int_of_a_struct_is_one_however_it_came() -> None:
    point = Point()
    by_pickle = pickle.loads(pickle.dumps(point))
    assert by_pickle.hits == point.hits and hash(by_pickle.hits) == hash(point.hits)
    by_pickle.hits += 3
    assert point.hits.load() == 3 and point.hits != Point().hits


def descriptors_of(name: str) -> int:
    """How many descriptors of the memory of this name this process has."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue  # of another thread's, closed meanwhile
    return found.count(f"/memfd:atoll:{name} (deleted)")


def test_memory_that_comes_back_takes_no_descriptor() -> None:
    name = f"back-{os.getpid()}"
    buffer = SharedBuffer(4096, name=name)
    handles = [pickle.loads(pickle.dumps(buffer[i:])) for i in range(100)]
    handles.append(open_shared(name))
    assert descriptors_of(name) == 1
    del buffer
    handles[7][0] = 5
    assert handles[-1][7] == 5 and descriptors_of(name) == 1
    del handles
    assert descriptors_of(name) == 0
