"""SharedDict beside dict: what both do alike, word for word, and where they differ."""

from __future__ import annotations

import collections
import enum
import math
import types
from collections.abc import Callable
from typing import Any

import pytest

from atoll import Event, Interpreter, SharedDict

DEADLINE = 60.0

type Make = Callable[..., SharedDict]


def make_shared(*arguments: Any, **items: Any) -> SharedDict:
    return SharedDict(*arguments, shared=True, **items)


@pytest.fixture(params=[SharedDict, make_shared], ids=["process", "processes"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Raw(bytes):
    pass


class Color(enum.StrEnum):
    RED = "red"


class Mixed(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Flags(enum.IntFlag):
    ONE = 1
    TWO = 2


def outcome(use: Callable[[Any], Any], table: Any) -> tuple[Any, ...]:
    """What it returns, or raises with which words, and what is in the dict then."""
    try:
        result = use(table)
    except Exception as error:
        words = str(error).replace("atoll.", "").replace("SharedDict", "dict")
        return type(error), words, dict(table.items())
    if result is table:
        result = "itself"
    return result, dict(table.items())


ALIKE: dict[str, Callable[[Any], Any]] = {
    "get": lambda d: (d.get("a"), d.get("z"), d.get("z", 5)),
    "item": lambda d: d["a"],
    "missing": lambda d: d["z"],
    "missing-bytes": lambda d: d[b"\0"],
    "missing-huge": lambda d: d[-(10**40)],
    "missing-surrogate": lambda d: d["\udc80"],
    "missing-enum": lambda d: d[Color.RED],
    "delete": lambda d: d.__delitem__("a"),
    "delete-missing": lambda d: d.__delitem__("z"),
    "pop": lambda d: d.pop("a"),
    "pop-missing": lambda d: d.pop("z"),
    "pop-default": lambda d: d.pop("z", None),
    "pop-keyword": lambda d: d.pop("z", default=1),
    "popitem-empty": lambda d: (d.clear(), d.popitem()),
    "setdefault": lambda d: (d.setdefault("a", 5), d.setdefault("z"), d["z"]),
    "setdefault-keyword": lambda d: d.setdefault("z", default=1),
    "get-keyword": lambda d: d.get("z", default=1),
    "truth": lambda d: (bool(d), d.clear(), bool(d)),
    "update-self": lambda d: d.update(d),
    "update-names": lambda d: d.update(self=1, other=2),
    "update-both": lambda d: d.update({"x": 1}, y=2),
    "update-many": lambda d: d.update({}, {}),
    "update-none": lambda d: d.update(None),
    "update-int": lambda d: d.update(5),
    "update-triple": lambda d: d.update([(1, 2, 3)]),
    "update-scalar": lambda d: d.update([1]),
    "update-mapping": lambda d: d.update(types.MappingProxyType({"x": 1})),
    "or": lambda d: d | {"a": 0, "x": 1},
    "ror": lambda d: {"a": 0, "x": 1} | d,
    "or-pairs": lambda d: d | [("x", 1)],
    "or-none": lambda d: d | None,
    "or-proxy": lambda d: d | types.MappingProxyType({"x": 1}),
    "or-chain": lambda d: sorted((d | collections.ChainMap({"x": 1})).items(), key=str),
    "ior-pairs": lambda d: d.__ior__([("x", 1)]),
    "ior-self": lambda d: d.__ior__(d),
    "less": lambda d: d < 3,
    "stars": lambda d: {**d, "x": 1},
    "keywords": lambda d: dict(**{k: v for k, v in d.items() if isinstance(k, str)}),
    "sorted": lambda d: sorted(d, key=str),
    "largest": lambda d: max(["a", "b"], key=d.get),
    "hint": lambda d: iter(d).__length_hint__(),
    "true-is-1": lambda d: (d.__setitem__(True, "t"), d[1], d[1] is d[True]),
    "false-is-0": lambda d: (d.__setitem__(0, "zero"), d[False]),
    "text-is-no-bytes": lambda d: ("a" in d, b"a" in d),
    "nul": lambda d: (d.__setitem__("a\0b", 1), d["a\0b"], "a" in d),
    "pair-of-surrogates": lambda d: d.update({"\ud800\udc00": 1, "\U00010000": 2}),
    "huge": lambda d: d.update({10**4000: 1, -(10**4000): 2, 2**63: 3, -(2**63): 4}),
    "subclass-text": lambda d: (d[Text("a")], Text("z") in d, d.pop(Text("a"))),
    "subclass-bytes": lambda d: d[Raw(b"raw")],
    "subclass-int": lambda d: (d[Number(7)], d[Number(7)] is None),
    "enum": lambda d: (d.setdefault(Level.LOW, 5), d[1], 1 in d),
    "enum-text": lambda d: (d.update({Color.RED: 5}), d["red"], d[Mixed.RED]),
    "enum-flags": lambda d: (d.update({Flags.ONE | Flags.TWO: 5}), d[3]),
    "fromitems": lambda d: dict(d.items()) == dict(d),
    "contains-views": lambda d: ("a" in d.keys(), 1 in d.values(), len(d.items())),  # noqa: SIM118
    "no-attribute": lambda d: d.missing_attribute,
}  # fmt: skip


@pytest.mark.parametrize("use", ALIKE)
def test_alike(use: str, make: Make) -> None:
    items = {"a": 1, "b": [2], 7: None, b"raw": {"deep": ()}}
    wanted = outcome(ALIKE[use], dict(items))
    found = outcome(ALIKE[use], make(items))
    assert found == wanted


def test_a_pattern_matches_it(make: Make) -> None:
    match make({"a": 1, "b": 2}):
        case {"a": first, **rest}:
            assert (first, rest) == (1, {"b": 2})
        case _:
            pytest.fail("it is no mapping")


def test_a_key_that_stands_for_another_is_stored_as_that(make: Make) -> None:
    """As another interpreter, or process, has no need of the class."""
    table = make({Color.RED: 1, Level.LOW: 2, Raw(b"r"): 3, Text("t"): 4, False: 5})
    assert {(type(key), key) for key in table} == {
        (str, "red"), (int, 1), (bytes, b"r"), (str, "t"), (int, 0),
    }  # fmt: skip


class Folded(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


class Unhashable(int):
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("key", [Folded("A"), Unhashable(1)], ids=["equal", "hash"])
def test_a_key_that_compares_in_its_own_way_is_refused(key: Any, make: Make) -> None:
    """It equals what the dict, which has the bytes of keys, would not find by it."""
    table = make(a=1)
    uses: list[Callable[[], Any]] = [
        lambda: table[key],
        lambda: key in table,
        lambda: table.get(key),
        lambda: table.pop(key, None),
        lambda: table.__setitem__(key, 1),
        lambda: table.change(key, str, 0),
    ]
    for use in uses:
        with pytest.raises(TypeError, match="give its str, bytes or int"):
            use()
    assert table.copy() == {"a": 1}


def test_it_may_change_while_it_is_iterated(make: Make) -> None:
    """dict raises RuntimeError; here keys are those of the moment, others write too."""
    table = make({number: number for number in range(100)})
    for key in table:
        del table[key]
        table[-key - 1] = key
    assert sorted(table) == list(range(-100, 0))
    keys = table.keys()
    table.clear()
    assert len(keys) == 100 and list(table.items()) == []


def test_equal_is_the_same_dict(make: Make) -> None:
    """As for all handles, which are keys of dicts: what is in it is compared as dict."""
    table = make(a=1)
    assert table != {"a": 1} and table.__eq__({"a": 1}) is NotImplemented
    assert table != make(a=1) and table.copy() == {"a": 1} == dict(table)
    assert {table: "found"}[table] == "found"


def test_nan_is_a_value_and_no_key(make: Make) -> None:
    table = make(a=math.nan)
    assert math.isnan(table["a"])
    assert not table.compare_and_set("a", math.nan, 1), "it is not equal to itself"
    with pytest.raises(TypeError, match="not float"):
        table[math.nan] = 1  # type: ignore[index]


def test_a_failing_update_says_where_and_keeps_what_came_before(make: Make) -> None:
    table = make(z=0)
    with pytest.raises(TypeError) as caught:
        table.update({"a": 1, "b": 2, 2.5: 3, "c": 4})
    assert caught.value.__notes__ == [
        "This was the item of key 2.5; those before it are set."
    ]
    assert table.copy() == {"z": 0, "a": 1, "b": 2}
    with pytest.raises(TypeError) as caught:
        make({"bad": open})  # packed by name
        make([("a", 1), ((1, 2), 3)])
    assert "key (1, 2)" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (0, ValueError, r"size must be \d+ to 2\*\*37 bytes, not 0"),
        (-5, ValueError, "not -5"),
        (True, ValueError, "not True"),
        (2**37 + 1, ValueError, "not 137438953473"),
        (2**70, ValueError, f"not {2**70}"),
        (1e6, TypeError, "size must be an int, not float"),
        ("16M", TypeError, "size must be an int, not str"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be(size: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SharedDict(shared=True, size=size)


def test_repr_counts(make: Make) -> None:
    assert ": 0 items" in repr(make())
    assert ": 1 item>" in repr(make(a=1)) or ": 1 item, 64 of" in repr(make(a=1))
    assert ": 2 items" in repr(make(a=1, b=2))


def change_for_ever(table: SharedDict, began: Event) -> None:
    def never_ends(value: int) -> int:
        began.set()
        while True:
            value += 1

    table.change("a", never_ends)


def test_an_interpreter_that_is_closed_while_it_changes(make: Make) -> None:
    """It holds no lock: the value is the old one, and others have changed it since."""
    table, began = make(a=1), Event()
    interpreter = Interpreter()
    future = interpreter.submit(change_for_ever, table, began)
    assert began.wait(DEADLINE)
    assert table.change("a", lambda value: value + 1) == 2
    interpreter.close(timeout=0)
    with pytest.raises(BaseException) as caught:
        future.result(DEADLINE)
    assert not isinstance(caught.value, TimeoutError)
    assert table.change("a", lambda value: value + 1) == 3
