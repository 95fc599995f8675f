"""Waiting for results of a pool: they come past the collector, and none is lost."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from waiting import wait_until

import atoll

DEADLINE = 60


@pytest.fixture(params=["interpreters", "threads", "processes"])
def model(request):
    return request.param


def test_one_by_one_from_many_threads(model):
    wrong = []

    def use(first):
        for number in range(first, first + 200):
            if pool.submit(abs, -number).result(DEADLINE) != number:
                wrong.append(number)

    with atoll.Pool(2, model=model) as pool:
        threads = [threading.Thread(target=use, args=(n * 1000,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        assert wrong == []
        wait_until(lambda: pool.stats()["unfinished"] == 0)


def test_many_threads_wait_for_one_task(model):
    got = []
    with atoll.Pool(1, model=model) as pool:
        future = pool.submit(time.sleep, 0.1)
        threads = [
            threading.Thread(target=lambda: got.append(future.result(DEADLINE)))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert got == [None] * 5


def test_exceptions_come_the_same_way(model):
    with atoll.Pool(1, model=model) as pool:
        for _ in range(20):
            with pytest.raises(ZeroDivisionError):
                pool.submit(divmod, 1, 0).result(DEADLINE)


def test_a_callback_runs_elsewhere(model):
    """Not on the thread that waits, which may hold a lock that the callback wants."""
    lock, called = threading.Lock(), threading.Event()

    def callback(future):
        with lock:
            called.set()

    gate = atoll.Event(shared=True)
    with atoll.Pool(1, model=model) as pool, lock:
        future = pool.submit(gate.wait, DEADLINE)
        # Before it is over: on this thread it would wait for ever.
        future.add_done_callback(callback)
        gate.set()
        assert future.result(DEADLINE) is True
    assert called.wait(DEADLINE)


def test_it_ends_in_time(model):
    gate = atoll.Event(shared=True)
    with atoll.Pool(1, model=model) as pool:
        future = pool.submit(gate.wait, DEADLINE)
        for timeout in (0, 0.001, 0.1):
            with pytest.raises(TimeoutError):
                future.result(timeout)
        gate.set()
        assert future.result(DEADLINE) is True


INTERRUPTED = """
import random, signal, atoll

class Enough(Exception):
    pass

def handler(number, frame):
    raise Enough

signal.signal(signal.SIGALRM, handler)
choose = random.Random(3)
raised = 0
with atoll.Pool(1, model={model!r}) as pool:
    for number in range(300):
        future = pool.submit(abs, -number)
        try:
            signal.setitimer(signal.ITIMER_REAL, choose.uniform(1e-6, 2e-4))
            future.result(60)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Enough:
            raised += 1
        assert future.result(60) == number
    unfinished = pool.stats()["unfinished"]
assert unfinished == 0, unfinished
print("raised" if raised else "never raised")
"""


@pytest.mark.slow  # the handler raises anywhere, in CPython's own code too
def test_a_signal_handler_that_raises_loses_no_result(model):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(model=model)],
        capture_output=True,
        text=True,
        timeout=DEADLINE * 3,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "raised\n"


def test_control_c_ends_the_wait(model):
    gate = atoll.Event(shared=True)
    main = threading.main_thread().ident
    interrupted = False

    def handler(number, frame):
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    def names():
        frame, names = sys._current_frames()[main], []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        return names

    def interrupt():
        wait_until(lambda: "_park" in names())  # it has waited for longer than it leads
        while not interrupted:
            # To the process, and so to the main thread: one to this thread would not
            # wake it. Nor would one just before it falls asleep: so again until it has.
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with atoll.Pool(1, model=model) as pool:
            future = pool.submit(gate.wait, DEADLINE)
            interrupting = threading.Thread(target=interrupt)
            with pytest.raises(KeyboardInterrupt):
                interrupting.start()
                future.result(DEADLINE)
            interrupting.join()
            assert not future.done()
            gate.set()
            assert future.result(DEADLINE) is True
    finally:
        signal.signal(signal.SIGINT, before)


class Enough(Exception):
    pass


def wait_but_raise(future, step):
    """Wait for the result, and raise before the `step`th opcode or after such a call.

    Those are the places where a signal handler may run, and more. False where there
    are not so many.
    """
    left = step

    def count(frame, event, argument):
        nonlocal left
        if frame.f_code is wait_but_raise.__code__:
            return None
        frame.f_trace_opcodes = True
        left -= 1
        if left == 0:
            sys.settrace(None)
            sys.setprofile(None)
            raise Enough
        return count

    sys.settrace(count)
    sys.setprofile(count)
    try:
        future.result(DEADLINE)
    except Enough:
        pass
    finally:
        sys.settrace(None)
        sys.setprofile(None)
    return left <= 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["leads", "waits", "is told"])
def test_an_exception_anywhere_in_the_wait_loses_no_result(model, way, monkeypatch):
    from atoll._pool import delivery

    if way == "waits":
        monkeypatch.setattr(delivery, "_LEAD_SECONDS", 0.0)
    told = []
    with atoll.Pool(1, model=model) as pool:
        pool.submit(abs, 1).result(DEADLINE)
        step = 0
        raised = True
        while raised:
            step += 1
            future = pool.submit(divmod, step, step % 2)  # every other one fails
            if way == "is told":
                future.add_done_callback(told.append)
            try:
                raised = wait_but_raise(future, step)
            except ZeroDivisionError:
                pass
            if step % 2:
                assert future.result(DEADLINE) == (step, 0)
            else:
                assert type(future.exception(DEADLINE)) is ZeroDivisionError
    assert step > 2  # more where the task is not over when the wait begins
    if way == "is told":
        assert len(told) == step


@pytest.mark.parametrize("model", ["interpreters", "threads"], indirect=True)
def test_no_worker_sleeps_over_a_task(model):
    """Tasks that come while one worker looks about are for all of them.

    Each waits for the others, so as many as there are workers run at once, or none ends.
    """
    with atoll.Pool(4, model=model) as pool:
        for _ in range(500):
            barrier = atoll.Barrier(4)
            futures = [pool.submit(barrier.wait, DEADLINE) for _ in range(4)]
            places = sorted(future.result(DEADLINE * 2) for future in futures)
            assert places == [0, 1, 2, 3]
