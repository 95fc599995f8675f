"""One object, many threads at once: what a GIL would hide.

On every build, and the sharper the less of a GIL there is: on a free-threaded one the
threads of one interpreter really run at once.
"""

import collections
import contextlib
import itertools
import threading
from collections.abc import Callable

import pytest
import sins

import atoll

THREADS = 8
DEADLINE = 120


def together(*work: Callable[[], object]) -> list[object]:
    """Run each of `work` on a thread of its own, all begun at once; their results.

    What one raises is raised here.
    """
    begin = threading.Barrier(len(work))
    results: list[object] = [None] * len(work)
    errors: list[BaseException] = []

    def run(index: int, function: Callable[[], object]) -> None:
        try:
            begin.wait(DEADLINE)
            results[index] = function()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(work)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]
    return results


def test_channel_gives_each_object_once_and_in_order() -> None:
    channel = atoll.Channel(capacity=16)
    each = 1000
    left = itertools.count(1)

    def send(sender: int) -> None:
        for number in range(each):
            channel.send((sender, number))
        if next(left) == THREADS // 2:
            channel.close()

    def receive() -> list[tuple[int, int]]:
        return list(channel)

    work: list[Callable[[], object]] = []
    for sender in range(THREADS // 2):
        work += [lambda sender=sender: send(sender), receive]  # type: ignore[misc]
    received = [got for got in together(*work) if got is not None]
    for got in received:
        for sender in range(THREADS // 2):
            numbers = [n for s, n in got if s == sender]
            assert numbers == sorted(numbers)
    every = sorted(itertools.chain.from_iterable(received))  # type: ignore[call-overload]
    assert every == [(s, n) for s in range(THREADS // 2) for n in range(each)]


def test_channel_delivers_what_it_accepted_when_it_closes() -> None:
    for _ in range(20):
        channel = atoll.Channel(capacity=64)
        close_at = threading.Event()

        def send(channel: atoll.Channel, close_at: threading.Event) -> int:
            sent = 0
            with contextlib.suppress(atoll.ClosedError):
                while True:
                    channel.send(sent)
                    sent += 1
                    if sent == 10:
                        close_at.set()
            return sent

        def receive(channel: atoll.Channel) -> int:
            return sum(1 for _ in channel)

        def close(channel: atoll.Channel, close_at: threading.Event) -> None:
            assert close_at.wait(DEADLINE)
            channel.close()

        *counts, _ = together(
            *[lambda c=channel, e=close_at: send(c, e)] * 4,  # type: ignore[misc]
            *[lambda c=channel: receive(c)] * 3,  # type: ignore[misc]
            lambda c=channel, e=close_at: close(c, e),  # type: ignore[misc]
        )
        assert sum(counts[:4]) == sum(counts[4:])  # type: ignore[arg-type]


class Refusing:
    """Cannot be made again by whoever receives it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return refuse, (self.number,)


def refuse(number: int) -> object:
    raise LookupError(number)


def test_batches_lose_nothing_to_objects_that_cannot_be_unpacked() -> None:
    channel = atoll.Channel(capacity=1 << 14)
    count = 10_000
    channel.send_many(Refusing(n) if n % 7 == 0 else n for n in range(count))
    channel.close()

    def receive() -> list[int]:
        got: list[int] = []
        while True:
            try:
                got += channel.recv_many()
            except LookupError as error:
                got.append(error.args[0])
            except atoll.ClosedError:
                return got

    every = list(itertools.chain.from_iterable(together(*[receive] * THREADS)))  # type: ignore[call-overload]
    # One thread may see the end while another still holds what it will leave.
    every += receive()
    assert sorted(every) == list(range(count))


def test_batches_keep_their_order_around_objects_that_cannot_be_unpacked() -> None:
    channel = atoll.Channel(capacity=4096)
    refused = {0, 256, 300, 2000}
    channel.send_many(Refusing(n) if n in refused else n for n in range(4000))
    channel.close()
    got: list[int] = []
    with contextlib.suppress(atoll.ClosedError):
        while True:
            try:
                got += channel.recv_many()
            except LookupError as error:
                got.append(error.args[0])
    assert got == list(range(4000))


def test_lock_lets_one_in() -> None:
    lock = atoll.Lock()
    inside = collections.Counter[str]()

    def work() -> None:
        for _ in range(500):
            with lock:
                before = inside["count"]
                inside["count"] = before + 1

    together(*[work] * THREADS)
    assert inside["count"] == THREADS * 500


def test_buffer_is_released_once_and_never_under_a_view() -> None:
    for _ in range(100):
        buffer = atoll.SharedBuffer(64)

        def look(buffer: atoll.SharedBuffer) -> str:
            try:
                with memoryview(buffer) as view:
                    view[0] = 1
                    return "seen"
            except ValueError:
                return "released"

        def transfer(buffer: atoll.SharedBuffer) -> str:
            while True:
                try:
                    moved = atoll.transfer(buffer)
                except BufferError:
                    continue
                except ValueError:
                    return "late"
                assert moved.nbytes == 64
                return "moved"

        results = together(
            *[lambda b=buffer: look(b)] * 4,  # type: ignore[misc]
            *[lambda b=buffer: transfer(b)] * 4,  # type: ignore[misc]
        )
        assert sorted(results[4:]) == ["late", "late", "late", "moved"]  # type: ignore[type-var]


def double(number: int) -> int:
    return number * 2


@pytest.mark.parametrize("model", ["threads", "interpreters"])
def test_pool_answers_each_of_its_submitters(model: str) -> None:
    with atoll.Pool(2, model=model) as pool:

        def submit(start: int) -> list[int]:
            futures = [pool.submit(double, start + n) for n in range(200)]
            return [future.result(DEADLINE) for future in futures]

        results = together(
            *[lambda start=start: submit(start * 1000) for start in range(THREADS)]  # type: ignore[misc]
        )
    for start, result in enumerate(results):
        assert result == [(start * 1000 + n) * 2 for n in range(200)]


def test_interpreter_is_called_interrupted_and_closed_from_everywhere() -> None:
    one = atoll.Interpreter()
    over = threading.Event()

    def call() -> int:
        done = 0
        for number in range(100):
            try:
                assert one.call(double, number) == number * 2
                done += 1
            except KeyboardInterrupt:
                pass
        return done

    def interrupt() -> None:
        for _ in range(200):
            if over.wait(0.001):
                break
            one.interrupt()

    nagging = [threading.Thread(target=interrupt) for _ in range(2)]
    for thread in nagging:
        thread.start()
    try:
        together(*[call] * (THREADS - 2))
    finally:
        over.set()
        for thread in nagging:
            thread.join(DEADLINE)
    # An interrupt hits the call that it was meant for, or nothing.
    assert [one.call(double, n) for n in range(20)] == [n * 2 for n in range(20)]
    together(*[one.close] * THREADS)
    assert one.closed


FIRST_USE = """
import threading
import atoll
from atoll import _atoll

class Kind(Exception):
    def __init__(self, number):
        self.number = number

def use(begin, done):
    begin.wait(60)
    channel = atoll.Channel(capacity=4)
    lock = atoll.Lock()
    channel.send([Kind, Kind(1), lock, channel, lambda: 1])
    kind, error, twin, again, function = channel.recv()
    assert kind is Kind and error.number == 1 and twin == lock and again == channel
    assert function() == 1
    done.append(True)

begin, done = threading.Barrier(8), []
threads = [threading.Thread(target=use, args=(begin, done)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert len(done) == 8, done
"""


def test_first_use_by_several_threads() -> None:
    # What an interpreter makes when it is first needed, it makes once.
    sins.run_child("-c", FIRST_USE)
    for _ in range(3):
        with atoll.Interpreter() as one:
            one.exec(FIRST_USE)


def test_first_imports_by_several_threads() -> None:
    names = ["global_state", "heap_type", "static_type", "short_name", "without_gil"]
    folders = [sins.build(name) for name in names]
    code = f"""
import importlib, sys, threading
names = {[name for name in names if name != "short_name"]!r}
begin, done = threading.Barrier(len(names)), []
def load(name):
    begin.wait(60)
    done.append(importlib.import_module(name))
threads = [threading.Thread(target=load, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert sorted(m.__name__ for m in done) == sorted(names)
"""
    sins.in_interpreters(code, *folders, count=2, rounds=2)
