"""Structs: what they refuse, and what a copy of one is."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from typing import Annotated, Any, ClassVar

import pytest

from atoll import (
    AtomicInt,
    Channel,
    Interpreter,
    SharedArray,
    SharedBuffer,
    Struct,
    StructArray,
)

DEADLINE = 60.0


class Counter(Struct):
    hits: AtomicInt


class Reading(Struct):
    value: float
    half: Annotated[float, "float16"]
    level: Annotated[int, "int8"]
    valid: bool
    flags: Annotated[memoryview, "bool", 2]
    small: Annotated[memoryview, "int8", (2, 2)]
    label: Annotated[bytes, 4]
    hits: AtomicInt
    inner: Counter


class Plain(Struct):
    a: int
    b: float


# ---- values ----------------------------------------------------------------------------

WRONG: list[tuple[str, Any, type[Exception], str]] = [
    ("value", "1", TypeError, "takes no str"),
    ("value", None, TypeError, "takes no NoneType"),
    ("value", 1j, TypeError, "takes no complex"),
    ("value", 10**400, OverflowError, "an int of 1329 bits is not in the range"),
    ("half", 1e6, OverflowError, "1000000.0 is not in the range of Reading.half"),
    ("level", 128, OverflowError, "128 is not in the range of Reading.level"),
    ("level", -129, OverflowError, "range"),
    ("level", 1 << 80, OverflowError, "range"),
    ("level", 1.0, TypeError, "takes no float"),
    ("valid", "no", TypeError, "takes a bool, not str"),
    ("valid", b"", TypeError, "takes a bool, not bytes"),
    ("valid", None, TypeError, "takes a bool, not None"),
    ("valid", [], TypeError, "takes a bool, not list"),
    ("valid", 2, TypeError, "takes a bool, not 2"),
    ("flags", [True, "x"], TypeError, "takes a bool, not str"),
    ("flags", [True], ValueError, "1 items for the 2"),
    ("small", [[1, 2], [3, 300]], OverflowError, "300 is not in the range"),
    ("small", [[1, 2], [3, 4.0]], TypeError, "takes no float"),
    ("small", [[1, 2], 3], TypeError, "not one int"),
    ("small", 5, TypeError, "not one int"),
    ("small", [[1, 2]], ValueError, "1 items for the 2"),
    ("label", "ab", TypeError, "takes bytes, not str"),
    ("label", 4, TypeError, "takes bytes, not int"),
    ("label", None, TypeError, "takes bytes, not NoneType"),
    ("label", [1, 2], TypeError, "takes bytes, not list"),
    ("label", b"12345", ValueError, "5 bytes do not fit into the 4"),
    ("label", memoryview(bytes(16)).cast("d"), ValueError, "16 bytes do not fit"),
    ("hits", 1 << 63, OverflowError, "64 bits"),
    ("hits", 1.5, TypeError, "takes ints, not float"),
    ("inner", Plain(), TypeError, "is no Reading.inner"),
    ("inner", Counter(), TypeError, "set its fields"),
]


@pytest.mark.parametrize(("name", "value", "error", "told"), WRONG)
def test_a_wrong_value_changes_nothing(
    name: str, value: Any, error: type[Exception], told: str
) -> None:
    reading = Reading(level=7, label=b"ab", flags=[True, False])
    with pytest.raises(error, match=told):
        setattr(reading, name, value)
    with pytest.raises(error, match=told):
        Reading(**{name: value})
    assert reading == Reading(level=7, label=b"ab", flags=[True, False])


def test_values_that_are_as_good() -> None:
    reading = Reading(valid=1, level=True, value=3, label=bytearray(b"xy"))
    assert reading.valid is True and reading.level == 1 and reading.value == 3.0
    reading.valid, reading.label = 0, memoryview(b"abcd")[::2]
    assert reading.valid is False and reading.label == b"ac"
    reading.small = (
        memoryview(bytes([1, 2, 3, 4])).cast("b").cast("B").cast("b", (2, 2))
    )  # type: ignore[call-overload]
    assert reading.small.tolist() == [[1, 2], [3, 4]]
    np = pytest.importorskip("numpy")
    reading.valid, reading.level = np.True_, np.int64(-3)
    reading.flags = np.array([False, True])
    assert reading.valid is True and reading.level == -3
    assert reading.flags.tolist() == [False, True]


# ---- definitions -----------------------------------------------------------------------


def defined(bases: tuple[type, ...] = (Struct,), **annotations: Any) -> type[Struct]:
    made: type[Struct] = type("Made", bases, {"__annotations__": annotations})
    return made


def test_a_default_would_be_lost() -> None:
    with pytest.raises(TypeError, match=r"Made\.x is given a default"):
        type("Made", (Struct,), {"__annotations__": {"x": float}, "x": 1.0})


def test_a_field_is_defined_once() -> None:
    with pytest.raises(TypeError, match=r"Made\.a is a field of a base already"):
        defined((Plain,), a=int)
    assert defined((Plain,), c=int)(a=1, c=2).c == 2  # type: ignore[attr-defined]


def test_two_bases_have_no_one_layout() -> None:
    with pytest.raises(TypeError, match="two bases with fields"):
        defined((Plain, Counter))
    with pytest.raises(TypeError, match="two bases with fields"):
        defined((Counter, Plain), c=int)

    class Described:
        def text(self) -> str:
            return f"{self.a}"  # type: ignore[attr-defined]

    class Empty(Struct):
        pass

    for bases in ((Described, Plain), (Plain, Empty), (Empty, Plain, Described)):
        assert defined(bases, c=int)(a=3, c=4).a == 3  # type: ignore[attr-defined]

    class More(Plain):
        c: float

    assert defined((More, Plain))(a=1, c=2.0).c == 2.0  # type: ignore[attr-defined]


def test_what_is_no_field() -> None:
    class Made(Struct):
        total: ClassVar[int] = 3
        a: int
        _hidden: str = "kept"

    assert Made.size() == 8 and Made(a=1).a == 1
    assert Made.total == 3 and Made._hidden == "kept"


@pytest.mark.parametrize(
    "annotation",
    [
        *(complex, str, bytes, list, None, list[float], float | None, "l2"),
        Annotated[complex, "complex64"],
        Annotated[float, "longdouble"],
        Annotated[float, [3]],
        Annotated[float, {"a": 1}],
        Annotated[bytes, 3, 4],
    ],
    ids=repr,
)
def test_what_cannot_be_a_field(annotation: Any) -> None:
    with pytest.raises((TypeError, NameError)):
        defined(x=annotation)


def test_the_byte_order_of_a_field() -> None:
    np = pytest.importorskip("numpy")
    for spelling in (">f8", np.dtype(">f8")):
        with pytest.raises(TypeError, match=r"Made.x: .*other byte order.* 'd' is"):
            defined(x=Annotated[float, spelling])
    for spelling in ("<f8", "f8", np.float64, np.dtype("f8"), np.dtype("<f8"), "d"):
        made = defined(x=Annotated[float, spelling])
        assert np.asarray(made(x=1.5))["x"] == 1.5
    with pytest.raises(TypeError):
        defined(x=Annotated[float, np.dtype([("a", "f8")])])


# ---- memory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "memory",
    [
        SharedArray(100, "f8"),
        bytes(100),
        bytearray(100),
        memoryview(bytes(99)),
        None,
        3,
    ],
    ids=lambda memory: type(memory).__name__,
)
def test_a_struct_lies_in_a_shared_buffer(memory: Any) -> None:
    for make in (Plain.over, lambda memory: StructArray(Plain, memory)):
        with pytest.raises(TypeError, match="in a SharedBuffer, not in a"):
            make(memory)


def test_where_a_struct_lies() -> None:
    np = pytest.importorskip("numpy")
    buffer = SharedBuffer(100)
    assert Plain.over(buffer, np.int8(8)) == Plain()
    for offset in (-8, 88, 96, 1 << 70, -(1 << 70), 4):
        with pytest.raises(ValueError):
            Plain.over(buffer, offset)
    for wrong in (8.0, "8", None):
        with pytest.raises(TypeError):
            Plain.over(buffer, wrong)  # type: ignore[arg-type]


def test_an_array_of_any_int() -> None:
    np = pytest.importorskip("numpy")
    assert len(Plain.array(np.uint8(200))) == 200
    # numpy's product wraps around, and could come out small.
    for count in (np.int64(1 << 60), np.int64((1 << 60) + 1), 1 << 60, 1 << 70):
        with pytest.raises((OverflowError, MemoryError)):
            Plain.array(count)
    structs = Plain.array(300)
    structs[299].a = 5
    for last in (-1, np.int8(-1), 299, np.int64(299)):
        assert structs[last].a == 5
    for beyond in (300, -301, 1 << 80):
        with pytest.raises(IndexError):
            structs[beyond]
    for wrong in (1.0, "1", None, (1,)):
        with pytest.raises(TypeError):
            structs[wrong]  # type: ignore[index]


def test_a_struct_without_fields_has_no_array() -> None:
    class Empty(Struct):
        pass

    buffer = SharedBuffer(8)
    for kind in (Empty, Struct):
        for make in (
            kind,
            lambda kind=kind: kind.array(3),
            lambda kind=kind: kind.over(buffer),
            lambda kind=kind: StructArray(kind, buffer),
        ):
            with pytest.raises(TypeError, match="has no fields"):
                make()


def test_memory_that_is_read_only() -> None:
    buffer = SharedBuffer(Reading.size())
    reading = Reading.over(buffer)
    reading.level, reading.hits, reading.label = 5, 9, b"ab"
    seen = Reading.over(buffer.toreadonly())
    assert seen.level == 5 and seen.label == b"ab"
    assert seen == reading and "level=5" in repr(seen) and "hits=9" in repr(seen)
    assert "hits=atoll.AtomicInt(9)" in repr(reading)
    with pytest.raises(TypeError, match="read-only"):
        seen.hits.load()
    for name, value in (
        *(("value", 1.0), ("level", 1), ("level", 1 << 9), ("valid", True)),
        *(("flags", [True, True]), ("label", b"x"), ("hits", 1)),
    ):
        with pytest.raises(TypeError, match="read-only"):
            setattr(seen, name, value)
    assert reading.level == 5 and reading.hits.load() == 9


def test_released_memory() -> None:
    buffer = SharedBuffer(Plain.size() * 2)
    one, many = Plain.over(buffer), StructArray(Plain, buffer)
    with pytest.raises(BufferError):
        buffer.release()
    one.a = 3
    del one
    gc.collect()
    buffer.release()
    for use in (
        lambda: many[0],
        lambda: Plain.over(buffer),
        lambda: StructArray(Plain, buffer),
        lambda: copy.deepcopy(many),
        lambda: pickle.dumps(many),
        lambda: Channel().send(many),
    ):
        with pytest.raises(ValueError, match="no longer here"):
            use()


# ---- copies ----------------------------------------------------------------------------


def test_a_copy_is_a_view_and_a_deep_copy_is_not() -> None:
    reading = Reading(level=1, small=[[1, 2], [3, 4]], hits=5)
    reading.inner.hits.store(6)
    view, apart = copy.copy(reading), copy.deepcopy(reading)
    assert type(apart) is Reading and apart == reading == view
    reading.level = 2
    reading.hits.add()
    reading.inner.hits.add()
    assert (view.level, view.hits.load(), view.inner.hits.load()) == (2, 6, 7)
    assert (apart.level, apart.hits.load(), apart.inner.hits.load()) == (1, 5, 6)
    inside = {"one": [reading, reading]}
    first, second = copy.deepcopy(inside)["one"]
    assert first is second and first == reading
    first.level = 9
    assert reading.level == 2


def test_a_deep_copy_has_none_that_wait() -> None:
    counter = Counter()
    begun = threading.Event()
    woken: list[int] = []

    def wait() -> None:
        begun.set()
        woken.append(counter.hits.wait(0, DEADLINE))

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(DEADLINE)
    apart = copy.deepcopy(counter)
    apart.hits.store(1)
    assert apart.hits.notify_all() == 0
    assert thread.is_alive()
    counter.hits.store(2)
    while thread.is_alive():
        counter.hits.notify_all()
        thread.join(0.01)
    assert woken == [2]


def test_copies_of_arrays() -> None:
    for kind, field in ((Plain, "a"), (Counter, "hits")):
        structs = kind.array(3)
        setattr(structs[1], field, 4)
        part = structs[1:]
        view, apart = copy.copy(part), copy.deepcopy(part)
        assert len(view) == len(apart) == 2
        setattr(structs[1], field, 5)
        assert int(getattr(view[0], field)) == 5
        assert int(getattr(apart[0], field)) == 4
    read_only = StructArray(Counter, SharedBuffer(32).toreadonly())
    apart = copy.deepcopy(read_only)
    apart[1].hits.add()
    assert apart[1].hits.load() == 1


def test_an_atomic_int_is_the_same_whoever_looks() -> None:
    structs = Counter.array(2)
    assert structs[0].hits == structs[0].hits
    assert hash(structs[0].hits) == hash(structs[0].hits)
    assert structs[0].hits != structs[1].hits
    assert len({structs[0].hits, structs[1].hits, structs[0].hits}) == 2
    channel = Channel()
    channel.send(structs[1])
    assert channel.recv().hits == structs[1].hits
    assert AtomicInt(0) != AtomicInt(0)
    with Interpreter() as interpreter:
        given = interpreter.call(lambda counter: counter.hits, structs[0])
    assert given == structs[0].hits


def test_a_class_that_has_grown_elsewhere_is_refused() -> None:
    buffer = SharedBuffer(Plain.size())
    remake, (kind, *_) = Plain.over(buffer).__reduce__()

    class Grown(kind):  # type: ignore[valid-type, misc]
        c: float

    with pytest.raises(ValueError, match="are not in a buffer of 16"):
        remake(Grown, buffer, 0)
