"""The pool as `concurrent.futures` has taught people to use an executor."""

import concurrent.futures
import contextlib
import itertools
import signal
import subprocess
import sys
import threading
import time

import pytest

import atoll

DEADLINE = 60


@pytest.fixture(params=["interpreters", "threads", "processes"])
def model(request):
    return request.param


def run_script(source, *arguments, wait=2 * DEADLINE):
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=wait,
    )


# ---- maps that outlive their pool -------------------------------------------------


def test_a_map_is_read_after_the_with_statement(model):
    with atoll.Pool(2, model=model) as pool:
        ordered = pool.map(abs, range(-2000, 0), chunksize=3)
        unordered = pool.imap_unordered(abs, range(-2000, 0), chunksize=3)
    assert list(ordered) == list(range(2000, 0, -1))
    assert sorted(unordered) == list(range(1, 2001))


def test_a_map_that_may_be_endless_says_what_is_missing(model):
    with atoll.Pool(1, model=model) as pool:
        results = pool.map(abs, itertools.count(), chunksize=1)
        assert next(results) == 0
    given = []
    with pytest.raises(atoll.ClosedError, match="before this map had read all"):
        given.extend(results)
    with pytest.raises(StopIteration):
        next(results)


def test_input_that_fails_at_shutdown_is_told_to_the_reader():
    class Input(list):
        def __iter__(self):
            yield from range(20)
            raise LookupError("no more")

    with atoll.Pool(1, model="threads") as pool:
        results = pool.map(abs, Input(), chunksize=1)
        assert next(results) == 0
    got = []
    with pytest.raises(LookupError, match="no more"):
        for value in results:
            got.append(value)
    assert got == list(range(1, 20))


def test_an_exception_in_the_with_statement_submits_no_more(model):
    kept = []
    with pytest.raises(LookupError), atoll.Pool(1, model=model) as pool:
        kept.append(pool.map(abs, range(10_000), chunksize=1))
        raise LookupError
    assert len(pool._futures) == 0
    with pytest.raises(atoll.ClosedError):
        list(kept[0])


def test_exit_in_a_chunk_keeps_what_came_before(model):
    def leave_at_three(number):
        if number == 3:
            sys.exit("enough")
        return number

    got = []
    with (
        atoll.Pool(1, model=model) as pool,
        pytest.raises((SystemExit, atoll.InterpreterError), match="enough"),
    ):
        for value in pool.map(leave_at_three, range(5), chunksize=5):
            got.append(value)
    assert got == [0, 1, 2]


# ---- a pool that is broken ------------------------------------------------------------


def test_an_initializer_that_fails_is_the_cause(model):
    def fail():
        raise LookupError("no licence")

    with atoll.Pool(2, model=model, initializer=fail) as pool:
        told = []
        for _ in range(2):
            with pytest.raises(atoll.BrokenPool, match="LookupError: no licence") as at:
                pool.submit(abs, 1).result(DEADLINE)
            told.append(at.value)
    assert told[0] is not told[1]
    for error in told:
        assert isinstance(error, concurrent.futures.BrokenExecutor)
        assert type(error.__cause__) is LookupError


def test_a_function_that_is_shut_down_under_it_says_so():
    pool = atoll.Pool(1, model="threads")
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown") as told:
        pool.submit(abs, 1)
    assert told.value.__suppress_context__


# ---- what does not travel ----------------------------------------------------------------


@pytest.mark.parametrize("sending", ["interpreters", "processes"])
def test_a_pool_and_its_futures_stay(sending):
    with atoll.Pool(1, model=sending) as pool:
        with pytest.raises(atoll.NotShareableError, match="may make its own"):
            pool.submit(lambda: pool.submit(abs, 1))
        future = pool.submit(abs, -1)
        with pytest.raises(atoll.NotShareableError, match="send its result"):
            pool.submit(repr, future)


def test_a_future_says_that_its_task_runs(model):
    gate = atoll.Event(shared=True)
    with atoll.Pool(1, model=model) as pool:
        future = pool.submit(gate.wait, DEADLINE)
        until = time.monotonic() + DEADLINE
        while not future.running() and time.monotonic() < until:
            time.sleep(0.001)
        assert "state=running" in repr(future)
        gate.set()
        assert future.result(DEADLINE) is True
        assert "state=finished" in repr(future)


# ---- the end of the program ------------------------------------------------------------

UNAWAITED = """
import sys, time, atoll

def work(number):
    time.sleep(0.05)
    print("done", number, flush=True)

if __name__ == "__main__":
    pool = atoll.Pool(1, model=sys.argv[1])
    for number in range(3):
        pool.submit(work, number)
"""


def test_what_was_submitted_is_done_before_the_program_ends(model):
    done = run_script(UNAWAITED, model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", "0", "done", "1", "done", "2"]
    assert done.stderr == ""


INTERRUPTED = """
import signal, sys, time, atoll

def spin():
    while True:
        pass

def once(*_):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt

if __name__ == "__main__":
    signal.signal(signal.SIGINT, once)
    pool = atoll.Pool(1, model=sys.argv[1])
    future = pool.submit(spin)
    while not future.running():
        time.sleep(0.001)
    print("running", flush=True)
    future.result()
"""


def test_control_c_does_not_wait_for_what_runs(model):
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout.readline() == "running\n"
        # One that comes just before the wait begins does not end it, as with
        # threading's locks: so again until it has.
        until = time.monotonic() + DEADLINE
        while program.poll() is None and time.monotonic() < until:
            program.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(0.2)
        _, errors = program.communicate(timeout=DEADLINE)
    finally:
        program.kill()
    assert program.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors


FORKED = """
import os, sys, warnings
import atoll

warnings.simplefilter("ignore", DeprecationWarning)
with atoll.Pool(1, model=sys.argv[1]) as pool:
    assert pool.submit(abs, -1).result() == 1
    child = os.fork()
    if child == 0:
        try:
            pool.submit(abs, -1)
        except atoll.ClosedError as error:
            print(error, flush=True)
    else:
        assert os.waitpid(child, 0)[1] == 0
        assert pool.submit(abs, -2).result() == 2
"""


@pytest.mark.parametrize("forking", ["threads", "processes"])
def test_the_child_of_a_fork_has_no_pool(forking):
    done = run_script(FORKED, forking)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the pool belongs to the process that this one")
    assert done.stdout.count("\n") == 1


# ---- what a callback, a handler or a task raises ----------------------------------


def test_exit_in_a_callback_ends_nothing_else(model):
    with atoll.Pool(1, model=model) as pool:
        future = pool.submit(time.sleep, 0)
        future.add_done_callback(lambda _: sys.exit())
        future.result(DEADLINE)
        later = pool.submit(time.sleep, 0.2)  # longer than who waits hands out itself
        assert later.result(DEADLINE) is None


def test_a_callback_that_waits_for_its_pool_is_told():
    told = []

    def wait(_):
        try:
            second.result()
        except RuntimeError as error:
            told.append(str(error))
        go.set()

    go = threading.Event()
    with atoll.Pool(1, model="threads") as pool:
        begun = threading.Event()
        first = pool.submit(begun.wait, DEADLINE)
        second = pool.submit(go.wait, DEADLINE)
        first.add_done_callback(wait)
        begun.set()
        assert second.result(DEADLINE)
    assert "a callback cannot wait for a future of its pool" in told[0]


def test_a_task_may_raise_cancelled_error(model):
    def give_up():
        raise concurrent.futures.CancelledError("mine")

    with atoll.Pool(1, model=model) as pool:
        future = pool.submit(give_up)
        assert type(future.exception(DEADLINE)) is concurrent.futures.CancelledError
        assert not future.cancelled()


def test_workers_of_few_tasks_are_followed_by_others(model):
    with atoll.Pool(1, model=model, max_tasks_per_worker=2) as pool:
        for number in range(20):
            assert pool.submit(abs, -number).result(DEADLINE) == number


HANDLER = """
import signal, sys, threading
import atoll

class Alarm(Exception):
    pass

def alarm(*_):
    raise Alarm

class Value:
    def __init__(self, number):
        self.number = number
    def __setstate__(self, state):
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGALRM)
        self.__dict__.update(state)

def make():
    return Value(7)

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, alarm)
    with atoll.Pool(1, model=sys.argv[1]) as pool:
        future = pool.submit(make)
        try:
            future.result()
        except Alarm:
            print("interrupted")
        print(future.result().number)
"""


@pytest.mark.parametrize("sending", ["interpreters", "processes"])
def test_what_a_handler_raises_is_not_the_tasks(sending):
    done = run_script(HANDLER, sending)
    assert done.stdout.split()[-1] == "7", done.stderr
