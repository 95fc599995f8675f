"""Received ints, floats, str, bytes and tuples are made of spares: what is kept stays."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from waiting import DEADLINE_S

from atoll import Channel, Interpreter

KINDS: dict[str, Callable[[int], Any]] = {
    "ints": lambda i: 1100 + 997 * i,
    "ints of two digits": lambda i: (1 << 35) + i,
    "negative ints": lambda i: -300 - i,
    "ints around the constants": lambda i: 200 + i % 900,
    "floats": lambda i: i + 0.25,
    "bytes": lambda i: (b"%07d" % i)[: i % 8],
    "str": lambda i: f"{i:07}"[: i % 8],
    "str of Latin-1": lambda i: f"é{i}"[:7],
    "tuples": lambda i: (i, f"n{i % 999}", i / 4)[: 1 + i % 3],
    "tuples of four": lambda i: (i, -i, b"b%d" % (i % 999), None),
    "longer tuples": lambda i: (*range(i, i + 5 + i % 12),),
    "tuples of what changes": lambda i: (i, f"{i}", i / 8, b"%d" % i, True)[i % 5 :][
        :3
    ],
    "lists": lambda i: [i, f"{i}"],
    "dicts": lambda i: {"number": i, "half": i / 2},
    "of all sizes": lambda i: ("x" * (i % 1500), i),
    "long str": lambda i: f"number {i} of many",
    "str of all sizes": lambda i: f"{i:04}" * (i % 40),
    "bytes of all sizes": lambda i: (b"%04d" % i) * (i % 40),
    "bytes to 140": lambda i: bytes(range(i % 141)),
    "str to 140": lambda i: "".join(map(chr, range(i % 141))),
    "Latin-1 to 140": lambda i: "ä" * (i % 141),
    "mixed": lambda i: (i, i / 8, f"s{i % 9999}", b"b%d" % (i % 9999), None)[i % 5],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [1, 7, 256])
def test_what_is_kept_stays_as_it_is(kind: str, limit: int) -> None:
    """Each batch lets go of some of what it got, and keeps the others for ever."""
    make, choice = KINDS[kind], random.Random(7)
    channel = Channel(1024)
    kept: list[tuple[int, Any]] = []
    for first in range(0, 6000, 250):
        assert channel.send_many([make(i) for i in range(first, first + 250)]) == 250
        number = first
        while number < first + 250:
            for value in channel.recv_many(limit):
                if choice.random() < 0.3:
                    kept.append((number, value))
                number += 1
    assert len(kept) > 1500
    for number, value in kept:
        expected = make(number)
        assert (type(value), value) == (type(expected), expected)
        if type(value) not in (list, dict):
            assert hash(value) == hash(expected)
        assert repr(value) == repr(expected)


def test_a_hash_that_was_asked_for_is_forgotten() -> None:
    channel = Channel(8)
    for i in range(3000):
        for sent in (f"k{i:05}", b"k%010d" % i, (i, f"k{i:05}"), (i,) * 4):
            channel.send(sent)
            received = channel.recv()
            assert {received: i}[sent] == i
            assert hash(received) == hash(sent)


def test_an_interned_str_is_left_alone() -> None:
    """The interpreter's dict of them holds it without a reference that counts."""
    channel = Channel(8)

    def receive(text: str) -> str:
        channel.send(text)
        received: str = channel.recv()
        assert received == text
        return received

    for i in range(1500):
        sys.intern(receive(f"in{i:04}"))
    kept = [receive(f"no{i:04}") for i in range(1500)]
    assert not any(sys._is_interned(text) for text in kept)
    for i in range(1500):
        assert sys.intern(f"in{i:04}") == f"in{i:04}"


def test_names_of_attributes_stay() -> None:
    """setattr() interns what it is given."""
    channel = Channel(8)

    class Box:
        pass

    box = Box()
    for i in range(1500):
        channel.send(f"a{i:04}")
        setattr(box, channel.recv(), i)
    assert vars(box) == {f"a{i:04}": i for i in range(1500)}


def test_constants_are_the_constants() -> None:
    channel = Channel(1024)
    for _ in range(3):
        sent = [*range(-5, 257), "", "x", b"", b"x", 0.0, True, None]
        channel.send_many(sent)
        received: list[Any] = []
        while len(received) < len(sent):
            received += channel.recv_many()
        assert received == sent
        assert all(
            one is two
            for one, two in zip(received, sent, strict=True)
            if type(one) is not float
        )


def test_an_item_of_a_tuple_outlives_it() -> None:
    """The tuple is used again, the item that somebody kept is not."""
    channel = Channel(1024)
    kept: list[Any] = []
    for first in range(0, 6000, 500):
        channel.send_many([(i + 0.5, f"s{i:05}", i) for i in range(first, first + 500)])
        number = first
        while number < first + 500:
            for half, text, same in channel.recv_many():
                kept.append((half, text, same)[number % 3])
                number += 1
    assert kept == [(i + 0.5, f"s{i:05}", i)[i % 3] for i in range(6000)]


def test_tuples_are_collected() -> None:
    """What a spare tuple had in it before does not keep other things alive."""
    channel = Channel(1024)
    for _ in range(8):
        channel.send_many([(i, "text") for i in range(256)])
        received = channel.recv_many()
        cycle: list[Any] = [received]
        cycle.append(cycle)
        del cycle, received
        gc.collect()
    channel.send_many([(i, "last") for i in range(256)])
    assert channel.recv_many() == [(i, "last") for i in range(256)]


def test_keys_of_dicts_are_what_they_were() -> None:
    """Far more than are remembered, that begin and end alike, of all lengths."""
    channel, choice = Channel(4), random.Random(11)
    letters = "abé\xff\0"
    keys = ["".join(choice.choices(letters, k=i % 40)) for i in range(3000)]
    keys += [f"a long key that differs in {i:04} in its middle" for i in range(300)]
    for _ in range(400):
        sent = {key: i for i, key in enumerate(choice.sample(keys, 20))}
        channel.send(sent)
        received = channel.recv()
        assert received == sent
        assert list(map(len, received)) == list(map(len, sent))


@pytest.mark.skipif(not sys._is_gil_enabled(), reason="without a GIL none are kept")
def test_dicts_share_their_keys() -> None:
    channel = Channel(4)
    channel.send([{"number": 1, "two words": 2}])
    channel.send({"two words": 3, "number": 4})
    (first,), second = channel.recv(), channel.recv()
    assert {id(key) for key in first} == {id(key) for key in second}


class Counted:
    """Says how often one was unpacked; the third cannot be."""

    unpacked = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, int]) -> None:
        Counted.unpacked += 1
        if state["number"] == 3:
            raise ValueError("not the third")
        self.__dict__.update(state)


def test_what_cannot_be_unpacked_is_tried_once_a_receive() -> None:
    channel = Channel(64)
    channel.send_many([1, "a str of many", (1, 2), *map(Counted, range(1, 6)), "last"])
    Counted.unpacked = 0
    batch = channel.recv_many()
    assert batch[:3] == [1, "a str of many", (1, 2)]
    assert [each.number for each in batch[3:]] == [1, 2]
    assert Counted.unpacked == 3
    with pytest.raises(ValueError, match="not the third"):
        channel.recv_many()
    assert Counted.unpacked == 4
    batch = channel.recv_many()
    assert [each.number for each in batch[:2]] == [4, 5]
    assert batch[2:] == ["last"]


def test_a_length_is_that_of_the_value() -> None:
    """A spare has room for the longest, and ends where its value ends."""
    channel = Channel(8)
    for i in range(9000):
        text = ("abcdefg" * 12)[: 2 + i % 82]
        channel.send(text)
        assert (received := channel.recv()) == text
        assert len(received) == len(text) == len(received.encode())
        assert received + "!" == text + "!"
        channel.send(text.encode())
        assert (data := channel.recv()) == text.encode()
        assert bytearray(data) == text.encode()
        assert int.from_bytes(data) == int.from_bytes(text.encode())


def count(there: Channel, back: Channel) -> None:
    """In another interpreter: keep one of three, and say what they were."""
    kept = []
    while (batch := there.recv_many())[-1] is not None:
        kept += batch[::3]
    back.send(kept)


def test_another_interpreter_has_spares_of_its_own() -> None:
    there, back = Channel(512), Channel(1)
    with Interpreter() as other:
        thread = threading.Thread(target=other.call, args=(count, there, back))
        thread.start()
        for first in range(0, 30_000, 100):
            there.send_many([i + 0.5 for i in range(first, first + 100)])
        there.send(None)
        kept = back.recv(timeout=DEADLINE_S)
        thread.join()
    assert len(kept) > 9000
    assert kept == sorted(set(kept))
    assert all(value % 1 == 0.5 for value in kept)


def test_threads_of_one_interpreter_share_them() -> None:
    """Each thread keeps what it received; together they have everything once."""
    channel = Channel(64)
    kept: list[list[int]] = [[], [], []]

    def receive(mine: list[int]) -> None:
        for value in channel:
            mine.append(value)

    threads = [threading.Thread(target=receive, args=(mine,)) for mine in kept]
    for thread in threads:
        thread.start()
    for first in range(2000, 12_000, 50):
        channel.send_many(list(range(first, first + 50)), timeout=DEADLINE_S)
    channel.close()
    for thread in threads:
        thread.join()
    assert sorted(value for mine in kept for value in mine) == list(range(2000, 12_000))
