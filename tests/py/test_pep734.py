"""`atoll.interpreters` and `atoll.futures`: what PEP 734 asks of them."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import atoll
from atoll import interpreters
from atoll.futures import BrokenInterpreterPool, InterpreterPoolExecutor
from atoll.interpreters import _queues as queues

WAIT = 60


@pytest.fixture
def interpreter():
    made = interpreters.create()
    yield made
    try:
        made.close()
    except interpreters.InterpreterNotFoundError:
        pass


def test_interpreter_has_the_standard_librarys_life(interpreter):
    assert interpreter.whence == "_interpreters module"
    assert interpreter in interpreters.list_all()
    assert interpreters.Interpreter(interpreter.id) is interpreter
    assert interpreters.get_current() is interpreters.get_main()
    assert not interpreter.is_running()
    interpreter.close()
    assert interpreter not in interpreters.list_all()
    for use in (interpreter.close, interpreter.is_running):
        with pytest.raises(interpreters.InterpreterNotFoundError):
            use()
    with pytest.raises(interpreters.InterpreterNotFoundError):
        interpreters.Interpreter(interpreter.id + 1_000_000)


def test_main_is_not_to_be_changed():
    main = interpreters.get_main()
    assert main.is_running()
    for change in (
        main.close,
        lambda: main.exec("1"),
        lambda: main.call(int),
        lambda: main.prepare_main(x=1),
    ):
        with pytest.raises(interpreters.InterpreterError, match="unrecognized"):
            change()


def test_last_object_ends_the_interpreter():
    made = interpreters.create()
    number = made.id
    assert made.call(os.getpid) == os.getpid()
    del made
    assert number not in [one.id for one in interpreters.list_all()]


def test_exec_and_what_it_raises(interpreter):
    interpreter.prepare_main({"x": 2}, y=3)
    interpreter.exec("z = x * y")
    assert interpreter.call(eval, "z") == 6
    with pytest.raises(interpreters.ExecutionFailed) as caught:
        interpreter.exec("def inner():\n    raise KeyError('gone')\ninner()")
    excinfo = caught.value.excinfo
    assert excinfo.type.__name__ == "KeyError"
    assert excinfo.msg == "'gone'"
    assert excinfo.formatted == "KeyError: 'gone'"
    assert "in inner" in excinfo.errdisplay
    assert "_inside" not in excinfo.errdisplay
    assert "Uncaught in the interpreter:" in str(caught.value)
    with pytest.raises(TypeError):
        interpreter.exec(10)
    with pytest.raises(ValueError):
        interpreter.exec(lambda argument: argument)


def test_functions_as_scripts_and_calls_use_main(interpreter):
    def script():
        global bound
        bound = __name__

    # PEP 734 wants functions without globals here; one with them is refused.
    with pytest.raises(ValueError):
        interpreter.exec(script)

    def own_globals():
        return globals()["__name__"]

    assert interpreter.call(own_globals) == "__main__"
    interpreter.exec("value = 17")
    assert interpreter.call(eval, "value") == 17
    assert "value" in interpreter.call(dir)


def test_running_is_refused_and_not_queued(interpreter):
    gate = interpreters.create_queue()
    reached = interpreters.create_queue()

    def hold(reached, gate):
        reached.put(None)
        gate.get(timeout=60)

    thread = interpreter.call_in_thread(hold, reached, gate)
    reached.get(timeout=WAIT)
    try:
        assert interpreter.is_running()
        for use in (
            lambda: interpreter.exec("1"),
            lambda: interpreter.prepare_main(x=1),
            interpreter.close,
        ):
            with pytest.raises(interpreters.InterpreterError, match="running"):
                use()
    finally:
        gate.put(None)
        thread.join(WAIT)
    interpreter.exec("1")


def test_what_cannot_be_sent(interpreter):
    with pytest.raises(interpreters.NotShareableError):
        interpreter.call(len, threading.Lock())
    with pytest.raises(interpreters.NotShareableError):
        interpreter.call(threading.Lock)
    with pytest.raises(interpreters.NotShareableError):
        interpreters.create_queue().put(threading.Lock())
    assert interpreters.is_shareable((1, "two", interpreters.create_queue()))
    assert not interpreters.is_shareable([1])


# ---- queues -------------------------------------------------------------------------


def test_queue_bounds_and_timeouts():
    queue = interpreters.create_queue(2)
    queue.put(1)
    queue.put([2])
    assert queue.full()
    assert queue.qsize() == 2
    begin = time.monotonic()
    with pytest.raises(interpreters.QueueFull):
        queue.put(3, timeout=0.3)
    assert time.monotonic() - begin >= 0.3
    with pytest.raises(interpreters.QueueFull):
        queue.put_nowait(3)
    assert [queue.get(), queue.get()] == [1, [2]]
    begin = time.monotonic()
    with pytest.raises(interpreters.QueueEmpty):
        queue.get(timeout=0.3)
    assert time.monotonic() - begin >= 0.3
    with pytest.raises(interpreters.QueueEmpty):
        queue.get_nowait()
    with pytest.raises(ValueError):
        queue.get(timeout=-1)
    with pytest.raises(queues.QueueNotFoundError):
        interpreters.Queue(10**9)


def test_queue_is_one_object_and_lives_on_its_way(interpreter):
    carrier = interpreters.create_queue()
    carried = interpreters.create_queue()
    number = carried.id
    carrier.put(carried)
    assert carrier.get() is carried
    carried.put("kept")
    carrier.put(carried)
    del carried
    assert interpreter.call(lambda carrier: carrier.get().get(), carrier) == "kept"
    with pytest.raises(queues.QueueNotFoundError):
        # The reply has come, but the interpreter may not have dropped it yet.
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            interpreter.exec("import gc; gc.collect()")
            interpreters.Queue(number)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_queue_items_of_a_closed_interpreter(count):
    queue = interpreters.create_queue()
    made = interpreters.create()

    def fill(queue, count):
        from atoll.interpreters._queues import UNBOUND_ERROR, UNBOUND_REMOVE

        for _ in range(count):
            queue.put("replaced")
            queue.put("removed", unbounditems=UNBOUND_REMOVE)
            queue.put("error", unbounditems=UNBOUND_ERROR)

    made.call(fill, queue, count)
    queue.put("main's")
    assert queue.qsize() == 3 * count + 1
    made.close()
    assert queue.qsize() == 2 * count + 1
    for _ in range(count):
        assert queue.get() is queues.UNBOUND
        with pytest.raises(queues.ItemInterpreterDestroyed):
            queue.get()
    assert queue.get() == "main's"
    queue.put("after")  # the end of the list was not lost
    assert queue.get() == "after"


def test_removed_items_make_room(interpreter):
    queue = interpreters.create_queue(1, unbounditems=queues.UNBOUND_REMOVE)
    interpreter.call(lambda queue: queue.put(0), queue)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(queue.put, 1, timeout=WAIT)
        interpreter.close()
        waiting.result(WAIT)
    assert queue.get() == 1


def test_queue_loses_nothing_between_many():
    made = [interpreters.create() for _ in range(2)]
    there = interpreters.create_queue(4)
    back = interpreters.create_queue()

    def echo(there, back):
        while (value := there.get(timeout=60)) is not None:
            back.put(value)

    threads = [one.call_in_thread(echo, there, back) for one in made]
    for value in range(500):
        there.put(value, timeout=WAIT)
    got = sorted(back.get(timeout=WAIT) for _ in range(500))
    for _ in threads:
        there.put(None, timeout=WAIT)
    for thread in threads:
        thread.join(WAIT)
    for one in made:
        one.close()
    assert got == list(range(500))


# ---- the executor -------------------------------------------------------------------


def _here():
    return atoll.interpreters.get_current().id


def test_executor_runs_in_interpreters_of_its_own():
    with InterpreterPoolExecutor(2) as executor:
        places = {executor.submit(_here).result(WAIT) for _ in range(8)}
        assert 0 not in places
        name = executor.submit(lambda: __import__("threading").current_thread().name)
        assert name.result(WAIT).startswith("InterpreterPoolExecutor-")
        assert len(places) <= 2
        assert list(executor.map(lambda x: x * x, range(5))) == [0, 1, 4, 9, 16]
    left = {one.id for one in interpreters.list_all()}
    assert not places & left
    with pytest.raises(RuntimeError):
        executor.submit(int)


def test_executor_gives_back_what_was_raised():
    class Local(Exception):
        pass

    def fail():
        raise Local("told")

    with (
        InterpreterPoolExecutor(1) as executor,
        pytest.raises(Local, match="told") as caught,
    ):
        executor.submit(fail).result(WAIT)
    assert isinstance(caught.value.__cause__, interpreters.ExecutionFailed)
    assert caught.value.__cause__.excinfo.msg == "told"


def test_executor_initializer():
    def begin(value):
        import sys

        sys.begun = value

    def look():
        import sys

        return sys.begun

    with InterpreterPoolExecutor(2, initializer=begin, initargs=(7,)) as executor:
        assert executor.submit(look).result(WAIT) == 7
    with InterpreterPoolExecutor(1, initializer=begin) as executor:
        with pytest.raises(BrokenInterpreterPool):
            executor.submit(look).result(WAIT)
        with pytest.raises(BrokenInterpreterPool):
            executor.submit(look)


def test_process_ends_with_everything_open():
    code = """
from atoll import interpreters
from atoll.futures import InterpreterPoolExecutor
kept = interpreters.create()
queue = interpreters.create_queue()
kept.call(queue.put, 1)
executor = InterpreterPoolExecutor(2)
assert executor.submit(pow, 2, 5).result(60) == 32
print("ended")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
