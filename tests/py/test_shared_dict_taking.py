"""SharedDict: what pop() and popitem() take out, and what they must not lose."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atoll import Interpreter, SharedDict

DEADLINE = 60.0

type Make = Callable[..., SharedDict]


def make_shared(*arguments: Any, **items: Any) -> SharedDict:
    return SharedDict(*arguments, shared=True, **items)


@pytest.fixture(params=[SharedDict, make_shared], ids=["process", "processes"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


class Sealed:
    """Can be packed, and unpacked while it is open."""

    open = False

    def __reduce__(self) -> tuple[Any, ...]:
        return unseal, ()


def unseal() -> Sealed:
    if not Sealed.open:
        raise LookupError("sealed")
    return Sealed()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(Sealed, "open", True)


def test_what_cannot_be_unpacked_stays(make: Make, opened: Callable[[], None]) -> None:
    table = make(a=Sealed(), b=1)
    for use in (
        lambda: table["a"],
        lambda: table.get("a"),
        lambda: table.pop("a"),
        lambda: table.pop("a", None),
        lambda: table.setdefault("a", 5),
        lambda: table.change("a", lambda value: 5),
        lambda: table.compare_and_set("a", 1, 5),
        table.items,
        table.values,
        table.copy,
    ):
        with pytest.raises(LookupError, match="sealed") as caught:
            use()
        assert any("The value of 'a'" in note for note in caught.value.__notes__)
    assert len(table) == 2 and "a" in table and sorted(table) == ["a", "b"]
    opened()
    assert type(table.pop("a")) is Sealed
    assert table.copy() == {"b": 1}


def test_what_cannot_be_unpacked_can_be_deleted_and_replaced(make: Make) -> None:
    table = make(a=Sealed(), b=Sealed(), c=Sealed())
    del table["a"]
    table["b"] = 2
    assert sorted(table) == ["b", "c"] and table["b"] == 2
    table.clear()
    assert len(table) == 0


@pytest.mark.parametrize("count", [1, 40, 700])
def test_popitem_passes_what_it_cannot_unpack(
    make: Make, opened: Callable[[], None], count: int
) -> None:
    """It raises, and the next call looks at another: no value keeps the others in."""
    table = make({i: i for i in range(count)})
    table.update({f"sealed {i}": Sealed() for i in range(3)})
    taken, raised = [], []
    while len(table) > 3:
        try:
            key, value = table.popitem()
        except LookupError as error:
            (note,) = error.__notes__
            raised.append(note)
            assert len(raised) <= 6, "it goes on with the others"
        else:
            assert key == value
            taken.append(key)
    assert sorted(taken) == list(range(count))
    notes = set()
    for _ in range(3):
        with pytest.raises(LookupError) as caught:
            table.popitem()
        notes.update(caught.value.__notes__)
    assert len(notes) == 3
    opened()
    assert {table.popitem()[0] for _ in range(3)} == {f"sealed {i}" for i in range(3)}
    with pytest.raises(KeyError):
        table.popitem()


def pop_there(table: SharedDict) -> str:
    """Where the module of the value cannot be imported."""
    errors = []
    for take in (lambda: table.pop("point"), table.popitem):
        try:
            take()
        except ImportError as error:
            errors.append(type(error).__name__)
    return " ".join(errors)


def test_a_class_that_the_receiver_cannot_import(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "only_here.py"
    source.write_text("class Point:\n    x = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    table = make(point=only_here.Point())
    source.unlink()
    with Interpreter() as there:
        assert there.call(pop_there, table) == "ModuleNotFoundError ModuleNotFoundError"
    assert table.pop("point").x == 5
    monkeypatch.delitem(sys.modules, "only_here")


def test_one_caller_gets_each(make: Make) -> None:
    """Of those who take at once each item comes to one, and none is lost."""
    table = make()
    count, takers = 400, 4
    begin = threading.Barrier(takers)
    taken: list[list[Any]] = [[] for _ in range(takers)]

    def take(mine: list[Any]) -> None:
        begin.wait(DEADLINE)
        for key in range(0, count, 2):
            value = table.pop(key, None)
            if value is not None:
                mine.append(value)
        while True:
            try:
                mine.append(table.popitem()[1])
            except KeyError:
                return

    table.update({key: [key] for key in range(count)})
    threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(value for mine in taken for value in mine) == [
        [key] for key in range(count)
    ]


def drain(table: SharedDict) -> list[int]:
    taken = []
    while True:
        try:
            taken.append(table.popitem()[1])
        except KeyError:
            return taken


def test_interpreters_share_out_what_there_is(make: Make) -> None:
    table = make({key: key for key in range(1000)})
    with Interpreter() as first, Interpreter() as second:
        futures = [each.submit(drain, table) for each in (first, second)]
        mine = drain(table)
        others = [future.result(DEADLINE) for future in futures]
    assert sorted(sum(others, mine)) == list(range(1000))


def test_pop_runs_code_of_the_value_that_may_change_the_dict(make: Make) -> None:
    """It was replaced while it was unpacked: what is taken is what is there then."""
    table = make()
    table["a"] = Replacing()
    Replacing.table = table
    try:
        assert table.pop("a") == "new" and "a" not in table
    finally:
        Replacing.table = None


class Replacing:
    table: SharedDict | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return replace, ()


def replace() -> str:
    assert Replacing.table is not None
    Replacing.table["a"] = "new"
    return "old"
