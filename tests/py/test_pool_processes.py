"""Worker processes that end: what that costs, and what it does not."""

import os
import signal
import time
from concurrent.futures import CancelledError

import pytest

import atoll
from atoll._pool import worker_process

DEADLINE = 60


def wait_until(condition):
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.005)


def wait_for_end(process_id):
    """Wait until the process has ended, and leave its status to the pool."""
    os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOWAIT)


def spin():
    while True:
        pass


def process_of(pool, worker=0):
    return pool._model._processes[worker].pid


def test_an_interrupt_of_the_last_task_of_a_process(monkeypatch):
    """The pool tells the process to settle, and it has ended by then."""
    send, ended = worker_process.send_block, []

    def send_late(sock, kind, data):
        if kind == worker_process.SETTLE:
            wait_for_end(process_of(pool))
            ended.append(True)
        send(sock, kind, data)

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
    sent = []
    send = worker_process.send_block

    def send_and_tell(sock, kind, data):
        send(sock, kind, data)
        sent.append(kind)

    with atoll.Pool(1, model="processes") as pool:
        before = pool.submit(os.getpid).result(DEADLINE)
        os.kill(before, signal.SIGSTOP)
        monkeypatch.setattr(worker_process, "send_block", send_and_tell)
        future = pool.submit(lambda data: (os.getpid(), len(data)), b"x" * size)
        wait_until(lambda: worker_process.CALL in sent)
        os.kill(before, signal.SIGKILL)
        after, length = future.result(DEADLINE)
        assert after != before and length == size


def test_a_task_that_is_not_wanted_is_not_sent_again(monkeypatch):
    with atoll.Pool(1, model="processes") as pool:
        before = pool.submit(os.getpid).result(DEADLINE)
        os.kill(before, signal.SIGSTOP)
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
