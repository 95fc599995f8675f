"""Structs of named fields over shared memory.

The layout is C's: each field at a multiple of its size, as ctypes and numpy's aligned
structured types have it. A struct holds no data of its own: it is a view, and what is
sent is the view.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import (
    Annotated,
    Any,
    NamedTuple,
    Self,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
)

from atoll import _atoll
from atoll._atoll import AtomicInt, SharedBuffer

__all__ = ["Struct", "StructArray"]

# numpy's name of an item type -> the struct module's.
FORMATS = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
}
# The struct module's -> numpy's, without the size.
LETTERS = dict(zip("?bBhHiIqQefd", "biuiuiuiufff", strict=True))
# Names that mean themselves, where annotations are text.
KNOWN = {name: name for name in [*FORMATS, *LETTERS] if name != "bool"}
PYTHON_TYPES = {bool: "bool", int: "int64", float: "float64"}
# The value, and what its wait() and notify() need beside it.
ATOMIC_BYTES = 16


class _Field(NamedTuple):
    """One field, and how many bytes it has where."""

    name: str
    offset: int
    size: int
    alignment: int
    format: str  # the struct module's, of one item
    shape: tuple[int, ...]  # of an array; () of all else
    kind: str  # "value", "bytes", "array", "atomic" or "struct"
    struct: type[Struct] | None


# ---- from annotations to fields --------------------------------------------------------


def _format_of(annotation: Any) -> str | None:
    """The struct module's format of what SharedArray takes as a dtype, or None."""
    if isinstance(annotation, str):
        name = annotation
    elif annotation in PYTHON_TYPES:
        name = PYTHON_TYPES[annotation]
    else:  # numpy.float32, or numpy.dtype("float32")
        name = getattr(annotation, "name", getattr(annotation, "__name__", ""))
    return FORMATS.get(name, name if name in LETTERS else None)


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


def _field_of(where: str, name: str, annotation: Any) -> _Field:
    """The field of an annotation; its place is not known yet."""
    given = annotation
    extras: list[Any] = []
    if get_origin(annotation) is Annotated:
        annotation, *extras = get_args(annotation)
    shape = _shape_of(f"{where}.{name}", extras)
    if isinstance(annotation, type) and not extras and shape is None:
        if issubclass(annotation, AtomicInt):
            return _Field(name, 0, ATOMIC_BYTES, 8, "q", (), "atomic", None)
        if issubclass(annotation, Struct):
            size, alignment = annotation._size, annotation._alignment
            return _Field(name, 0, size, alignment, "", (), "struct", annotation)
    if annotation is bytes and shape is not None and len(shape) == 1 and not extras:
        return _Field(name, 0, shape[0], 1, f"{shape[0]}s", (), "bytes", None)
    code = _format_of(extras[0] if extras else annotation)
    if code is None or len(extras) > 1:
        raise TypeError(f"{where}.{name}: {_refusal(given, annotation)}")
    size = struct.calcsize(code)
    if shape is None:
        return _Field(name, 0, size, size, code, (), "value", None)
    return _Field(name, 0, size * math.prod(shape), size, code, shape, "array", None)


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


# ---- access ------------------------------------------------------------------------


class _Access:
    """A field as an attribute. Pickled by what it was made of, with its class."""

    __slots__ = ("_field", "_name")

    def __init__(self, field: _Field, readable: str) -> None:
        self._field, self._name = field, readable

    def __delete__(self, one: Struct) -> None:
        raise AttributeError(f"{self._name} is a field: it can be set, not deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._field, self._name)


class _Value(_Access):
    __slots__ = ("_offset", "_read", "_write")

    def __init__(self, field: _Field, readable: str) -> None:
        super().__init__(field, readable)
        codec = struct.Struct(f"@{field.format}")
        self._read, self._write = codec.unpack_from, codec.pack_into
        self._offset = field.offset

    def __get__(self, one: Struct | None, owner: object = None) -> Any:
        return self if one is None else self._read(one._memory, self._offset)[0]

    def __set__(self, one: Struct, value: Any) -> None:
        try:
            self._write(one._memory, self._offset, value)
        except struct.error as error:
            fits_type = isinstance(value, int) or self._field.format in "efd"
            if isinstance(value, (int, float)) and fits_type:
                text = f"{value!r} is not in the range of {self._name}"
                raise OverflowError(text) from None
            kind = type(value).__name__
            raise TypeError(f"{self._name} takes no {kind}: {error}") from None


class _Bytes(_Access):
    __slots__ = ()

    def __get__(self, one: Struct | None, owner: object = None) -> Any:
        if one is None:
            return self
        start = self._field.offset
        return bytes(one._memory[start : start + self._field.size]).rstrip(b"\0")

    def __set__(self, one: Struct, value: bytes) -> None:
        start, size = self._field.offset, self._field.size
        if isinstance(value, (str, int)):
            kind = type(value).__name__
            raise TypeError(f"{self._name} takes bytes, not {kind}")
        if len(value) > size:
            text = f"{len(value)} bytes do not fit into the {size} of {self._name}"
            raise ValueError(text)
        one._memory[start : start + size] = bytes(value).ljust(size, b"\0")


class _Array(_Access):
    __slots__ = ()

    def __get__(self, one: Struct | None, owner: object = None) -> Any:
        if one is None:
            return self
        start, code = self._field.offset, cast(Any, self._field.format)
        flat = one._memory[start : start + self._field.size]
        return flat.cast(code, self._field.shape)

    def __set__(self, one: Struct, values: Any) -> None:
        field = self._field
        codec = struct.Struct(f"@{math.prod(field.shape)}{field.format}")
        items = _flat(values, field.shape, self._name)
        try:
            codec.pack_into(one._memory, field.offset, *items)
        except struct.error as error:
            raise TypeError(f"{values!r} is no {self._name}: {error}") from None


def _flat(values: Any, shape: tuple[int, ...], readable: str | None) -> list[Any]:
    rows = values.tolist() if isinstance(values, memoryview) else list(values)
    if len(rows) != shape[0]:
        raise ValueError(f"{len(rows)} items for the {shape[0]} of {readable}")
    if len(shape) == 1:
        return rows
    return [item for row in rows for item in _flat(row, shape[1:], readable)]


class _Atomic(_Access):
    __slots__ = ()

    def __get__(self, one: Struct | None, owner: object = None) -> Any:
        if one is None:
            return self
        found = one._parts.get(self._field.name)
        if found is None:
            place = one._offset + self._field.offset
            made = _atoll.atomic_at(one._buffer, place)
            found = one._parts.setdefault(self._field.name, made)
        return found

    def __set__(self, one: Struct, value: Any) -> None:
        atomic = self.__get__(one)
        if value is not atomic:  # what `struct.field += 1` ends with
            atomic.store(value)


class _Inner(_Access):
    __slots__ = ()

    def __get__(self, one: Struct | None, owner: object = None) -> Any:
        inner = self._field.struct
        if one is None or inner is None:
            return self
        return inner._view(one._buffer, one._offset + self._field.offset)

    def __set__(self, one: Struct, value: Any) -> None:
        inner, start = self._field.struct, self._field.offset
        if type(value) is not inner:
            raise TypeError(f"{value!r} is no {self._name}")
        if inner._has_atomics:
            raise TypeError(f"{self._name} has atomic ints: set its fields")
        one._memory[start : start + inner._size] = value._memory


_ACCESS: dict[str, type[_Access]] = {
    "value": _Value,
    "bytes": _Bytes,
    "array": _Array,
    "atomic": _Atomic,
    "struct": _Inner,
}

# ---- for numpy -----------------------------------------------------------------------


def _numpy_type(field: _Field) -> Any:
    if field.struct is not None:
        return field.struct.__array_descr__
    if field.kind == "bytes":
        return f"|S{field.size}"
    size = struct.calcsize(field.format)
    order = "|" if size == 1 else "<"
    return f"{order}{LETTERS[field.format]}{size}"


def _descr(fields: tuple[_Field, ...], size: int) -> list[Any]:
    """The layout as `__array_interface__` has it: without names, it is padding."""
    found: list[Any] = []
    end = 0
    for field in fields:
        if field.offset > end:
            found.append(("", f"|V{field.offset - end}"))
        entry: tuple[Any, ...] = field.name, _numpy_type(field)
        found.append((*entry, field.shape) if field.shape else entry)
        end = field.offset + (8 if field.kind == "atomic" else field.size)
    if size > end:
        found.append(("", f"|V{size - end}"))
    return found


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
    many bytes. A field may be another Struct. An `AtomicInt` can be changed by several
    at once and waited for; of all other fields a write by one is seen by others at some
    time, and two that belong together want a Lock.

    The layout is C's, as `ctypes.Structure` has it; `Annotated` is PEP 593's.

    `Particle(mass=1.0)` has memory of its own, with zeros where nothing is said.
    Sending a struct through a channel or to another process sends the view: all see
    the same fields. `numpy.asarray(particle)` is a structured array over the memory,
    without a copy.

    Args:
        values: Fields to set.

    Raises:
        TypeError: There is no such field, or a value is of the wrong type.
        OverflowError: A number is not in the range of its field.
    """

    __slots__ = ("__weakref__", "_buffer", "_memory", "_offset", "_parts")

    _buffer: SharedBuffer
    _memory: memoryview
    _offset: int
    _parts: dict[str, AtomicInt]

    # Of the class, and no fields.
    _fields: tuple[_Field, ...] = ()
    _size = 0
    _alignment = 1
    _has_atomics = False
    __array_descr__: list[Any] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        fields = list(cls._fields)
        end, alignment = cls._size, cls._alignment
        own = _own_annotations(cls)
        for name, annotation in own.items():
            field = _field_of(cls.__name__, name, annotation)
            field = field._replace(offset=_round_up(end, field.alignment))
            fields.append(field)
            end = field.offset + field.size
            alignment = max(alignment, field.alignment)
            readable = f"{cls.__name__}.{name}"
            setattr(cls, name, _ACCESS[field.kind](field, readable))
        cls._fields = tuple(fields)
        cls._size = _round_up(end, alignment)
        cls._alignment = alignment
        cls._has_atomics = any(
            field.kind == "atomic"
            or (field.struct is not None and field.struct._has_atomics)
            for field in fields
        )
        cls.__array_descr__ = _descr(cls._fields, cls._size)

    def __init__(self, **values: Any) -> None:
        if not self._fields:
            raise TypeError(f"{type(self).__name__} has no fields")
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
            ValueError: They do not fit, or are not aligned there.
        """
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
        if not hasattr(count, "__index__"):
            raise TypeError(f"count must be an int, not {type(count).__name__}")
        if count < 1:
            raise ValueError("an array has at least one struct")
        return StructArray(cls, SharedBuffer(cls._size * count, name=name))

    def __repr__(self) -> str:
        values = (f"{f.name}={self._readable(f)!r}" for f in self._fields)
        return f"{type(self).__name__}({', '.join(values)})"

    def _readable(self, field: _Field) -> Any:
        value = getattr(self, field.name)
        return value.tolist() if isinstance(value, memoryview) else value

    def __eq__(self, other: object) -> bool:
        """Whether the two have the same type and values, at some moment."""
        if type(other) is not type(self):
            return NotImplemented
        return all(self._plain(f) == other._plain(f) for f in self._fields)

    __hash__ = None  # type: ignore[assignment]

    def _plain(self, field: _Field) -> Any:
        value = getattr(self, field.name)
        return value.load() if isinstance(value, AtomicInt) else value

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


def _own_annotations(cls: type[Struct]) -> dict[str, Any]:
    """What the class itself annotates, evaluated, in order; names of types stay so."""
    import inspect  # slow to import, and only for who defines a struct
    import sys

    names = vars(sys.modules.get(cls.__module__, sys.modules[__name__]))
    found = {}
    for name, annotation in inspect.get_annotations(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(annotation, str) and annotation not in KNOWN:
            annotation = eval(annotation, dict(names), {**KNOWN, **vars(cls)})
        found[name] = annotation
    return found


def _rebuild[Made: Struct](cls: type[Made], buffer: SharedBuffer, offset: int) -> Made:
    return cls._view(buffer, offset)


class StructArray[Item: Struct]:
    """Structs one behind the other in shared memory: `Particle.array(1000)`.

    `particles[3]` is a struct over the memory, and `numpy.asarray(particles)` a
    structured array of them, without a copy. A slice without a step is a view.

    Args:
        item: The type of the structs.
        buffer: The memory; as many as fit into it are in the array.

    Raises:
        ValueError: Not one fits, or the memory is not aligned.
    """

    __slots__ = ("__weakref__", "_buffer", "_count", "_item")

    def __init__(self, item: type[Item], buffer: SharedBuffer) -> None:
        if not (isinstance(item, type) and issubclass(item, Struct)):
            raise TypeError(f"item must be a subclass of Struct, not {item!r}")
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
        index = place + self._count if place < 0 else place
        if not 0 <= index < self._count:
            raise IndexError(f"no struct {place} in an array of {self._count}")
        return self._item._view(self._buffer, index * size)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(self._count))

    def __repr__(self) -> str:
        return f"<StructArray of {self._count} {self._item.__name__}>"

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
