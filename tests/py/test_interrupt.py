"""`Interpreter.interrupt`: it reaches the call that runs, and never the next one."""

import threading
from pathlib import Path

import pytest
from waiting import wait_until

import atoll

DEADLINE = 60


def threads():
    """The kernel's numbers of all threads of this process."""
    return {entry.name for entry in Path("/proc/self/task").iterdir()}


def interrupt_and_wait(one, *exception):
    """Interrupt, and wait until the helper thread that does it has done it."""
    before = threads()
    one.interrupt(*exception)
    wait_until(lambda: threads() <= before)


def hold_before_the_code(arrived, go):
    """Have the next call stop when it was taken, before the first step of its code.

    What leads to a call begins with an import, and that calls `__import__`.
    """
    import builtins

    plain = builtins.__import__

    def held(name, *args, **kwargs):
        if name == "atoll._remote":
            builtins.__import__ = plain
            arrived.set()
            assert go.wait(DEADLINE)
        return plain(name, *args, **kwargs)

    builtins.__import__ = held


class Call(threading.Thread):
    """A call on a thread of its own."""

    def __init__(self, one, function, *args):
        super().__init__(daemon=True)
        self.one, self.function, self.args = one, function, args
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = self.one.call(self.function, *self.args)
        except BaseException as error:
            self.error = error

    def end(self):
        self.join(DEADLINE)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture
def held():
    """An interpreter with a call that was taken and has not begun."""
    with atoll.Interpreter() as one:
        arrived, go, began = atoll.Event(), atoll.Event(), atoll.Event()
        one.call(hold_before_the_code, arrived, go)
        call = Call(one, began.set)
        assert arrived.wait(DEADLINE)
        assert one.is_running()
        yield one, call, go, began


def test_before_the_first_bytecode(held):
    one, call, go, began = held
    interrupt_and_wait(one, LookupError)
    go.set()
    with pytest.raises(LookupError):
        call.end()
    assert not began.is_set()
    assert one.call(pow, 2, 5) == 32


def test_the_last_of_several_before_the_first_bytecode(held):
    one, call, go, _ = held
    interrupt_and_wait(one, LookupError)
    interrupt_and_wait(one, TimeoutError)
    go.set()
    with pytest.raises(TimeoutError):
        call.end()
    assert one.call(pow, 2, 5) == 32


def test_a_call_that_is_not_interrupted_begins(held):
    _, call, go, began = held
    go.set()
    call.end()
    assert began.is_set()


def test_when_nothing_runs():
    with atoll.Interpreter() as one:
        interrupt_and_wait(one)
        assert one.call(pow, 2, 5) == 32


def test_one_for_a_call_that_is_over_does_not_reach_the_next():
    """The helper thread gets to it only when the next call runs."""

    def first(inside, go):
        import sys
        import types

        class Slow(types.ModuleType):
            """Where the class is looked up: that waits for the next call."""

            def __getattr__(self, name):
                asked.set()
                assert second.wait(60)
                return LookupError

        asked, second = sys.atoll_test
        sys.modules["slow_module"] = Slow("slow_module")
        inside.set()
        assert go.wait(60)

    def keep(*events):
        import sys

        sys.atoll_test = events

    def next_call(second, after):
        second.set()
        assert after.wait(60)
        return sum(range(1000))

    with atoll.Interpreter() as one:
        inside, go, asked = atoll.Event(), atoll.Event(), atoll.Event()
        second, after = atoll.Event(), atoll.Event()
        one.call(keep, asked, second)
        call = Call(one, first, inside, go)
        assert inside.wait(DEADLINE)
        before = threads()
        slow = type("Slow", (Exception,), {"__module__": "slow_module"})
        one.interrupt(slow)
        assert asked.wait(DEADLINE)
        go.set()
        call.end()
        following = Call(one, next_call, second, after)
        wait_until(lambda: threads() <= before | {str(following.native_id)})
        after.set()
        assert following.end() == sum(range(1000))
