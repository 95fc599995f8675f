"""Parcels: what goes in comes out, keeps its shape, or is refused by its path."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import threading
import types
import typing
import uuid

import pytest
from parcels import PLAIN, Color, MyList, Point, by_bytes, exactly, trip


@pytest.mark.parametrize("way", [trip, by_bytes])
@pytest.mark.parametrize("value", PLAIN, ids=lambda v: repr(v)[:30])
def test_plain(value, way):
    got = way(value)
    assert type(got) is type(value)
    assert got == value
    assert exactly(got) == exactly(value)


def test_nan():
    assert math.isnan(trip(math.nan))


class Bits(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    a: int
    b: str = "b"


class MyInt(int):
    pass


class MyStr(str):
    pass


class MyDict(dict):
    pass


class MyTuple(tuple):
    pass


class MySet(set):
    pass


class MyBytes(bytes):
    pass


Pair = collections.namedtuple("Pair", "left right")

OTHERS = [
    Color.RED,
    Bits.A | Bits.B,
    Point(1, [2]),
    Slotted(3),
    MyList([1, 2]),
    MyInt(5),
    MyStr("s"),
    MyDict(a=1),
    MyTuple((1,)),
    MySet({1}),
    MyBytes(b"x"),
    Pair(1, [2]),
    collections.OrderedDict(b=1, a=2),
    collections.Counter("hello"),
    collections.deque([1, 2], maxlen=5),
    collections.defaultdict(list, a=[1]),
    collections.ChainMap({"a": 1}),
    datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC),
    decimal.Decimal("1.20"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("/a/b"),
    array.array("d", [1.0, 2.0]),
    types.SimpleNamespace(a=1),
    list[int],
    int | None,
    typing.Optional[int],  # noqa: UP045
    memoryview(b"abc"),
    {}.keys(),
    {"a": 1}.items(),
    len,
    math.sqrt,
    "x".upper,
    str.join,
    dict.fromkeys,
    threading.Thread,
    type(None),
    types.FunctionType,
    pathlib,
    datetime.UTC,
]


@pytest.mark.parametrize("value", OTHERS, ids=lambda v: repr(v)[:30])
def test_others(value):
    got = trip(value)
    assert type(got) is type(value)
    if value == value:
        assert got == value or repr(got) == repr(value)


def test_exception_keeps_attributes():
    error = ValueError("x", 3)
    error.extra = [1]
    got = trip(error)
    assert type(got) is ValueError and got.args == ("x", 3) and got.extra == [1]
    got = trip(OSError(2, "gone", "file"))
    assert type(got) is FileNotFoundError and got.filename == "file"


def test_memoryview_keeps_its_format():
    view = memoryview(array.array("i", range(6))).cast("B").cast("i", (2, 3))
    got = trip(view)
    assert got.tolist() == view.tolist() and got.format == "i" and got.shape == (2, 3)


# ---- shape ----


def test_shared_references():
    inner = [1]
    got = trip([inner, inner, {"k": inner}, (inner,)])
    assert got[0] is got[1] is got[2]["k"] is got[3][0]
    text = "a longer string"
    got = trip([text, (text,)])
    assert got[0] is got[1][0]


def test_rows():
    """Short tuples and lists of small objects are written in one run."""
    small = [None, True, 0, -7, 255, 256, 2**60 - 1, -(2**60), 0.0, -2.5, ..., "a"]
    small += ["seven b", b"", b"1234567", "Grüße"]
    others = [2**60, 1e300, "eight by", b"12345678", "日本", [], 2j, -0.0]
    for count in (0, 1, 2, 15, 16, 17):
        for first in range(len(small)):
            items = [small[(first + i * 5) % len(small)] for i in range(count)]
            for value in (items, tuple(items), [tuple(items)], {"k": items}):
                for way in (trip, by_bytes):
                    assert exactly(way(value)) == exactly(value)
            for other in others if count else ():
                mixed = (*items[:-1], other)
                assert exactly(trip(mixed)) == exactly(mixed)


def test_rows_keep_what_is_shared():
    text, data = "".join(["te", "xt"]), bytes([1, 2])
    pair = (1, 2)
    got = trip([text, 1, text])
    assert got[0] == text and got[0] is got[2]
    got = trip([(text, data), text, data])
    assert got[0][0] is got[1] and got[0][1] is got[2]
    got = trip([pair, {"k": pair}, pair])
    assert got == [pair, {"k": pair}, pair]
    assert got[0] is got[2] is got[1]["k"]


def test_sharing_across_objects():
    items = [1]
    got = trip([Point(1, items), items, {"again": Point(2, items)}])
    assert got[0].y is got[1] is got[2]["again"].y


def test_cycles():
    items: list = [1]
    items.append(items)
    got = trip(items)
    assert got[1] is got
    table: dict = {}
    table["self"] = table
    got = trip(table)
    assert got["self"] is got


def test_cycle_through_tuple():
    pair: tuple = ([], 1)
    pair[0].append(pair)
    got = trip(pair)
    assert got[0][0] is got and got[1] == 1


def test_cycle_through_object_and_its_hash():
    class Node:
        pass

    node = Node()
    node.peers = {(node, 1)}
    got = trip(node)
    member = next(iter(got.peers))
    assert member[0] is got and member in got.peers


def test_object_inside_its_own_arguments():
    class Odd:
        def __init__(self, box):
            self.box = box

        def __reduce__(self):
            return Odd, (self.box,)

    odd = Odd([])
    odd.box.append(odd)
    got = trip(odd)
    assert type(got.box[0]).__name__ == "Odd" and got.box[0].box is got.box


def test_frozenset_that_contains_itself():
    class Holder:
        pass

    holder = Holder()
    group = frozenset({holder})
    holder.group = group
    got = trip(group)
    assert next(iter(got)).group is got
