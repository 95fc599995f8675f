"""Worker processes that end: what that costs, and what it does not."""

import errno
import fcntl
import os
import pickle
import signal
import socket
import stat
import sys
import tempfile
import termios
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from waiting import wait_until

import atoll
from atoll import _atoll
from atoll._pool import memory, processes, worker_process

DEADLINE = 60


def wait_for_end(process_id):
    """Wait until the process has ended, and leave its status to the pool."""
    os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOWAIT)


def stop(process_id):
    """Stop the process, and wait until it has stopped."""
    os.kill(process_id, signal.SIGSTOP)
    os.waitid(os.P_PID, process_id, os.WSTOPPED | os.WNOWAIT)


def wait_for_file(path):
    while not Path(path).exists():
        time.sleep(0.005)


def spin():
    while True:
        pass


def process_of(pool, worker=0):
    return pool._model._processes[worker].pid


def test_an_interrupt_of_the_last_task_of_a_process(monkeypatch):
    """The pool tells the process to settle, and it has ended by then."""
    send, ended = worker_process.send_block, []

    def send_late(sock, kind, *rest):
        if kind == worker_process.SETTLE:
            wait_for_end(process_of(pool))
            ended.append(True)
        send(sock, kind, *rest)

    monkeypatch.setattr(worker_process, "send_block", send_late)
    with atoll.Pool(1, model="processes", max_tasks_per_worker=1) as pool:
        first = pool.submit(spin)
        others = [pool.submit(abs, -n) for n in range(3)]
        wait_until(first.running)
        assert first.cancel(running=True)
        assert [f.result(DEADLINE) for f in others] == [0, 1, 2]
        assert first.cancelled() and ended == [True]


def test_a_task_for_a_process_that_has_died_goes_to_another():
    with atoll.Pool(1, model="processes") as pool:
        before = pool.submit(os.getpid).result(DEADLINE)
        os.kill(before, signal.SIGKILL)
        wait_for_end(before)
        after = pool.submit(os.getpid).result(DEADLINE)
        assert after != before
        assert pool.stats()["restarts"] == 1


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_task_that_was_sent_and_not_read_goes_to_another(monkeypatch, size):
    pairs = []

    def socketpair():
        pairs.append(make_pair())
        return pairs[-1]

    def unread():
        """Is there something in the first socket that the process has not read?"""
        queued = fcntl.ioctl(pairs[0][0], termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(queued, sys.byteorder) > 0

    make_pair = socket.socketpair
    monkeypatch.setattr(socket, "socketpair", socketpair)
    with atoll.Pool(1, model="processes") as pool:
        before = pool.submit(os.getpid).result(DEADLINE)
        stop(before)
        future = pool.submit(lambda data: (os.getpid(), len(data)), b"x" * size)
        wait_until(unread)
        os.kill(before, signal.SIGKILL)
        after, length = future.result(DEADLINE)
        assert after != before and length == size


def test_a_task_that_is_not_wanted_is_not_sent_again(monkeypatch):
    with atoll.Pool(1, model="processes") as pool:
        before = pool.submit(os.getpid).result(DEADLINE)
        stop(before)
        future = pool.submit(spin)
        wait_until(future.running)
        assert future.cancel(running=True)
        os.kill(before, signal.SIGKILL)
        with pytest.raises(CancelledError):
            future.result(DEADLINE)
        assert pool.submit(abs, -1).result(DEADLINE) == 1


def test_only_the_task_that_ran_is_lost():
    with atoll.Pool(1, model="processes") as pool:
        lost = pool.submit(os._exit, 7)
        others = [pool.submit(abs, -n) for n in range(50)]
        with pytest.raises(atoll.BrokenProcess, match="code 7"):
            lost.result(DEADLINE)
        assert [f.result(DEADLINE) for f in others] == list(range(50))


def test_the_end_of_a_process_with_a_child_is_seen():
    """What the task started and left running does not keep the socket open."""

    def leave_a_child():
        os.system("sleep 600 & echo $! > " + path)
        os._exit(3)

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/child"
        with atoll.Pool(1, model="processes") as pool:
            lost = pool.submit(leave_a_child)
            with pytest.raises(atoll.BrokenProcess, match="code 3"):
                lost.result(DEADLINE)
            with open(path) as file:
                os.kill(int(file.read()), signal.SIGKILL)


# ---- what may cross ----


def fill(buffer):
    memoryview(buffer)[:] = b"x" * len(buffer)


def test_shared_memory_is_an_argument():
    with atoll.SharedBuffer(1000) as buffer, atoll.Pool(1, model="processes") as pool:
        pool.submit(fill, buffer).result(DEADLINE)
        assert bytes(memoryview(buffer)) == b"x" * 1000


@pytest.mark.parametrize("make", [lambda: atoll.Channel(2), atoll.Lock])
def test_what_belongs_to_the_process_is_refused_by_its_path(make):
    with (
        atoll.Pool(1, model="processes") as pool,
        pytest.raises(atoll.NotShareableError, match=r"\[0\]\['it'\]"),
    ):
        pool.submit(abs, {"it": make()})


def test_an_interpreter_of_another_process_is_refused():
    with atoll.Pool(1, model="processes") as pool, atoll.Interpreter() as one:
        future = pool.submit(repr, one)
        with pytest.raises(atoll.NotShareableError, match="belongs to process"):
            future.result(DEADLINE)
        assert pool.submit(abs, -1).result(DEADLINE) == 1


def test_an_interrupt_is_not_taken_for_the_next_ones():
    """The next task is interrupted as soon as it can be, while the process settles."""
    with atoll.Pool(1, model="processes") as pool:
        for _ in range(30):
            futures = [pool.submit(spin) for _ in range(3)]
            for future in futures:
                wait_until(future.running)
                assert future.cancel(running=True)
            for future in futures:
                with pytest.raises(CancelledError):
                    future.result(DEADLINE)
        assert pool.submit(abs, -1).result(DEADLINE) == 1


@pytest.mark.parametrize("size", [4000, 4096, 4097, 100_000, 250_000])
def test_calls_and_answers_of_every_size(size):
    """What is sent at once, in pieces, and just at the border."""
    with atoll.Pool(1, model="processes") as pool:
        text = ["é" * (size // 2 - n) for n in range(60)]
        calls = [pool.submit(lambda t: t, one) for one in text]
        assert [call.result(DEADLINE) for call in calls] == text


# ---- large buffers ----

MB = 1 << 20


def memory_files():
    """How many files of memory this process has open."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except OSError:
            continue
    return sum("atoll-task" in name for name in names)


def halves(buffer):
    view = pickle.PickleBuffer(buffer).raw()
    return view.readonly, len(view), bytes(view[:3]), bytes(view[-3:])


def turned(buffer):
    """Written to in place, sent back twice in one object."""
    view = memoryview(pickle.PickleBuffer(buffer).raw())
    view[0] = 7
    return {"same": [buffer, buffer], "text": "x" * 10}


def test_large_buffers_arrive_as_they_were():
    data = bytes(range(256)) * (2 * MB // 256)
    writable = bytearray(data)
    with atoll.Pool(1, model="processes") as pool:
        calls = [
            pool.submit(halves, pickle.PickleBuffer(data)),
            pool.submit(halves, pickle.PickleBuffer(writable)),
            pool.submit(lambda a, b: (len(a), a == b), data, memoryview(data)),
        ]
        writable[:3] = b"new"  # what was submitted was copied then
        results = [call.result(DEADLINE) for call in calls]
        back = pool.submit(turned, pickle.PickleBuffer(writable)).result(DEADLINE)
        wait_until(lambda: memory_files() == 0)
    ends = (b"\x00\x01\x02", b"\xfd\xfe\xff")
    assert results == [
        (True, len(data), *ends),
        (False, len(data), *ends),
        (len(data), True),
    ]
    first, second = back["same"]
    assert first is second
    assert bytes(memoryview(first)) == b"\x07ew" + data[3:]
    memoryview(first)[1] = 9  # it belongs to whoever received it
    assert writable[:3] == b"new"


def test_a_large_array_arrives_on_shared_memory():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(MB, dtype=numpy.float64).reshape(2, -1)
    array.flags.writeable = False
    with atoll.Pool(1, model="processes") as pool:
        same = pool.submit(lambda a: (a, a.flags.writeable), array).result(DEADLINE)
        other = pool.submit(lambda a: a.T * 2, array).result(DEADLINE)
    assert not same[1]
    assert (same[0] == array).all()
    assert (other == array.T * 2).all()
    other[0, 0] = 1


def test_more_buffers_than_sixteen_bits_count(monkeypatch):
    """Small ones, laid close: as large as they are where they count, they take 16 GiB."""

    def small():
        memory.APART_BYTES, memory._PAGE = 64, 64

    def dump_and_count(*args):
        data, made, things = memory.dump(*args)
        counts.append(len(made.regions))
        return data, made, things

    counts = []
    data = [n.to_bytes(64) for n in range(1 << 16)]
    with atoll.Pool(1, model="processes", initializer=small) as pool:
        monkeypatch.setattr(memory, "APART_BYTES", 64)
        monkeypatch.setattr(memory, "_PAGE", 64)
        monkeypatch.setattr(processes, "dump", dump_and_count)
        for some in (data, data[1:]):
            call = pool.submit(list.__getitem__, some, slice(None, None, -1))
            assert call.result(DEADLINE) == some[::-1]
    assert counts == [1 << 16, (1 << 16) - 1]


def test_calls_that_do_not_run_keep_no_memory(tmp_path):
    data = bytes(MB)
    pool = atoll.Pool(1, model="processes")
    held = pool.submit(wait_for_file, str(tmp_path / "go"))
    cancelled = [pool.submit(len, data) for _ in range(3)]
    wait_until(held.running)
    assert memory_files() == 3
    assert cancelled[0].cancel()
    assert memory_files() == 2
    pool.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    assert held.result(DEADLINE) is None
    pool.shutdown()
    assert all(call.cancelled() for call in cancelled)
    assert memory_files() == 0


def test_without_files_to_open_buffers_go_in_the_bytes(monkeypatch):
    def none_left(*args):
        raise OSError(errno.EMFILE, "too many open files")

    data = bytes(range(256)) * (MB // 256)
    with atoll.Pool(1, model="processes") as pool:
        with monkeypatch.context() as context:
            context.setattr(os, "memfd_create", none_left)
            for size in (MB // 2, 4 * MB):
                call = pool.submit(len, bytes(size))
                assert call.result(DEADLINE) == size
        monkeypatch.setattr("atoll._pool.processes._MEMORIES", 0)
        assert pool.submit(lambda d: d, data).result(DEADLINE) == data
        process = pool.submit(setattr, os, "memfd_create", none_left)
        assert process.result(DEADLINE) is None
        assert pool.submit(lambda d: 4 * d, data).result(DEADLINE) == 4 * data


HEADS = [
    _atoll.block_head(kind, size, 0) for kind in (2, 3, 5, 255) for size in (0, 1 << 40)
]


# And of kinds that there are: the size of one, by a bit, and what others write.
@pytest.mark.parametrize(
    "said",
    [
        *HEADS,
        *(_atoll.block_head(kind, 1, 0)[:8] + b"\1" + _atoll.block_head(kind, 1, 0)[9:]
          for kind in (0, 1, 4)),
        bytes(13),
        bytes(5000),
        b"Hello, world!\n",
        b"\0",
    ],
)  # fmt: skip
def test_a_process_that_answers_nonsense(said):
    """It is ended; what else it says is not taken for the next tasks' answers."""

    def say():
        for entry in Path("/proc/self/fd").iterdir():
            try:
                if stat.S_ISSOCK(entry.stat().st_mode):
                    os.write(int(entry.name), said)
            except FileNotFoundError:  # what lists them
                pass
        return "said"

    with atoll.Pool(1, model="processes") as pool:
        first = pool.submit(os.getpid).result(DEADLINE)
        calls = [pool.submit(say), *(pool.submit(abs, -n) for n in range(5))]
        with pytest.raises(
            atoll.BrokenProcess, match=f"{first} .* not be read: it is "
        ):
            calls[0].result(DEADLINE)
        assert [call.result(DEADLINE) for call in calls[1:]] == [0, 1, 2, 3, 4]
        assert pool.submit(os.getpid).result(DEADLINE) != first


def test_the_reason_of_a_socket_that_fails_is_told():
    with socket.socket() as unconnected, pytest.raises(OSError) as told:
        _atoll.block_receive(unconnected.fileno())
    assert told.value.errno == errno.ENOTCONN
    with socket.socket() as unconnected, pytest.raises(ConnectionResetError):
        _atoll.block_send(unconnected.fileno(), 0, b"")
    with pytest.raises(OSError) as told, tempfile.TemporaryFile() as file:
        _atoll.block_send(file.fileno(), 0, b"")
    assert told.value.errno == errno.ENOTSOCK


def test_a_process_that_dies_with_a_large_call_costs_that_call_alone():
    data = bytes(4 * MB)
    with atoll.Pool(1, model="processes") as pool:
        calls = [pool.submit(len, data) for _ in range(3)]
        calls.insert(1, pool.submit(lambda d: os._exit(3), data))
        assert isinstance(calls.pop(1).exception(DEADLINE), atoll.BrokenProcess)
        assert [call.result(DEADLINE) for call in calls] == [len(data)] * 3
        wait_until(lambda: memory_files() == 0)
