"""Channels and locks between interpreters, and what becomes of them at a close."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from atoll import Channel, ClosedError, Event, Interpreter, Lock, SharedBuffer, select

DEADLINE = 60.0


def echo(there: Channel, back: Channel) -> None:
    for value in there:
        back.send(value)


def produce(channel: Channel, name: int, count: int) -> int:
    for i in range(count):
        channel.send((name, i))
    return count


def call(interpreter: Interpreter, function: Any, *args: Any) -> Any:
    """A future of `function(*args)` in `interpreter`."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(interpreter.call, function, *args)
    pool.shutdown(wait=False)
    return future


def test_echo() -> None:
    there, back = Channel(4), Channel(4)
    with Interpreter() as interpreter:
        echoing = call(interpreter, echo, there, back)
        for value in [1, "two", [3], {"four": 4}, None]:
            there.send(value)
            assert back.recv(timeout=DEADLINE) == value
        there.close()
        echoing.result(DEADLINE)


def test_four_producers() -> None:
    channels = [Channel(8), Channel(8)]
    count = 500
    interpreters = [Interpreter() for _ in range(4)]
    try:
        futures = [
            call(interpreter, produce, channels[name % 2], name, count)
            for name, interpreter in enumerate(interpreters)
        ]
        received = [select(*channels, timeout=DEADLINE)[1] for _ in range(4 * count)]
        for future in futures:
            assert future.result(DEADLINE) == count
    finally:
        for interpreter in interpreters:
            interpreter.close()
    for name in range(4):
        assert [i for who, i in received if who == name] == list(range(count))


def fill(buffer: SharedBuffer, lock: Lock, times: int) -> None:
    for _ in range(times):
        with lock:
            buffer[0] = (buffer[0] + 1) % 256


def test_memory_and_lock_between_interpreters() -> None:
    buffer, lock = SharedBuffer(1), Lock()
    with Interpreter() as first, Interpreter() as second:
        futures = [call(each, fill, buffer, lock, 1000) for each in (first, second)]
        for future in futures:
            future.result(DEADLINE)
    assert buffer[0] == 2000 % 256


def send_one(channel: Channel) -> None:
    channel.send("last words")


def test_the_last_sender_closes() -> None:
    channel = Channel()
    interpreter = Interpreter()
    interpreter.call(send_one, channel)
    assert channel.recv(timeout=DEADLINE) == "last words"
    waiting = threading.Event()

    def wait() -> Any:
        waiting.set()
        return channel.recv(timeout=DEADLINE)

    pool = ThreadPoolExecutor(1)
    future = pool.submit(wait)
    assert waiting.wait(DEADLINE)
    interpreter.close()
    with pytest.raises(ClosedError):
        future.result(DEADLINE)
    pool.shutdown()


def wait_in_a_thread(started: Event, never: Channel, outcome: Channel) -> None:
    import threading

    def wait() -> None:
        started.set()
        try:
            never.recv()
        except BaseException as error:
            outcome.send(type(error).__name__)

    # A daemon, which it would be by default here, is ended by SystemExit as well.
    threading.Thread(target=wait, daemon=False).start()


def test_a_closing_interpreter_wakes_its_waiters() -> None:
    started, never, outcome = Event(), Channel(keep_open=True), Channel(keep_open=True)
    interpreter = Interpreter()
    interpreter.call(wait_in_a_thread, started, never, outcome)
    assert started.wait(DEADLINE)
    interpreter.close()
    assert outcome.recv(timeout=DEADLINE) == "ClosedError"
