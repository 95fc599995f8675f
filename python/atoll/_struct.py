"""Structs of named fields over shared memory.

The layout is C's: each field at a multiple of its size, as ctypes and numpy's aligned
structured types have it. A struct holds no data of its own: it is a view, and what is
sent is the view.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Iterator
from typing import (
    Annotated,
    Any,
    ClassVar,
    Self,
    dataclass_transform,
    get_args,
    get_origin,
)

from atoll import _atoll
from atoll._atoll import AtomicInt, SharedBuffer
from atoll._struct_fields import ACCESS, LETTERS, Field, describe

__all__ = ["Struct", "StructArray"]

# Names that mean themselves, where annotations are text.
KNOWN = {
    name: name
    for name in [
        *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        *("float16", "float32", "float64"),
        *LETTERS,
    ]
}
# The value, and what its wait() and notify() need beside it.
ATOMIC_BYTES = 16


# ---- from annotations to fields --------------------------------------------------------


def _format_of(where: str, annotation: Any) -> str | None:
    """The struct module's format of what SharedArray takes as a dtype, or None."""
    found = _atoll.item_format(annotation)
    if found is not None and found.startswith(">"):
        raise TypeError(
            f"{where}: {annotation!r} has the other byte order, and a field the "
            f"machine's: {found[1:]!r} is the same type in that"
        )
    return found if found in LETTERS else None


def _shape_of(where: str, extras: list[Any]) -> tuple[int, ...] | None:
    """The shape that stands among what Annotated was given, and is taken out."""
    for extra in extras:
        sizes = extra if isinstance(extra, tuple) else (extra,)
        if sizes and all(type(size) is int for size in sizes):
            if min(sizes) < 1:
                raise ValueError(
                    f"{where}: {extra!r} is no shape: sizes are at least 1"
                )
            extras.remove(extra)
            return sizes
    return None


def _field_of(where: str, name: str, annotation: Any) -> Field:
    """The field of an annotation; its place is not known yet."""
    given = annotation
    extras: list[Any] = []
    if get_origin(annotation) is Annotated:
        annotation, *extras = get_args(annotation)
    shape = _shape_of(f"{where}.{name}", extras)
    if isinstance(annotation, type) and not extras and shape is None:
        if issubclass(annotation, AtomicInt):
            return Field(name, 0, ATOMIC_BYTES, 8, "q", (), "atomic", None)
        if issubclass(annotation, Struct):
            size, alignment = annotation._size, annotation._alignment
            return Field(name, 0, size, alignment, "", (), "struct", annotation)
    if annotation is bytes and shape is not None and len(shape) == 1 and not extras:
        return Field(name, 0, shape[0], 1, f"{shape[0]}s", (), "bytes", None)
    code = _format_of(f"{where}.{name}", extras[0] if extras else annotation)
    if code is None or len(extras) > 1:
        raise TypeError(f"{where}.{name}: {_refusal(given, annotation)}")
    size = struct.calcsize(code)
    if shape is None:
        kind = "bool" if code == "?" else "value"
        return Field(name, 0, size, size, code, (), kind, None)
    return Field(name, 0, size * math.prod(shape), size, code, shape, "array", None)


def _refusal(given: Any, annotation: Any) -> str:
    """Why no field can be made of what was given, and what would do."""
    shown = given.__name__ if isinstance(given, type) else repr(given)
    if annotation is bytes:
        return (
            f"{shown} does not say how many: Annotated[bytes, 16] is at most 16 bytes"
        )
    if annotation is str:
        return f"{shown} is no type of a field: encode text into Annotated[bytes, 16]"
    return (
        f"{shown} is no type of a field: float, int, bool, AtomicInt and Structs are, "
        'and what Annotated says of a number, as in Annotated[float, "float32", (3, 4)]'
    )


def _round_up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


# ---- the types ---------------------------------------------------------------------------


@dataclass_transform(kw_only_default=True)
class Struct:
    """Named fields over shared memory, for threads, interpreters and processes.

    A subclass says by annotations what it has:

        class Particle(Struct):
            mass: float                                  # float64
            charge: Annotated[int, "int8"]
            position: Annotated[memoryview, "float64", 3]
            label: Annotated[bytes, 16]
            hits: AtomicInt

    `float`, `int` and `bool` are float64, int64 and bool; a name or a numpy type
    (`Annotated[float, "float32"]`) says another. With a number or a tuple it is an
    array, which reads as a memoryview; `bytes` with a number is a string of at most so
    many bytes, which reads without zeros at its end (a digest, or a UUID, is
    `Annotated[memoryview, "uint8", 16]`). A field may be another Struct. An `AtomicInt`
    can be changed by several at once and waited for; of all other fields a write by one
    is seen by others at some time, and two that belong together want a Lock. What is a
    `ClassVar`, or has a name that begins with an underscore, is no field.

    The layout is C's, as `ctypes.Structure` has it; `Annotated` is PEP 593's.

    `Particle(mass=1.0)` has memory of its own, with zeros where nothing is said.
    Sending a struct through a channel or to another process sends the view: all see
    the same fields. So is `copy.copy` another view, and `copy.deepcopy` gives the values
    memory of their own. Two of one type with the same values are equal, as records are
    (dataclasses, tuples), whichever memory they look at; since values change, a struct
    cannot be a key.
    `numpy.asarray(particle)` is a structured array over the memory, without a copy.

    Args:
        values: Fields to set.

    Raises:
        TypeError: There is no such field, a value is of the wrong type, or the memory
            is read-only.
        OverflowError: A number is not in the range of its field.
        ValueError: An array has another shape, or bytes are too many.
    """

    __slots__ = ("__weakref__", "_buffer", "_memory", "_offset", "_parts")

    _buffer: SharedBuffer
    _memory: memoryview
    _offset: int
    _parts: dict[str, AtomicInt]

    # Of the class, and no fields.
    _fields: tuple[Field, ...] = ()
    _size = 0
    _alignment = 1
    _has_atomics = False
    __array_descr__: list[Any] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        parent = _parent(cls)
        fields = list(parent._fields)
        end, alignment = parent._size, parent._alignment
        own = _own_annotations(cls)
        _check_names(cls, parent, own)
        for name, annotation in own.items():
            field = _field_of(cls.__name__, name, annotation)
            field = field._replace(offset=_round_up(end, field.alignment))
            fields.append(field)
            end = field.offset + field.size
            alignment = max(alignment, field.alignment)
            readable = f"{cls.__name__}.{name}"
            setattr(cls, name, ACCESS[field.kind](field, readable))
        cls._fields = tuple(fields)
        cls._size = _round_up(end, alignment)
        cls._alignment = alignment
        cls._has_atomics = any(
            field.kind == "atomic"
            or (field.struct is not None and field.struct._has_atomics)
            for field in fields
        )
        cls.__array_descr__ = describe(cls._fields, cls._size)

    def __init__(self, **values: Any) -> None:
        _check_fields(type(self))
        self._look_at(SharedBuffer(self._size), 0)
        known = {field.name for field in self._fields}
        for name, value in values.items():
            if name not in known:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            setattr(self, name, value)

    def _look_at(self, buffer: SharedBuffer, offset: int) -> None:
        self._buffer, self._offset, self._parts = buffer, offset, {}
        self._memory = memoryview(buffer)[offset : offset + self._size]

    @classmethod
    def _view(cls, buffer: SharedBuffer, offset: int) -> Self:
        self = cls.__new__(cls)
        self._look_at(buffer, offset)
        return self

    @classmethod
    def over(cls, buffer: SharedBuffer, offset: int = 0) -> Self:
        """A struct over memory that is there: `Particle.over(open_shared("first"))`.

        Args:
            buffer: What holds the fields, of this or another process.
            offset: Where they begin in it, in bytes.

        Raises:
            TypeError: buffer is no SharedBuffer.
            ValueError: They do not fit, or are not aligned there.
        """
        _check_fields(cls)
        _check_memory(buffer)
        offset = operator.index(offset)
        if offset < 0 or offset + cls._size > len(buffer):
            raise ValueError(
                f"{cls._size} bytes at {offset} are not in a buffer of {len(buffer)}"
            )
        _atoll.check_alignment(buffer, offset, cls._alignment)
        return cls._view(buffer, offset)

    @classmethod
    def size(cls) -> int:
        """How many bytes one takes, the padding at its end included."""
        return cls._size

    @classmethod
    def array(cls, count: int, *, name: str | None = None) -> StructArray[Self]:
        """`count` of them, one behind the other, in new shared memory.

        Args:
            count: How many; at least 1.
            name: For `open_shared(name)` in other processes.

        Raises:
            ValueError: There is none.
            FileExistsError: There is memory of this name.
        """
        _check_fields(cls)
        if not hasattr(count, "__index__"):
            raise TypeError(f"count must be an int, not {type(count).__name__}")
        count = operator.index(count)  # numpy's ints wrap around
        if count < 1:
            raise ValueError("an array has at least one struct")
        return StructArray(cls, SharedBuffer(cls._size * count, name=name))

    def __repr__(self) -> str:
        values = (f"{f.name}={self._readable(f)!r}" for f in self._fields)
        return f"{type(self).__name__}({', '.join(values)})"

    def _readable(self, field: Field) -> Any:
        if field.kind == "atomic" and self._memory.readonly:
            return self._plain(field)
        value = getattr(self, field.name)
        return value.tolist() if isinstance(value, memoryview) else value

    def __eq__(self, other: object) -> bool:
        """Whether the two have the same type and values, at some moment."""
        if type(other) is not type(self):
            return NotImplemented
        return all(self._plain(f) == other._plain(f) for f in self._fields)

    __hash__ = None  # type: ignore[assignment]

    def _plain(self, field: Field) -> Any:
        if field.kind == "atomic" and self._memory.readonly:
            return struct.unpack_from("@q", self._memory, field.offset)[0]
        value = getattr(self, field.name)
        return value.load() if isinstance(value, AtomicInt) else value

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same values in memory of its own; copy() gives another view of this."""
        made = self._view(SharedBuffer(self._size), 0)
        made._take(self)
        return made

    def _take(self, other: Self) -> None:
        """The values of another: of an AtomicInt without those who wait for it."""
        for field in self._fields:
            start, end = field.offset, field.offset + field.size
            if field.kind == "atomic":
                getattr(self, field.name).store(other._plain(field))
            elif field.struct is not None and field.struct._has_atomics:
                getattr(self, field.name)._take(getattr(other, field.name))
            else:
                self._memory[start:end] = other._memory[start:end]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._buffer, self._offset)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": (),
            "typestr": f"|V{self._size}",
            "descr": self.__array_descr__,
            "data": self._memory,
        }


def _parent(cls: type[Struct]) -> type[Struct]:
    """The base whose fields `cls` begins with."""
    bases = [base for base in cls.__mro__[1:] if issubclass(base, Struct)]
    parent = max(bases, key=lambda base: len(base._fields))
    for base in bases:
        if base._fields != parent._fields[: len(base._fields)]:
            raise TypeError(
                f"{cls.__name__} has two bases with fields, which both begin at 0: let "
                "one be a field of it"
            )
    return parent


def _check_names(cls: type[Struct], parent: type[Struct], own: dict[str, Any]) -> None:
    known = {field.name for field in parent._fields}
    for name in own:
        if name in known:
            raise TypeError(f"{cls.__name__}.{name} is a field of a base already")
        if name in vars(cls):
            raise TypeError(
                f"{cls.__name__}.{name} is given a default, which a field has not: "
                "memory begins with zeros"
            )


def _own_annotations(cls: type[Struct]) -> dict[str, Any]:
    """What the class itself annotates, evaluated, in order; names of types stay so.

    What is a ClassVar, or private by its name, is no field.
    """
    import inspect  # slow to import, and only for who defines a struct
    import sys

    names = vars(sys.modules.get(cls.__module__, sys.modules[__name__]))
    found = {}
    for name, annotation in inspect.get_annotations(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(annotation, str) and annotation not in KNOWN:
            annotation = eval(annotation, dict(names), {**KNOWN, **vars(cls)})
        if ClassVar not in (annotation, get_origin(annotation)):
            found[name] = annotation
    return found


def _rebuild[Made: Struct](cls: type[Made], buffer: SharedBuffer, offset: int) -> Made:
    return cls.over(buffer, offset)  # its class may be another one there


def _check_fields(item: type[Struct]) -> None:
    if not item._fields:
        raise TypeError(f"{item.__name__} has no fields")


def _check_memory(buffer: SharedBuffer) -> None:
    if not isinstance(buffer, SharedBuffer):
        kind = type(buffer).__name__
        raise TypeError(f"structs lie in a SharedBuffer, not in a {kind}")


class StructArray[Item: Struct]:
    """Structs one behind the other in shared memory: `Particle.array(1000)`.

    `particles[3]` is a struct over the memory, and `numpy.asarray(particles)` a
    structured array of them, without a copy. A slice without a step is a view. Two are
    equal, and hash alike, that look at the same memory with the same type of structs.

    Args:
        item: The type of the structs.
        buffer: The memory; as many as fit into it are in the array.

    Raises:
        TypeError: item is no Struct with fields, or buffer no SharedBuffer.
        ValueError: Not one fits, or the memory is not aligned.
    """

    __slots__ = ("__weakref__", "_buffer", "_count", "_item")

    def __init__(self, item: type[Item], buffer: SharedBuffer) -> None:
        if not (isinstance(item, type) and issubclass(item, Struct)):
            raise TypeError(f"item must be a subclass of Struct, not {item!r}")
        _check_fields(item)
        _check_memory(buffer)
        self._item, self._buffer = item, buffer
        self._count = len(buffer) // item._size
        if self._count == 0:
            raise ValueError(f"no {item.__name__} fits into {len(buffer)} bytes")
        _atoll.check_alignment(buffer, 0, item._alignment)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int | slice) -> Any:
        size = self._item._size
        if isinstance(place, slice):
            start, stop, step = place.indices(self._count)
            if step != 1 or stop <= start:
                raise ValueError("a slice of structs has no step, and is not empty")
            part = self._buffer[start * size : stop * size]
            return StructArray(self._item, part)
        if not hasattr(place, "__index__"):
            kind = type(place).__name__
            raise TypeError(f"structs are found by an int or a slice, not {kind}")
        place = operator.index(place)
        index = place + self._count if place < 0 else place
        if not 0 <= index < self._count:
            raise IndexError(f"no struct {place} in an array of {self._count}")
        return self._item._view(self._buffer, index * size)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(self._count))

    def __eq__(self, other: object) -> bool:
        if type(other) is not StructArray:
            return NotImplemented
        return self._item is other._item and self._buffer == other._buffer

    def __hash__(self) -> int:
        return hash((self._item, self._buffer))

    def __repr__(self) -> str:
        return f"<StructArray of {self._count} {self._item.__name__}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> StructArray[Item]:
        """The same values in memory of its own; copy() gives another view of this."""
        made = self._item.array(self._count)
        if self._item._has_atomics:
            for mine, other in zip(made, self, strict=True):
                mine._take(other)
        else:
            size = self._count * self._item._size
            memoryview(made._buffer)[:] = memoryview(self._buffer)[:size]
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return StructArray, (self._item, self._buffer)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": (self._count,),
            "typestr": f"|V{self._item._size}",
            "descr": self._item.__array_descr__,
            "data": memoryview(self._buffer)[: self._count * self._item._size],
        }
