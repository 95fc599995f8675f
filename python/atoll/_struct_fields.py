"""The fields of structs: where they lie, and how they are read and set."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from atoll import _atoll

if TYPE_CHECKING:
    from atoll._struct import Struct

__all__ = ["ACCESS", "LETTERS", "Field", "describe"]

# The struct module's format of an item -> numpy's code for it, without the size.
LETTERS = dict(zip("?bBhHiIqQefd", "biuiuiuiufff", strict=True))


class Field(NamedTuple):
    """One field, and how many bytes it has where."""

    name: str
    offset: int
    size: int
    alignment: int
    format: str  # the struct module's, of one item
    shape: tuple[int, ...]  # of an array; () of all else
    kind: str  # of ACCESS
    struct: type[Struct] | None


# ---- access ------------------------------------------------------------------------


class _Access:
    """A field as an attribute. Pickled by what it was made of, with its class.

    What is set is packed first and then copied: struct's pack_into() writes zeros, which
    others see, and which stay where it refuses the value.
    """

    __slots__ = ("_field", "_name", "_place")

    def __init__(self, field: Field, readable: str) -> None:
        self._field, self._name = field, readable
        self._place = slice(field.offset, field.offset + field.size)

    def __delete__(self, one: Struct) -> None:
        raise AttributeError(f"{self._name} is a field: it can be set, not deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._field, self._name)


class _Value(_Access):
    __slots__ = ("_offset", "_pack", "_read")

    def __init__(self, field: Field, readable: str) -> None:
        super().__init__(field, readable)
        codec = struct.Struct(f"@{field.format}")
        self._read, self._pack = codec.unpack_from, codec.pack
        self._offset = field.offset

    def __get__(self, one: Struct | None, owner: object = None) -> Any:
        return self if one is None else self._read(one._memory, self._offset)[0]

    def __set__(self, one: Struct, value: Any) -> None:
        try:
            one._memory[self._place] = self._pack(value)
        except (struct.error, OverflowError, TypeError) as error:
            raise _refused(one, self._name, self._field.format, value, error) from None


class _Bool(_Value):
    """Only what is true or false: to struct all things are."""

    __slots__ = ()

    def __set__(self, one: Struct, value: Any) -> None:
        if value is not True and value is not False:
            value = _truth(self._name, value)
        _Value.__set__(self, one, value)


def _truth(readable: str, value: Any) -> bool:
    """A bool, of numpy too, or an int that is one."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__bool__"):
        raise TypeError(f"{readable} takes a bool, not {type(value).__name__}")
    if value not in (0, 1):
        raise TypeError(f"{readable} takes a bool, not {value!r}")
    return bool(value)


def _refused(
    one: Struct, readable: str, format: str, value: Any, error: Exception
) -> Exception:
    """What to raise where the struct module did not take a value."""
    if one._memory.readonly:
        return TypeError(f"{readable} is in memory that is read-only")
    fits_type = hasattr(value, "__index__") or (
        format in "efd" and isinstance(value, float)
    )
    if isinstance(error, OverflowError) or (
        isinstance(error, struct.error) and fits_type
    ):
        return OverflowError(f"{_short(value)} is not in the range of {readable}")
    return TypeError(f"{readable} takes no {type(value).__name__}: {error}")


def _short(value: Any) -> str:
    """A number as text, without the thousands of digits that some have."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an int of {value.bit_length()} bits"
    return repr(value)


class _Bytes(_Access):
    __slots__ = ()

    def __get__(self, one: Struct | None, owner: object = None) -> Any:
        if one is None:
            return self
        start = self._field.offset
        return bytes(one._memory[start : start + self._field.size]).rstrip(b"\0")

    def __set__(self, one: Struct, value: bytes) -> None:
        start, size = self._field.offset, self._field.size
        try:
            data = memoryview(value).tobytes()
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"{self._name} takes bytes, not {kind}") from None
        if len(data) > size:
            text = f"{len(data)} bytes do not fit into the {size} of {self._name}"
            raise ValueError(text)
        if one._memory.readonly:
            raise TypeError(f"{self._name} is in memory that is read-only")
        one._memory[start : start + size] = data.ljust(size, b"\0")


class _Array(_Access):
    __slots__ = ()

    def __get__(self, one: Struct | None, owner: object = None) -> Any:
        if one is None:
            return self
        start, code = self._field.offset, cast(Any, self._field.format)
        flat = one._memory[start : start + self._field.size]
        return flat.cast(code, self._field.shape)

    def __set__(self, one: Struct, values: Any) -> None:
        field, name = self._field, self._name
        items = _flat(values, field.shape, name)
        if field.format == "?":
            items = [_truth(name, item) for item in items]
        codec = struct.Struct(f"@{math.prod(field.shape)}{field.format}")
        try:
            one._memory[self._place] = codec.pack(*items)
        except (struct.error, OverflowError, TypeError) as error:
            culprit, reason = _culprit(items, field.format, error)
            raise _refused(one, name, field.format, culprit, reason) from None


def _culprit(items: list[Any], format: str, error: Exception) -> tuple[Any, Exception]:
    """Which of several the struct module does not take, and why."""
    for item in items:
        try:
            struct.pack(f"@{format}", item)
        except (struct.error, OverflowError, TypeError) as reason:
            return item, reason
    return items, error


def _flat(values: Any, shape: tuple[int, ...], readable: str | None) -> list[Any]:
    try:
        rows = values.tolist() if isinstance(values, memoryview) else list(values)
    except TypeError:
        kind = type(values).__name__
        raise TypeError(f"{readable} takes {shape} items, not one {kind}") from None
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
            if one._memory.readonly:
                raise TypeError(
                    f"{self._name} is in memory that is read-only, and an AtomicInt "
                    "can be changed"
                )
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
        if one._memory.readonly:
            raise TypeError(f"{self._name} is in memory that is read-only")
        one._memory[start : start + inner._size] = value._memory


ACCESS: dict[str, type[_Access]] = {
    "bool": _Bool,
    "value": _Value,
    "bytes": _Bytes,
    "array": _Array,
    "atomic": _Atomic,
    "struct": _Inner,
}

# ---- for numpy -----------------------------------------------------------------------


def _numpy_type(field: Field) -> Any:
    if field.struct is not None:
        return field.struct.__array_descr__
    if field.kind == "bytes":
        return f"|S{field.size}"
    size = struct.calcsize(field.format)
    order = "|" if size == 1 else "<"
    return f"{order}{LETTERS[field.format]}{size}"


def describe(fields: tuple[Field, ...], size: int) -> list[Any]:
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
