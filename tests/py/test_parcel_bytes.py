"""Bytes that were not written here, and random values."""

import gc
import pathlib
import random
import sys
import threading

import pytest
from children import run
from parcels import PLAIN, Color, Point, by_bytes, exactly, trip

from atoll import Channel, _atoll
from atoll._errors import NotShareableError


def test_foreign_bytes_are_plain_data_only():
    assert _atoll.loads(_atoll.dumps([1, {"a": (2,)}])) == [1, {"a": (2,)}]
    for value in (len, Color.RED, lambda: 1, Point(1), pathlib.PurePosixPath("a")):
        with pytest.raises(ValueError, match="plain data"):
            _atoll.loads(_atoll.dumps([value]))


def sample(rng, depth=0):
    choice = rng.randrange(14 if depth < 4 else 8)
    if choice < 8:
        return rng.choice(PLAIN[:-12])
    items = [sample(rng, depth + 1) for _ in range(rng.randrange(5))]
    keys = [rng.choice(["k", 1, b"b", (1, "t"), None, 2.5, 2**80]) for _ in items]
    if choice == 8:
        return tuple(items)
    if choice == 9:
        return dict(zip(keys, items, strict=True))
    if choice == 10:
        return set(keys)
    if choice == 11:
        return frozenset(keys)
    if items and choice == 12:
        items.append(items[0])
    return items


def test_random_values():
    rng = random.Random(20240501)
    for _ in range(2000):
        value = sample(rng)
        assert exactly(by_bytes(value)) == exactly(value)


def test_mutated_bytes_never_crash():
    rng = random.Random(7)
    refused = 0
    for round_ in range(20_000):
        if round_ % 10 == 0:
            original = _atoll.dumps(sample(rng))
        data = bytearray(original)
        for _ in range(rng.randrange(1, 5)):
            place = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                data[place] = rng.choice([0, 0x7F, 0x80, 0xFF, *range(0x8C, 0xA5)])
            elif kind == 2 and len(data) > 1:
                del data[place : place + rng.randrange(1, 9)]
            else:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            if not data:
                break
        try:
            got = _atoll.loads(bytes(data))
            repr(got)
        except (ValueError, TypeError, RecursionError, OverflowError):
            refused += 1
    assert refused > 1000


def test_rows_that_are_none():
    """Rows with bits that are no words, too many of them, or cut off."""
    good = _atoll.dumps((1000, None, 2.5))
    assert _atoll.loads(good) == (1000, None, 2.5)
    head = good[: -3 * 8 - 1]
    for word in (0, 7, 8, 15, 5 << 3 | 2, 1 << 60 | 2, 2**64 - 1, 2**63):
        with pytest.raises(ValueError, match="malformed"):
            _atoll.loads(head + b"\1" + word.to_bytes(8, sys.byteorder))
    for count, words in (
        (1, b"1234567"),
        (2, bytes(8)),
        (17, bytes(17 * 8)),
        (255, b""),
    ):
        with pytest.raises(ValueError, match="malformed"):
            _atoll.loads(head + bytes([count]) + words)
    for tag in range(256):  # what is a word is some object, whatever its bits
        for rest in (0, 1, 2**52 + 1, 2**56 - 1):
            word = (rest << 8 | tag).to_bytes(8, sys.byteorder)
            try:
                assert type(_atoll.loads(head + b"\1" + word)) is tuple
            except ValueError as error:
                assert "malformed" in str(error)


def test_a_str_in_a_row_ends_with_its_word():
    """Bits behind the end would be written where there is no room, and read by C."""
    head = _atoll.dumps((None,))[:-8]
    for tag, value in ((5, b"abcdefg"), (6, "abcdefg")):
        for length in range(8):
            word = (
                int.from_bytes(b"abcdefg"[:length], "little") << 8 | length << 3 | tag
            )
            good = head + word.to_bytes(8, sys.byteorder)
            assert _atoll.loads(good) == (value[:length],)
            for bit in (6, 7, *range(8 + 8 * length, 64)):
                bad = head + (word | 1 << bit).to_bytes(8, sys.byteorder)
                with pytest.raises(ValueError, match="malformed"):
                    _atoll.loads(bad)


def test_no_tuple_is_without_an_item():
    """A row that ends in what is no word leaves a tuple, which the collector shows."""
    script = """
        import gc
        from atoll import _atoll

        for count in 1, 2, 3, 4:
            row = _atoll.dumps(tuple(range(5000, 5000 + count)))
            for bad in range(count):
                words = bytearray(row)
                words[4 + 8 * bad : 12 + 8 * bad] = bytes(8)
                try:
                    _atoll.loads(words)
                except ValueError:
                    pass
                else:
                    raise AssertionError
        for found in gc.get_objects():
            if type(found) is tuple:
                assert len(gc.get_referents(found)) == len(found)
    """
    assert run(script) == ""


def incomplete():
    """How many lists and tuples there are that lack an item."""
    return sum(
        len(gc.get_referents(found)) != len(found)
        for found in gc.get_objects()
        if type(found) in (list, tuple)
    )


class Looks:
    """Looks at all lists and tuples that there are when it is unpacked."""

    def __reduce__(self):
        return Looks, (), True

    def __setstate__(self, state):
        self.incomplete = incomplete()


def test_what_is_not_complete_is_not_seen():
    """A tuple and a batch, while code runs that unpacks an item of theirs."""
    before = incomplete()
    assert trip((1, [], Looks(), 2))[2].incomplete == before
    channel = Channel(8)
    channel.send_many([1, Looks(), [2], "three"])
    received = channel.recv_many()
    assert received[1].incomplete == before
    assert received[2:] == [[2], "three"]
    assert gc.is_tracked(received)


def test_hypothesis_round_trip():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    leaves = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
        | st.text() | st.binary() | st.complex_numbers(allow_nan=False)
        | st.decimals(allow_nan=False) | st.datetimes() | st.uuids()
    )  # fmt: skip
    values = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text() | st.integers(), inner)
            | st.frozensets(st.text() | st.integers())
        ),
        max_leaves=30,
    )

    # The same examples each time, however long the machine takes to make them.
    @hypothesis.settings(
        max_examples=200,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    @hypothesis.given(values)
    def check(value):
        got = trip(value)
        assert got == value and type(got) is type(value)

    check()


def test_no_reference_is_lost():
    values = [Point(1, [2]), "text" * 10, (1, [2]), lambda: 1, Color.RED]
    trip(values)
    gc.collect()
    before = [sys.getrefcount(v) for v in values]
    for _ in range(50):
        trip(values)
        with pytest.raises(NotShareableError):
            trip([values, threading.Lock()])
    gc.collect()
    assert [sys.getrefcount(v) for v in values] == before
