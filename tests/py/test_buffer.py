"""Shared memory: views, transfer, array libraries, other processes."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from atoll import Channel, SharedArray, SharedBuffer, open_shared, transfer

DEADLINE = 60.0


def memory_files(name: str) -> int:
    """How many files of the shared memory of this name this process has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return sum(label.startswith(f"/memfd:atoll:{name} ") for label in found)


def test_bytes() -> None:
    buffer = SharedBuffer(10)
    assert len(buffer) == buffer.nbytes == 10
    assert buffer.shape == (10,) and buffer.dtype == "uint8" and not buffer.readonly
    assert bytes(buffer) == bytes(10)
    memory = memoryview(buffer)
    memory[2:5] = b"abc"
    buffer[5] = ord("d")
    buffer[6:8] = b"ef"
    assert bytes(buffer) == b"\0\0abcdef\0\0"
    assert buffer[2] == ord("a") and buffer[-1] == 0
    assert bytes(buffer[::2]) == b"\0acef"[:1] + b"ace\0"
    with pytest.raises(IndexError):
        buffer[10]
    with pytest.raises(TypeError):
        del buffer[0]


@pytest.mark.parametrize("size", [0, -1])
def test_no_empty_buffer(size: int) -> None:
    with pytest.raises(ValueError):
        SharedBuffer(size)


def test_slices_are_views() -> None:
    buffer = SharedBuffer(100)
    middle = buffer[10:20]
    assert type(middle) is SharedBuffer and len(middle) == 10
    middle[0] = 7
    assert buffer[10] == 7
    inner = middle[5:]
    inner[:] = b"xxxxx"
    assert bytes(buffer[15:20]) == b"xxxxx"
    assert len(buffer[50:10]) == 0 and len(buffer[90:1000]) == 10


def test_readonly() -> None:
    buffer = SharedBuffer(4)
    readonly = buffer.toreadonly()
    assert readonly.readonly and memoryview(readonly).readonly
    with pytest.raises(TypeError):
        readonly[0] = 1
    with pytest.raises(TypeError):
        struct.pack_into("b", readonly, 0, 1)
    buffer[0] = 9
    assert readonly[0] == 9
    assert readonly[1:].readonly


def test_through_a_channel_is_the_same_memory() -> None:
    channel = Channel()
    buffer = SharedBuffer(1 << 20)
    channel.send(buffer[100:200])
    received = channel.recv()
    received[0] = 42
    assert buffer[100] == 42 and len(received) == 100
    array = SharedArray((2, 3), "float64")
    channel.send(array)
    same = channel.recv()
    assert type(same) is SharedArray and same.shape == (2, 3)
    same[1, 2] = 2.5
    assert array[1, 2] == 2.5


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (memoryview(SharedBuffer(8))[2:], "over one.*transfer the SharedBuffer"),
        (memoryview(SharedArray((2,), "int32")), "over one.*the SharedArray"),
        (b"bytes", "not a bytes, whose memory.*copied once"),
        (bytearray(8), "copy it into a SharedArray"),
        ([1], "not a list: send it as it is"),
        (None, "not a NoneType: send it as it is"),
    ],
    ids=repr,
)
def test_transfer_of_something_else(given: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        transfer(given)


def test_transfer_of_an_array_over_one() -> None:
    numpy = pytest.importorskip("numpy")
    shared = SharedArray((4,), "int64")
    view = numpy.asarray(shared)[1:].reshape(3, 1)
    with pytest.raises(TypeError, match=r"not a ndarray over one.*the SharedArray"):
        transfer(view)
    with pytest.raises(TypeError, match="copy it into a SharedArray"):
        transfer(numpy.zeros(4))
    with pytest.raises(BufferError):
        transfer(shared)  # while the view is there
    del view
    assert transfer(shared).shape == (4,)


def test_transfer() -> None:
    buffer = SharedBuffer(4)
    buffer[0] = 1
    view = memoryview(buffer)
    with pytest.raises(BufferError):
        transfer(buffer)
    view.release()
    channel = Channel()
    channel.send(transfer(buffer))
    for use in (lambda: buffer[0], lambda: memoryview(buffer), lambda: len(buffer)):
        with pytest.raises(ValueError):
            use()
    with pytest.raises(ValueError):
        transfer(buffer)
    with pytest.raises(ValueError):
        channel.send(buffer)
    assert channel.recv()[0] == 1


def test_release() -> None:
    with SharedBuffer(4) as buffer:
        buffer[0] = 1
    with pytest.raises(ValueError):
        buffer[0]
    buffer.release()
    assert "not here" in repr(buffer)


def test_memory_is_freed() -> None:
    # By its name: what other tests have left may go at any moment.
    name = f"test-{os.getpid()}-freed"
    assert memory_files(name) == 0
    buffer = SharedBuffer(4096, name=name)
    assert memory_files(name) == 1
    kept = buffer[1:2]
    del buffer
    gc.collect()
    assert memory_files(name) == 1
    del kept
    gc.collect()
    assert memory_files(name) == 0


@pytest.mark.parametrize(
    ("dtype", "code", "size"),
    [
        ("int8", "b", 1),
        ("uint16", "H", 2),
        ("i", "i", 4),
        ("f4", "f", 4),
        ("<i8", "q", 8),
        ("|u1", "B", 1),
        ("b", "b", 1),
        (float, "d", 8),
        (int, "q", 8),
    ],
)
def test_arrays(dtype: Any, code: str, size: int) -> None:
    array = SharedArray((3, 4), dtype)
    memory = memoryview(array)
    assert memory.format == code and memory.itemsize == size
    assert memory.shape == (3, 4) and memory.strides == (4 * size, size)
    memory[2, 3] = 5
    assert array[2, 3] == 5 and array[2:].shape == (1, 4) and array[2:][0, 3] == 5


def test_wrong_arrays() -> None:
    for shape, dtype in [((2,), "text"), ((2,), dict), ([[1]], "f"), ("ab", "f")]:
        with pytest.raises(TypeError):
            SharedArray(shape, dtype)  # type: ignore[arg-type]
    for code in ["f9", "f80", "f08", "<", "", "i8x", "O8", "datetime64"]:
        with pytest.raises(TypeError, match="item type that can be shared: bool, "):
            SharedArray(2, code)
    for wrong in [(-1,), (), (1,) * 33, (1 << 40, 1 << 40)]:
        with pytest.raises((ValueError, OverflowError)):
            SharedArray(wrong, "float64")


def test_numpy_sees_the_memory() -> None:
    numpy = pytest.importorskip("numpy")
    array = SharedArray((4, 5), numpy.dtype("float32"))
    view = numpy.asarray(array)
    assert view.dtype == numpy.float32 and view.shape == (4, 5)
    view[:] = 3
    assert array[3, 4] == 3
    other = numpy.from_dlpack(array)
    other[0, 0] = 8
    assert view[0, 0] == 8
    assert other.__array_interface__["data"] == view.__array_interface__["data"]
    readonly = numpy.from_dlpack(array.toreadonly())
    assert not readonly.flags.writeable and readonly[0, 0] == 8
    with pytest.raises(BufferError):
        array.toreadonly().__dlpack__()
    assert array.__dlpack__() is not None and array.__dlpack_device__() == (1, 0)
    assert numpy.asarray(SharedArray((2,), "complex128")).dtype == numpy.complex128
    assert numpy.asarray(SharedArray((2,), complex)).dtype == numpy.complex128
    sizes = {
        "b": (1,),
        "i": (1, 2, 4, 8),
        "u": (1, 2, 4, 8),
        "f": (2, 4, 8),
        "c": (8, 16),
    }
    codes = [f"{kind}{size}" for kind in sizes for size in sizes[kind]]
    for code in [*codes, "<f8", "=i4", "|u1"]:
        assert numpy.asarray(SharedArray((2,), code)).dtype == numpy.dtype(code)
    del view, other, readonly
    array.release()


def test_what_dlpack_has_lent() -> None:
    """It counts as a view, and is given back when the consumer ends, wherever."""
    numpy = pytest.importorskip("numpy")
    for make in (SharedBuffer, lambda size: SharedArray(size, "int32")):
        memory: Any = make(64)
        capsule = memory.__dlpack__()
        with pytest.raises(BufferError, match="let the view over it"):
            memory.release()
        with pytest.raises(BufferError, match="let the view over it"):
            transfer(memory)
        del capsule
        first, second = numpy.from_dlpack(memory), numpy.from_dlpack(memory)
        with pytest.raises(BufferError, match="let the views over it"):
            transfer(memory)
        first[3] = 7
        del first
        with pytest.raises(BufferError):
            memory.release()
        kept = [second]
        del second
        thread = threading.Thread(target=kept.clear)
        thread.start()
        thread.join(DEADLINE)
        moved = transfer(memory)
        assert moved[3] == 7
        with pytest.raises(ValueError, match="no longer here"):
            memory.__dlpack__()
    array = numpy.from_dlpack(SharedArray(3, "f8"))
    gc.collect()
    array[:] = 2  # the consumer keeps the memory, not the handle
    assert array.sum() == 6


def test_a_copy_for_dlpack() -> None:
    numpy = pytest.importorskip("numpy")
    array = SharedArray((2, 3), "int16")
    array[1, 2] = 5
    for given in (array, array.toreadonly(), array[1:]):
        copied = numpy.from_dlpack(given, copy=True)
        assert copied[-1, 2] == 5 and copied.flags.writeable
        copied[-1, 2] = 9
        assert array[1, 2] == 5
    array.toreadonly().__dlpack__(copy=True)  # of what asks for no version, too
    array.release()  # no copy is a view


def test_iteration() -> None:
    buffer, array = SharedBuffer(4), SharedArray(3, "float64")
    buffer[1], array[2] = 7, 2.5
    assert list(buffer) == [0, 7, 0, 0] and 7 in buffer and 8 not in buffer
    assert list(array[1:]) == [0.0, 2.5] and max(array) == 2.5
    items = iter(buffer)
    with pytest.raises(BufferError):
        transfer(buffer)
    assert list(items) == [0, 7, 0, 0]
    del items
    buffer.release()
    with pytest.raises(ValueError, match="no longer here"):
        iter(buffer)
    with pytest.raises(NotImplementedError) as caught:
        iter(SharedArray((2, 3), "float64"))
    assert any("numpy.asarray()" in note for note in caught.value.__notes__)


def test_what_numpy_would_convert() -> None:
    array = SharedArray(3, "float64")
    for given in ([1.0, 2.0, 3.0], bytes(24), bytes(3)):
        with pytest.raises((TypeError, ValueError)) as caught:
            array[:] = given  # type: ignore[call-overload]
        assert any("converts what" in note for note in caught.value.__notes__)
    with pytest.raises(ValueError) as caught:
        SharedBuffer(3)[:] = b"ab"
    assert not hasattr(caught.value, "__notes__")


def test_a_copy_is_a_handle_and_a_deep_copy_is_memory() -> None:
    for size in (10, 3 << 20):
        array = SharedArray((2, size), "int16")
        array[1, 3] = 7
        for given in (array, array[1:], array.toreadonly()):
            view, apart = copy.copy(given), copy.deepcopy(given)
            for made in (view, apart):
                assert type(made) is SharedArray and made.dtype == "int16"
                assert made.shape == given.shape and made[len(given) - 1, 3] == 7
            assert view.readonly == given.readonly and not apart.readonly
            apart[0, 0] = 5
            assert array[0, 0] == 0
        handle = copy.copy(array)
        array.release()
        handle[0, 0] = 9
        assert handle[0, 0] == 9
    buffer = SharedBuffer(4, name="copied-once")
    twice = copy.deepcopy([buffer, buffer])
    assert twice[0] is twice[1] and type(twice[0]) is SharedBuffer
    assert memory_files("copied-once") == 1  # a copy has no name
    empty = copy.deepcopy(SharedArray((0, 3), "f8"))
    assert empty.shape == (0, 3)
    buffer.release()
    for made in (copy.copy, copy.deepcopy):
        with pytest.raises(ValueError, match="no longer here"):
            made(buffer)


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="freed with its handle"
)
def test_release_frees_the_memory() -> None:
    name = "freed-at-once"
    buffer = SharedBuffer(4096, name=name)
    part = buffer[100:]
    assert memory_files(name) == 1
    buffer.release()
    assert memory_files(name) == 1 and part[0] == 0
    with part:
        assert memory_files(name) == 1
    assert memory_files(name) == 0
    part.release()
    assert "not here" in repr(part)
    moved = transfer(SharedBuffer(10, name=name))
    moved.release()
    assert memory_files(name) == 0


def test_many_threads_at_one_handle() -> None:
    """Whoever comes too late gets an error, and nobody memory that is gone."""
    begin = threading.Barrier(7)

    def attempt(actions: list[Callable[[Any], Any]]) -> list[Exception]:
        others = []
        for handle in handles:
            begin.wait(60)
            for action in actions:
                try:
                    action(handle)
                except BufferError:
                    pass  # while another looks at it
                except Exception as error:
                    if "no longer here" not in str(error):
                        others.append(error)
        return others

    def look(handle: Any) -> None:
        with memoryview(handle) as memory:
            assert bytes(memory[-8:]) == bytes(8)

    channel = Channel(10_000)
    handles: list[Any] = [SharedBuffer(1 << 12) for _ in range(100)]
    every: list[list[Callable[[Any], Any]]] = [
        [look, look, SharedBuffer.release],
        [look, transfer, look],
        [copy.copy, copy.deepcopy, SharedBuffer.release],
        [lambda handle: handle[8:], lambda handle: handle.toreadonly()],
        [channel.send, channel.send, look],
        [repr, len, lambda handle: handle.shape, lambda handle: handle[7]],
        [lambda handle: handle.__dlpack__(), copy.deepcopy, lambda h: pickle.dumps(h)],
    ]
    with ThreadPoolExecutor(len(every)) as pool:
        for done in [pool.submit(attempt, actions) for actions in every]:
            assert done.result(60) == []
    for handle in handles:
        handle.release()
    while len(channel):
        look(channel.recv())


def test_what_an_index_does_in_between() -> None:
    buffer = SharedBuffer(100)

    class Releases:
        def __index__(self) -> int:
            buffer.release()
            return 1

    with pytest.raises(ValueError, match="no longer here"):
        buffer[Releases() :]
    buffer = SharedBuffer(100)
    with pytest.raises(BufferError):
        buffer.__dlpack__(dl_device=(2, Releases()))
    assert "not here" in repr(buffer)


def test_shapes() -> None:
    numpy = pytest.importorskip("numpy")
    for shape in (3, numpy.int64(3), (3,), [3], numpy.array([3]), (numpy.int8(3),)):
        assert SharedArray(shape, "f8").shape == (3,)
    assert repr(SharedArray((3, 4), "f8")) == "<atoll.SharedArray: (3, 4) of float64>"
    readonly = SharedArray(3, "?").toreadonly()
    assert repr(readonly) == "<atoll.SharedArray: (3,) of bool, read-only>"
    for wrong in (1.0, "3", None, numpy.float64(3), (1.0,), {}, object()):
        with pytest.raises((TypeError, ValueError)):
            SharedArray(wrong, "f8")  # type: ignore[arg-type]


def test_a_layout_that_is_not_in_the_memory_leaves_the_descriptor() -> None:
    buffer = SharedBuffer(4096)
    descriptor = os.dup(buffer._describe()[0])
    for layout in (
        (4096, "d", (1,)),
        (0, "d", (513,)),
        (-8, "d", (1,)),
        (0, "zz", (1,)),
        (0, "d", (1 << 61,)),
        (0, "d", (-1,)),
    ):
        with pytest.raises((ValueError, OverflowError)):
            SharedArray._restore(descriptor, *layout, False)
        os.fstat(descriptor)
    whole = SharedArray._restore(descriptor, 0, "d", (512,), False)
    memoryview(buffer)[:8] = struct.pack("d", 2.5)
    assert whole[0] == 2.5
    os.close(descriptor)  # it has one of its own
    again = os.open(f"/proc/self/fd/{whole._describe()[0]}", os.O_RDWR)
    os.close(again)


def child_writes(buffer: SharedBuffer, array: SharedArray) -> None:
    buffer[3] = 33
    array[1] = 1.5


def test_another_process_writes() -> None:
    context = multiprocessing.get_context("spawn")
    buffer, array = SharedBuffer(10), SharedArray(2, "float64")
    child = context.Process(target=child_writes, args=(buffer[2:], array))
    child.start()
    child.join(DEADLINE)
    assert child.exitcode == 0
    assert buffer[5] == 33 and array[1] == 1.5


CHILD = """
import sys, time
from atoll import SharedBuffer, open_shared
name = sys.argv[1]
buffer = SharedBuffer(8192, name=name)
buffer[0] = 11
print("ready", flush=True)
sys.stdin.read()
"""


def test_named_memory_of_a_process_that_is_killed() -> None:
    name = f"test-{os.getpid()}-named"
    with pytest.raises(FileNotFoundError):
        open_shared(name)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    buffer = open_shared(name)
    assert len(buffer) == 8192 and buffer[0] == 11
    child.send_signal(signal.SIGKILL)
    child.wait(DEADLINE)
    child.communicate()
    assert buffer[0] == 11 and open_shared(name)[0] == 11  # this process has it
    del buffer
    gc.collect()
    with pytest.raises(FileNotFoundError):
        open_shared(name)


def test_a_name_is_had_once() -> None:
    name = f"test-{os.getpid()}-once"
    first = SharedBuffer(64, name=name)
    with pytest.raises(FileExistsError, match=name):
        SharedBuffer(64, name=name)
    with pytest.raises(FileExistsError):
        SharedArray(3, "int8", name=name)
    assert len(open_shared(name)) == 64
    del first
    gc.collect()
    assert SharedArray(3, "int8", name=name).shape == (3,)
    with pytest.raises(ValueError, match="at most"):
        SharedBuffer(64, name="n" * 181)
    with pytest.raises(FileNotFoundError):
        open_shared("")


CREATOR = """
import sys
from atoll import SharedBuffer
print("ready", flush=True)
sys.stdin.readline()
try:
    buffer = SharedBuffer(64, name=sys.argv[1])
    print("made", flush=True)
except FileExistsError:
    print("found", flush=True)
sys.stdin.read()
"""


def test_of_several_creators_one_succeeds() -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, f"test-{os.getpid()}-race"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    results = []
    for child in children:
        assert child.stdout is not None
        results.append(child.stdout.readline())
    for child in children:
        child.communicate()
    assert sorted(results) == ["found\n"] * 3 + ["made\n"]
