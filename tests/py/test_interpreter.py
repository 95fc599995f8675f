"""`atoll.Interpreter`: values, errors, wrong uses."""

import gc
import os
import pickle
import sys
import threading
import time
import types
import warnings

import pytest

import atoll


@pytest.fixture
def interpreter():
    with atoll.Interpreter(name="test") as one:
        yield one


def add(a, b=0):
    return a + b


def native_id():
    return threading.get_native_id()


def test_call_returns_the_result(interpreter):
    assert interpreter.call(add, 1, b=2) == 3
    assert interpreter.call(lambda x: x * 2, "ab") == "abab"
    step = 5
    assert interpreter.call(lambda x: x + step, 1) == 6


def test_it_runs_on_its_own_thread_always_the_same(interpreter):
    first = interpreter.call(native_id)
    assert first != threading.get_native_id()
    assert interpreter.call(native_id) == first


def test_set_and_exec_work_in_main(interpreter):
    interpreter.set(a=20, text="x")
    interpreter.exec("b = a + len(text); assert __name__ == '__main__'")
    assert interpreter.call(eval, "b") == 21


def test_error_has_its_type_and_the_remote_traceback(interpreter):
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        interpreter.exec("def inner():\n    return 1 / 0\n\ninner()")
    cause = caught.value.__cause__
    assert isinstance(cause, atoll.RemoteTraceback)
    assert "in inner" in str(cause)
    assert "return 1 / 0" in str(cause)


def test_closed_interpreter_refuses():
    one = atoll.Interpreter()
    one.close()
    one.close()
    with pytest.raises(atoll.ClosedError, match=f"interpreter {one.id} is closed"):
        one.call(add, 1)
    assert one not in atoll.list_interpreters()


def test_twenty_at_once():
    results = []

    def work(number):
        with atoll.Interpreter() as one:
            one.exec("import json, asyncio, decimal, datetime")
            results.append(one.call(add, number, 1))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == list(range(1, 21))


# ---- errors -----------------------------------------------------------------------


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def raise_unpicklable():
    raise Unpicklable("text of it", 2)


def raise_group():
    raise BaseExceptionGroup("two", [ValueError(1), KeyboardInterrupt()])


def test_error_that_cannot_be_rebuilt_comes_in_words(interpreter):
    with pytest.raises(atoll.InterpreterError, match=r"Unpicklable: text of it"):
        interpreter.call(raise_unpicklable)


def test_error_of_a_class_that_exists_only_there(interpreter):
    # A class with no importable home travels by value.
    with pytest.raises(Exception, match="only here") as caught:
        interpreter.exec("class Local(Exception): pass\nraise Local('only here')")
    assert type(caught.value).__name__ == "Local"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("raise KeyboardInterrupt", KeyboardInterrupt),
        ("raise GeneratorExit(1)", GeneratorExit),
        ("import json; json.loads('{')", ValueError),
        ("import no_such_module", ModuleNotFoundError),
        ("a b", SyntaxError),
        ("open('/no/such/file')", FileNotFoundError),
    ],
)
def test_errors_keep_their_type(interpreter, source, kind):
    with pytest.raises(kind) as caught:
        interpreter.exec(source)
    assert isinstance(caught.value.__cause__, atoll.RemoteTraceback)


def test_exception_group(interpreter):
    with pytest.raises(BaseExceptionGroup) as caught:
        interpreter.call(raise_group)
    kinds = [type(each) for each in caught.value.exceptions]
    assert kinds == [ValueError, KeyboardInterrupt]


def test_sys_exit_ends_only_the_call(interpreter):
    with pytest.raises(atoll.InterpreterError, match="SystemExit: 3"):
        interpreter.exec("import sys; sys.exit(3)")
    assert interpreter.call(add, 1) == 1


def test_a_wrong_argument_of_the_class_is_all_that_is_said(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with pytest.raises(TypeError):
        atoll.Interpreter("name")
    gc.collect()
    assert told == []


def test_result_and_argument_that_cannot_be_sent(interpreter):
    with pytest.raises(atoll.NotShareableError, match="lock"):
        interpreter.call(threading.Lock)
    with pytest.raises(TypeError, match="lock"):
        interpreter.call(add, threading.Lock())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda one: one.call(3),
        lambda one: one.exec(3),
        lambda one: one.interrupt(3),
        lambda one: one.set(3),
    ],
)
def test_wrong_arguments(interpreter, wrong):
    with pytest.raises(TypeError):
        wrong(interpreter)


# ---- the setting ------------------------------------------------------------------


def setting():
    return (
        list(sys.path),
        list(sys.argv),
        tuple(sys.flags),
        sys.getrecursionlimit(),
        [
            (
                each[0],
                each[2],
                each[4],
                *(getattr(each[i], "pattern", each[i]) for i in (1, 3)),
            )
            for each in warnings.filters
        ],
    )


def test_it_is_set_up_like_its_creator():
    sys.path.append("/made/up")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "some text", DeprecationWarning, "x.y", 3)
            warnings.simplefilter("default", DeprecationWarning)
            # As CPython's own ones are: a module's name, without a pattern.
            own: list = warnings.filters
            own.insert(0, ("default", None, DeprecationWarning, "__main__", 0))
            with atoll.Interpreter() as one:
                assert one.call(setting) == setting()
    finally:
        sys.path.remove("/made/up")


def test_it_has_a_gil_of_its_own(interpreter):
    # A loop that never lets go of its GIL's interpreter does not stop another.
    with atoll.Interpreter() as busy:
        thread = threading.Thread(target=spin, args=(busy,))
        thread.start()
        assert interpreter.call(add, 1, 2) == 3
        while not busy.is_running():
            time.sleep(0.001)
        busy.interrupt()
        thread.join(60)
        assert not thread.is_alive()


def spin(one):
    try:
        one.exec("while True: pass")
    except KeyboardInterrupt:
        pass


# ---- handles, and interpreters among themselves --------------------------------------


def test_handles_are_equal_and_survive_pickling(interpreter):
    (found,) = [one for one in atoll.list_interpreters() if one == interpreter]
    copy = pickle.loads(pickle.dumps(found))
    assert copy == interpreter
    assert (copy.id, copy.name) == (interpreter.id, "test")
    assert len({copy, found, interpreter}) == 1
    del copy, found
    assert interpreter.call(add, 2) == 2


def test_no_current_interpreter_in_main():
    assert atoll.get_current() is None


def make_and_use(number):
    import atoll as inner

    with inner.Interpreter() as one:
        return one.call(pow, 2, number), inner.get_current() is not None


def test_an_interpreter_makes_another(interpreter):
    assert interpreter.call(make_and_use, 5) == (32, True)


def call_through(one, function, *args):
    return one.call(function, *args)


def test_one_calls_another(interpreter):
    with atoll.Interpreter() as other:
        assert interpreter.call(call_through, other, add, 1, 2) == 3
        with pytest.raises(ZeroDivisionError):
            interpreter.call(call_through, other, divmod, 1, 0)


def test_a_circle_of_calls_is_refused_not_waited_for(interpreter):
    with atoll.Interpreter() as other:
        with pytest.raises(RuntimeError, match="would wait for ever"):
            interpreter.call(call_through, other, call_through, interpreter, add, 1)
        assert interpreter.call(add, 1) == 1


def test_calls_from_many_threads_queue_up(interpreter):
    interpreter.exec("order = []\ndef note(n):\n    order.append(n)\n    return n")
    note = "lambda n: __import__('__main__').note(n)"
    results = []

    def work(number):
        results.append(interpreter.call(eval, f"({note})({number})"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == list(range(10))
    assert interpreter.call(eval, "len(order)") == 10


def test_code_objects_and_sources(interpreter):
    code = compile("value = 3", "somewhere.py", "exec")
    assert isinstance(code, types.CodeType)
    interpreter.exec(code)
    assert interpreter.call(eval, "value") == 3


def test_repr_tells_the_state(interpreter):
    assert repr(interpreter) == f"<atoll.Interpreter {interpreter.id} 'test' idle>"


def test_buffers_travel_with_calls(interpreter):
    data = bytes(range(256)) * 1024
    assert interpreter.call(bytearray, data) == bytearray(data)
    assert interpreter.call(len, memoryview(bytearray(data))) == len(data)


def test_threads_it_starts_are_waited_for():
    reader, writer = os.pipe()
    with atoll.Interpreter() as interpreter:
        interpreter.exec(
            f"""
import os, threading, time
def task():
    time.sleep(0.5)
    os.write({writer}, b"F")
threading.Thread(target=task).start()
"""
        )
    os.close(writer)
    assert os.read(reader, 9) == b"F"
    os.close(reader)


def test_submit_and_run():
    import asyncio

    async def drive(interpreter):
        return await asyncio.gather(
            interpreter.run(pow, 2, 5), interpreter.run(pow, 3, 2)
        )

    with atoll.Interpreter() as interpreter:
        futures = [interpreter.submit(pow, 2, n) for n in range(10)]
        assert [one.result(60) for one in futures] == [2**n for n in range(10)]
        assert isinstance(interpreter.submit(int, "x").exception(60), ValueError)
        assert asyncio.run(drive(interpreter)) == [32, 9]
    with pytest.raises(atoll.ClosedError):
        interpreter.submit(int)
