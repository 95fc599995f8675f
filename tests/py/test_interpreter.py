"""`atoll.Interpreter`: values, errors, wrong uses."""

import threading

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
