"""atoll.SharedDict: as a dict, between threads, and between interpreters.

That of one process and that of several do the same; each test but the last few has both.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import pytest

from atoll import Interpreter, NotShareableError, SharedDict

WAIT = 60.0

type Make = Callable[..., SharedDict]


def make_shared(*arguments: Any, **items: Any) -> SharedDict:
    return SharedDict(*arguments, shared=True, **items)


@pytest.fixture(params=[SharedDict, make_shared], ids=["process", "processes"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


KEYS = [
    "",
    "text",
    "größe",
    "\N{SNOWMAN}",
    "\udc80lone",
    b"",
    b"bytes",
    b"text",
    0,
    -1,
    7,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**200),
]


def test_as_a_dict(make: Make) -> None:
    shared = make({"a": 1}, b=[2])
    assert shared["a"] == 1 and shared["b"] == [2] and len(shared) == 2
    assert "a" in shared and "c" not in shared
    shared["c"] = {"deep": (1.5, None)}
    assert shared.get("c") == {"deep": (1.5, None)}
    assert shared.get("d") is None and shared.get("d", 4) == 4
    assert sorted(shared) == sorted(shared.keys()) == ["a", "b", "c"]
    assert dict(shared.items()) == {"a": 1, "b": [2], "c": {"deep": (1.5, None)}}
    assert len(shared.values()) == 3 and dict(shared) == dict(shared.items())
    del shared["a"]
    with pytest.raises(KeyError, match="a"):
        shared["a"]
    with pytest.raises(KeyError):
        del shared["a"]
    assert shared.pop("b") == [2] and shared.pop("b", None) is None
    with pytest.raises(KeyError):
        shared.pop("b")
    assert shared.setdefault("c", 1) == {"deep": (1.5, None)}
    assert shared.setdefault("e", 5) == 5 and shared["e"] == 5
    assert shared.setdefault("f") is None
    shared.update([("x", 1)], y=2)
    assert (shared["x"], shared["y"]) == (1, 2)
    key, value = shared.popitem()
    assert key not in shared and value != key
    shared.clear()
    assert len(shared) == 0 and list(shared) == []
    with pytest.raises(KeyError):
        shared.popitem()
    assert isinstance(shared, MutableMapping) and isinstance(shared, Mapping)


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_keys(key: Any, make: Make) -> None:
    shared = make([(each, repr(each)) for each in KEYS])
    assert len(shared) == len(KEYS)
    assert shared[key] == repr(key)
    assert key in set(shared.keys())
    del shared[key]
    assert key not in shared and len(shared) == len(KEYS) - 1


def test_true_is_one(make: Make) -> None:
    shared = make()
    shared[True] = "yes"
    assert shared[1] == "yes" and list(shared) == [1]


def test_what_cannot_be(make: Make) -> None:
    shared = make(a=1)
    for key in (1.5, None, ("a",), [1]):
        with pytest.raises(TypeError, match="str, bytes or int"):
            shared[key]  # type: ignore[index]
        with pytest.raises(TypeError):
            key in shared  # noqa: B015
        with pytest.raises(TypeError):
            shared.get(key)  # type: ignore[call-overload]
    with pytest.raises(NotShareableError):
        shared["lock"] = threading.Lock()
    with pytest.raises(NotShareableError):
        shared["a"] = threading.Lock()
    assert shared["a"] == 1 and len(shared) == 1
    with pytest.raises(TypeError):
        shared.get()  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        shared.change("a")  # type: ignore[call-arg]


def test_what_is_read_is_a_copy(make: Make) -> None:
    shared = make(a=[1])
    shared["a"].append(2)
    assert shared["a"] == [1]
    shared["big"] = bytearray(b"x" * 100_000)
    first = shared["big"]
    first[0] = 0
    assert shared["big"][0] == ord("x")
    assert bytes(shared.pop("big")) == b"x" * 100_000


def test_compare_and_set(make: Make) -> None:
    shared = make(a=[1, 2])
    assert not shared.compare_and_set("a", [1], 5)
    assert shared.compare_and_set("a", [1, 2], 5) and shared["a"] == 5
    assert not shared.compare_and_set("b", None, 5) and "b" not in shared

    class Picky:
        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shared.compare_and_set("a", Picky(), 6)
    assert shared["a"] == 5


def test_change(make: Make) -> None:
    shared = make()
    assert shared.change("n", lambda n: n + 1, 0) == 1
    assert shared.change("n", lambda n: n + 1) == 2
    assert shared.change("k", lambda n: n + 1, default=5) == 6
    assert shared.change(function=str, default=0, key="k") == "6"
    assert shared.change("none", repr, default=None) == "None"
    del shared["k"], shared["none"]
    with pytest.raises(KeyError):
        shared.change("m", lambda n: n)
    for wrong in (
        lambda: shared.change("n"),  # type: ignore[call-arg]
        lambda: shared.change("n", str, 0, 0),  # type: ignore[call-arg]
        lambda: shared.change("n", str, 0, default=0),  # type: ignore[misc]
        lambda: shared.change("n", str, start=0),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError, match=r"change\(\)"):
            wrong()
    with pytest.raises(ZeroDivisionError):
        shared.change("n", lambda n: 1 // 0)
    assert dict(shared) == {"n": 2}

    calls = []

    def disturbed(value: int) -> int:
        calls.append(value)
        if len(calls) == 1:
            shared["n"] = 10
        return value + 1

    assert shared.change("n", disturbed) == 11
    assert calls == [2, 10]


def count_there(shared: SharedDict, rounds: int, name: int) -> None:
    for i in range(rounds):
        shared.change("count", lambda n: n + 1, 0)
        shared[name * rounds + i] = (name, i)
        shared.setdefault(f"key {i}", name)


def test_across_interpreters(make: Make) -> None:
    shared = make()
    interpreters = [Interpreter() for _ in range(2)]
    threads = [
        threading.Thread(target=each.call, args=(count_there, shared, 500, name))
        for name, each in enumerate(interpreters)
    ]
    for thread in threads:
        thread.start()
    count_there(shared, 500, 2)
    for thread in threads:
        thread.join(WAIT)
    for each in interpreters:
        each.close()
    assert shared["count"] == 1500
    assert len(shared) == 1 + 1500 + 500
    assert all(shared[n * 500 + i] == (n, i) for n in range(3) for i in range(500))
    assert {shared[f"key {i}"] for i in range(500)} <= {0, 1, 2}


def test_reading_while_others_write(make: Make) -> None:
    shared = make()
    stop = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            for key, value in shared.items():
                if value != [key] * 5:
                    wrong.append((key, value))

    def write(first: int) -> None:
        for i in range(2000):
            key = first + i % 40
            shared[key] = [key] * 5
            if i % 3 == 0:
                shared.pop(key)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 20)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(WAIT)
    stop.set()
    reader.join(WAIT)
    assert wrong == []


def test_it_can_be_sent_and_held() -> None:
    outer, inner = SharedDict(), SharedDict(a=1)
    outer["inner"] = inner
    assert outer["inner"] == inner and hash(outer["inner"]) == hash(inner)
    outer["inner"]["b"] = 2
    assert inner["b"] == 2
    assert outer != inner and outer != 3
    with Interpreter() as interpreter:
        assert interpreter.call(lambda d: d["inner"]["b"], outer) == 2
        interpreter.call(lambda d: d.update(there="kept"), outer)
    assert outer["there"] == "kept"


def test_merging_is_a_dicts(make: Make):
    table, plain = make(a=1, b=2), {"b": 3, "c": 4}
    assert table | plain == {"a": 1, "b": 3, "c": 4}
    assert plain | table == {"a": 1, "b": 2, "c": 4}
    assert table | make(b=5) == {"a": 1, "b": 5}
    assert type(table | plain) is dict and table.copy() == {"a": 1, "b": 2}
    same = table
    table |= plain
    table |= [("d", [5])]
    assert same is table and table.copy() == {"a": 1, "b": 3, "c": 4, "d": [5]}
    for wrong in (1, [], None, object()):
        with pytest.raises(TypeError):
            table | wrong
        with pytest.raises(TypeError):
            wrong | table
    with pytest.raises(TypeError):
        table |= 5


def test_a_copy_while_others_take_keys_away(make: Make):
    table = make({str(i): i for i in range(100)})
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            for i in range(0, 100, 2):
                table.pop(str(i), None)
            for i in range(0, 100, 2):
                table[str(i)] = i

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(200):
            copy = table.copy()
            assert all(copy[str(i)] == i for i in range(1, 100, 2))
            assert {int(key): value for key, value in copy.items()}.items() == {
                (value, value) for value in copy.values()
            }
    finally:
        stop.set()
        thread.join(60)


def test_one_is_filled_from_another_that_changes(make: Make) -> None:
    """A snapshot, which asks for no key again that may have gone."""
    source = make({number: number for number in range(200)})
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for number in range(200):
                source.pop(number, None)
            source.update({number: number for number in range(200)})

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(100):
            made = make(source, more=1)
            made.update(source)
            made |= source
            assert {k: v for k, v in made.items() if k != v} == {"more": 1}
    finally:
        done.set()
        thread.join()


def test_copies(make: Make) -> None:
    """A copy is another handle, a deep one another dict; copy() is a plain one."""
    table = make(a=[1])
    same, other = copy.copy(table), copy.deepcopy(table)
    assert same == table != other and other.copy() == {"a": [1]}
    same["b"] = 2
    other["c"] = 3
    assert table.copy() == {"a": [1], "b": 2} and other.copy() == {"a": [1], "c": 3}
    held = copy.deepcopy([table, table])
    assert held[0] is held[1] != table
