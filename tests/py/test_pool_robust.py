"""What a pool outlives: no memory for a step, errors of its own threads, being dropped."""

import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import wait

import pytest
from sins import run_child
from waiting import wait_until

import atoll
from atoll import _interpreter
from atoll._pool import worker_process
from atoll._pool.models import InterpreterModel

DEADLINE = 60
MODELS = ["interpreters", "threads", "processes"]


# ---- no memory -----------------------------------------------------------------------

# One thread, which is the worker and then the collector, so that it alone meets the
# allocations that fail. A run for each of them: the first one fails, then the second...
NO_MEMORY = """
import _testcapi
from concurrent.futures._base import FINISHED, PENDING
from atoll import _atoll
from atoll._pool.future import PoolFuture, tell
from atoll._pool.results import ERROR
from atoll._pool.worker import report, settle

class Pool:
    pass

def fail():
    raise ValueError

def run(failing):
    scheduler = _atoll.Scheduler(1)
    desk = _atoll.Desk(scheduler, Pool(), PoolFuture, None, PENDING, FINISHED)
    told = []
    good = [desk.submit(lambda n: [n], (n,), {}) for n in range(4)]
    bad = desk.submit(fail, (), {})
    for future in good[:2]:
        future.add_done_callback(told.append)
    assert scheduler.work(0, 5, None, report, settle) == 5
    left, failed = [], 0
    for _ in range(8):
        if failed == 0:
            _testcapi.set_nomemory(failing, failing + 1)
        entries = []
        try:
            entries = desk.collect(0)
        except MemoryError:
            failed += 1
        finally:
            _testcapi.remove_mem_hooks()
        left += entries
    for entry in left:
        if isinstance(entry, PoolFuture):
            tell(entry)
        elif len(entry) == 2:  # there was no memory for its value
            assert isinstance(entry[1], MemoryError), entry
            entry[0]._settle(FINISHED, None, entry[1])
            tell(entry[0])
    for n, future in enumerate(good):
        assert future.done(), (failing, n)
        assert isinstance(future.exception(0), MemoryError) or future.result(0) == [n]
    assert sorted(map(id, told)) == sorted(map(id, good[:2])), failing
    errors = [e for e in left if isinstance(e, tuple) and len(e) == 4]
    assert [e[:2] for e in errors] == [(bad._task_id, ERROR)], (failing, left)
    return failed

print(sum(run(failing) for failing in range(60)))
"""


# Its PyList_New() drops a list that got no memory before `ob_item` is set, and so frees
# whatever a list of the free list had there.
@pytest.mark.skipif(
    "t" in sys.abiflags, reason="CPython 3.13t frees a list twice there"
)
def test_no_result_is_lost_where_there_is_no_memory():
    pytest.importorskip("_testcapi")
    done = subprocess.run(
        [sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


# ---- errors of the pool's own threads ------------------------------------------------


def test_an_error_of_the_thread_that_feeds_is_the_tasks(monkeypatch):
    def receive(*arguments):
        raise RuntimeError("nobody expects this")

    with atoll.Pool(1, model="processes") as pool:
        assert pool.submit(len, "x" * 50_000).result(DEADLINE) == 50_000
        monkeypatch.setattr(worker_process, "receive_rest", receive)
        future = pool.submit(lambda: "x" * 50_000)
        with pytest.raises(RuntimeError, match="nobody expects"):
            future.result(DEADLINE)
        assert pool.submit(abs, -1).result(DEADLINE) == 1  # another process
        assert pool.stats()["restarts"] == 1


# ---- dropped without a shutdown ------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_pool_that_is_dropped_does_its_tasks_and_ends(model):
    pool = atoll.Pool(1, model=model)
    core = pool._model.pool
    gone = weakref.ref(pool)
    futures = [pool.submit(abs, -n) for n in range(100)]
    del pool
    gc.collect()
    assert gone() is None
    assert [future.result(DEADLINE) for future in futures] == list(range(100))
    assert core._delivery.over.wait(DEADLINE)
    core._delivery.thread.join(DEADLINE)
    ended = weakref.ref(core)
    del core, futures
    wait_until(lambda: gc.collect() >= 0 and ended() is None)


def test_futures_and_maps_keep_what_they_need():
    future = atoll.Pool(1).submit(abs, -1)
    numbers = (n for n in range(500))
    results = atoll.Pool(1).map(abs, numbers, buffersize=2, chunksize=1)
    gc.collect()
    assert not wait([future], DEADLINE).not_done
    assert list(results) == list(range(500))


def test_interpreters_start_together(monkeypatch):
    """Each start waits until all have begun."""
    start, begun = InterpreterModel.start, threading.Barrier(3)

    def start_together(self, worker, turn):
        begun.wait(DEADLINE)
        start(self, worker, turn)

    monkeypatch.setattr(InterpreterModel, "start", start_together)
    with atoll.Pool(3, model="interpreters") as pool:
        assert list(pool.map(abs, range(-9, 0))) == list(range(9, 0, -1))


def test_no_worker_is_left_of_a_pool_that_cannot_start(monkeypatch):
    start, name = InterpreterModel.start, "pool that cannot start"

    def start_some(self, worker, turn):
        if worker == 1:
            raise MemoryError("no third of that size")
        start(self, worker, turn)

    monkeypatch.setattr(InterpreterModel, "start", start_some)
    with pytest.raises(MemoryError, match="no third"):
        atoll.Pool(3, model="interpreters", name=name)
    assert not [i for i in atoll.list_interpreters() if name in (i.name or "")]


def test_no_worker_is_left_of_a_pool_whose_start_ctrl_c_ends():
    run_child(
        "-c",
        """
import signal, threading
import atoll
from atoll._pool.models import InterpreterModel
signal.signal(signal.SIGINT, signal.default_int_handler)
start, begun = InterpreterModel.start, threading.Event()

def start_and_interrupt(self, worker, turn):
    start(self, worker, turn)
    if worker == 0:
        begun.set()
    elif worker == 1:
        assert begun.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

InterpreterModel.start = start_and_interrupt
try:
    pool = atoll.Pool(3, model="interpreters", name="interrupted")
except KeyboardInterrupt:
    left = [each for each in atoll.list_interpreters() if each.name]
    assert not left, left
else:
    raise AssertionError("not interrupted")
""",
    )


def test_the_second_interpreter_waits_until_the_process_is_prepared(monkeypatch):
    prepared, go, told = threading.Event(), threading.Event(), []

    def prepare():
        prepared.set()
        assert go.wait(DEADLINE)
        told.append("prepared")

    def begin():
        _interpreter._prepare_process()
        told.append("begun")

    monkeypatch.setattr(_interpreter, "_prepared", False)
    monkeypatch.setattr(_interpreter._fork, "install", lambda: None)
    monkeypatch.setattr(_interpreter._frames, "install", prepare)
    monkeypatch.setattr(_interpreter.atexit, "register", lambda function: function)
    both = [threading.Thread(target=begin) for _ in range(2)]
    both[0].start()
    assert prepared.wait(DEADLINE)
    both[1].start()
    both[1].join(0.2)  # it does not come back yet, however long that is
    go.set()
    for each in both:
        each.join(DEADLINE)
    assert told == ["prepared", "begun", "begun"]


# ---- starts that fail ----------------------------------------------------------------

CUT_OFF = """
import os, sys, threading
import atoll

model, name, moment = sys.argv[1:]
start, late = threading.Thread.start, []

def cut_off(self):
    if not self.name.endswith(name):
        return start(self)
    if moment == "after":
        start(self)
    elif moment == "late":
        late.append(self)
    raise KeyboardInterrupt

threading.Thread.start = cut_off
try:
    atoll.Pool(3, model=model, name="cut-off")
except KeyboardInterrupt:
    for thread in late:
        start(thread)
else:
    raise AssertionError("not interrupted")
for thread in threading.enumerate():
    if thread.name.startswith("cut-off"):
        thread.join(60)
        assert not thread.is_alive(), thread
assert not [each for each in atoll.list_interpreters() if each.name]
try:
    left = os.waitpid(-1, 0)
except ChildProcessError:
    left = None
assert not left or model == "processes" and moment == "late", left
"""


@pytest.mark.parametrize("moment", ["before", "after", "late"])
@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("interpreters", "-care"),
        ("interpreters", "-results"),
        ("threads", "-1"),
        ("threads", "-results"),
        ("processes", "-1"),
        ("processes", "-results"),
    ],
)
def test_nothing_is_left_of_a_pool_whose_thread_ctrl_c_cuts_off(model, name, moment):
    """A thread that `Thread.start` was not seen to start may be there, or come."""
    run_child("-c", CUT_OFF, model, name, moment)


def test_a_pool_of_a_module_whose_initializer_needs_the_module(tmp_path):
    """No other thread can import what this one is about to import: none has to."""
    (tmp_path / "half.py").write_text(
        """
import operator, sys
import atoll

class Initializer:
    def __call__(self, number):
        raise AssertionError("not sent")

    def __reduce__(self):
        import half
        return operator.attrgetter, ("real",)

pool = atoll.Pool(3, model="interpreters", initializer=Initializer(), initargs=(1,))
"""
    )
    run_child(
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import half\n"
        "with half.pool as pool: assert pool.submit(abs, -3).result() == 3",
        str(tmp_path),
    )


def test_a_process_that_cannot_be_started_is_tried_again():
    run_child(
        "-c",
        """
import contextlib, logging, os, resource, threading, time
import atoll

told = []
class Tell(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())
logging.getLogger("concurrent.futures").addHandler(Tell())

def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, told
        time.sleep(0.01)

def seen():
    found = set()
    for _ in range(20):
        with contextlib.suppress(atoll.BrokenProcess):  # it was being killed
            found.add(pool.submit(os.getpid).result())
    return found

with atoll.Pool(2, model="processes", name="two") as pool:
    assert pool.broadcast("here").value == "here"  # both have begun
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
    pool.kill(0)
    wait_until(lambda: seen() and told)
    assert "worker 0 of 'two' could not be started: [Errno 24]" in told[0], told
    assert "the other 1 go on" in told[0], told
    assert len(seen()) == 1
    word = pool.broadcast("word")  # does not wait for who is not there
    assert pool.submit(str.upper, word).result() == "WORD"
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: len(seen()) == 2)
    gate = atoll.Barrier(2, shared=True)
    def both(word, gate):
        gate.wait(60)
        return word
    results = [pool.submit(both, word, gate) for _ in range(2)]
    assert [each.result() for each in results] == ["word"] * 2
    # Where nobody is left the pool breaks.
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free - 1, hard))
    pool.kill(0), pool.kill(1)
    try:
        while True:
            try:
                pool.submit(abs, 1).result()
            except atoll.BrokenProcess:
                pass
    except atoll.BrokenPool as error:
        assert isinstance(error.__cause__, OSError), error
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
""",
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_worker_that_ends_when_no_thread_is_to_be_had(model, monkeypatch):
    start = threading.Thread.start
    refused = threading.Semaphore(0)
    allowed = threading.Event()

    def refuse(thread):
        if thread.name.endswith("-care") and not allowed.is_set():
            refused.release()
            raise RuntimeError("can't start new thread")
        start(thread)

    pool = atoll.Pool(2, model=model, max_tasks_per_worker=1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert pool.submit(abs, -1).result(DEADLINE) == 1
    for _ in range(2):
        assert refused.acquire(timeout=DEADLINE)  # and tried again
    allowed.set()
    for number in range(4):
        assert pool.submit(abs, -number).result(DEADLINE) == number
    pool.shutdown(wait=False)
    assert pool._delivery.over.wait(DEADLINE)  # it waits for nobody

    # Where nobody is left the pool breaks.
    pool = atoll.Pool(2, model=model, max_tasks_per_worker=1)
    allowed.clear()
    with pytest.raises(atoll.BrokenPool) as caught:
        for _ in range(3):
            pool.submit(abs, -1).result(DEADLINE)
    assert isinstance(caught.value.__cause__, RuntimeError)
    pool.shutdown(wait=False)
    assert pool._delivery.over.wait(DEADLINE)
