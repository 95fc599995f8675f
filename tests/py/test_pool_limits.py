"""Tasks that are cancelled, late or stuck, on each model."""

import concurrent.futures as cf
import os
import sysconfig
import time

import pytest
from waiting import wait_until

import atoll
from atoll import _atoll

DEADLINE = 60


def spin():
    while True:
        pass


# ---- cancelling and time ----


def test_cancel_what_waits(model):
    gate = atoll.Event(shared=True)
    with atoll.Pool(1, model=model) as pool:
        first = pool.submit(gate.wait, DEADLINE)
        second = pool.submit(abs, 1)
        wait_until(first.running)
        assert second.cancel() and second.cancelled()
        assert second.cancel()
        with pytest.raises(cf.CancelledError):
            second.result(DEADLINE)
        assert not first.cancel()
        gate.set()
        assert first.result(DEADLINE) is True
        assert not first.cancel()


def test_cancel_what_runs(pool):
    future = pool.submit(spin)
    wait_until(future.running)
    assert not future.cancel()
    assert future.cancel(running=True)
    with pytest.raises(cf.CancelledError):
        future.result(DEADLINE)
    assert future.cancelled()
    assert pool.submit(abs, -1).result(DEADLINE) == 1
    assert pool.stuck() == []


def test_an_interrupt_never_hits_the_next_task(model):
    def short():
        return sum(range(2000))

    with atoll.Pool(1, model=model) as pool:
        expected = short()
        for _ in range(60):
            first = pool.submit(short)
            second = pool.submit(short)
            first.cancel(running=True)
            assert second.result(DEADLINE) == expected
            try:
                assert first.result(DEADLINE) == expected
            except cf.CancelledError:
                pass


def test_a_task_may_refuse_to_end(pool, tmp_path):
    begun = tmp_path / "begun"

    def stubborn():
        try:
            begun.touch()
            while True:
                pass
        except BaseException as error:
            return type(error).__name__

    future = pool.submit(stubborn)
    wait_until(begun.exists)
    future.cancel(running=True)
    assert future.result(DEADLINE) == "TaskInterrupted"


def test_timeout_of_a_running_task(pool):
    future = pool.submit_with(spin, timeout=0.2)
    with pytest.raises(TimeoutError):
        future.result(DEADLINE)
    assert pool.submit_with(abs, (-3,), timeout=DEADLINE).result(DEADLINE) == 3


def test_timeout_of_a_waiting_task(model):
    with atoll.Pool(1, model=model, timeout=0.2) as pool:
        futures = [pool.submit(spin) for _ in range(3)]
        for future in futures:
            with pytest.raises(TimeoutError):
                future.result(DEADLINE)


def test_a_timeout_counts_from_the_start(model):
    gate = atoll.Event(shared=True)
    timeout = 2.0  # the task itself must not take that long, however busy the machine
    with atoll.Pool(1, model=model) as pool:
        first = pool.submit(gate.wait, DEADLINE)
        waits = pool.submit_with(abs, (-4,), timeout=timeout)
        queued = time.monotonic()
        late = pool.submit_with(abs, (-5,), deadline=0.1)
        with pytest.raises(TimeoutError):
            late.result(DEADLINE)
        wait_until(lambda: time.monotonic() > queued + timeout + 0.1)
        gate.set()
        assert first.result(DEADLINE) is True
        assert waits.result(DEADLINE) == 4


# ---- stuck in C ----


def in_c(path, reader):
    import collections
    import ctypes
    import itertools
    from functools import partial
    from operator import call

    # PyDLL holds the GIL: nothing in this interpreter hears anything meanwhile. And all
    # of it from C: an interrupt must not find a bytecode between the file and the wait.
    libc = ctypes.PyDLL(None)
    wait = partial(libc.read, reader, ctypes.create_string_buffer(1), 1)
    if reader < 0:  # in a process, where a signal would end a wait
        wait = partial(collections.deque, itertools.repeat(None, 10**12), 0)
    steps = [partial(libc.creat, os.fsencode(path), 0o600), wait]
    collections.deque(map(call, steps), maxlen=0)


@pytest.fixture
def pipe():
    """The two ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def skip_where_threads_stop_for_each_other():
    """CPython 3.13t makes an interpreter while no thread of the process runs Python, and
    waits without end for one in C code that never detaches."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("a free-threaded build cannot make another interpreter meanwhile")


def interpreter_of(pool):
    """The number of the interpreter that the one worker of a pool runs in."""
    return pool.stats()["workers"][0].get("interpreter")


@pytest.mark.parametrize("model", ["interpreters", "processes"])
@pytest.mark.parametrize("how", ["by hand", "by itself"])
def test_a_worker_stuck_in_c_is_replaced(model, how, tmp_path, recwarn, pipe):
    if model == "interpreters":
        skip_where_threads_stop_for_each_other()
    by_itself = 0.2 if how == "by itself" else None
    reader, writer = pipe
    with atoll.Pool(1, model=model, replace_stuck=by_itself) as pool:
        in_process = model == "processes"
        future = pool.submit(
            in_c, str(tmp_path / "begun"), -1 if in_process else reader
        )
        waiting = pool.submit(abs, -7)
        wait_until((tmp_path / "begun").exists)
        stuck = interpreter_of(pool)
        assert future.cancel(running=True)
        if by_itself is None:
            assert pool.stuck() == [0]
            assert pool.replace(0)
        with pytest.raises((atoll.LostWorker, atoll.BrokenProcess)):
            future.result(DEADLINE)
        assert waiting.result(DEADLINE) == 7
        assert pool.stuck() == []
        wait_until(lambda: pool.stats()["restarts"] == 1)
        assert not pool.replace(0)
        if model == "interpreters":
            # By itself, the warning follows after the future has ended.
            wait_until(lambda: any(w.category is RuntimeWarning for w in recwarn.list))
            assert "left running" in str(recwarn.pop(RuntimeWarning).message)
            assert interpreter_of(pool) != stuck
            assert _atoll.interpreter_state(stuck) != "closed"
            # It ends after all: nobody hears of it, and it closes by itself.
            os.write(writer, b"x")
            wait_until(lambda: _atoll.interpreter_state(stuck) == "closed")
            assert pool.submit(abs, -8).result(DEADLINE) == 8


def test_shutdown_leaves_what_is_stuck(tmp_path, monkeypatch, recwarn, pipe):
    skip_where_threads_stop_for_each_other()
    monkeypatch.setattr("atoll._pool.limits.STUCK_SECONDS", 0.2)
    reader, writer = pipe
    pool = atoll.Pool(1, model="interpreters")
    future = pool.submit(in_c, str(tmp_path / "begun"), reader)
    wait_until((tmp_path / "begun").exists)
    stuck = interpreter_of(pool)
    future.cancel(running=True)
    assert not future.done()
    pool.shutdown()
    assert isinstance(future.exception(0), atoll.LostWorker)
    assert "left running" in str(recwarn.pop(RuntimeWarning).message)
    os.write(writer, b"x")
    wait_until(lambda: _atoll.interpreter_state(stuck) == "closed")
