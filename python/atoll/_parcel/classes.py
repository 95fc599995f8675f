"""Types by value: metaclass, bases and attributes, and an identity of their own.

Whoever receives a type twice, or gets back what it sent itself, has one type, so that
`isinstance` and `except` work across a round trip.

A type has a version, which counts the changes that its sender noticed: where it was
written, for only there is it changed for all. A receiver fills a type again when a
later version of it comes. What a type was made of (its bases, metaclass and slots, the
members of an enum, the keys of a TypedDict) cannot be filled in: where that has changed
it is another type from then on, and a receiver makes a new one; instances that it has
already stay of the old one.
"""

import functools
import operator
import os
import sys
import types
import typing
import weakref
from _pickle import PicklingError
from typing import Any

from atoll import _atoll
from atoll._parcel.known import changes, make_known
from atoll._parcel.late import is_enum
from atoll._parcel.names import Reduced, by_name, is_at

__all__ = ["reduce_type"]

_type_of_token: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_token_of_type: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


# Of types written here: version, and what was seen of them then.
_own: weakref.WeakKeyDictionary[type, tuple[int, tuple[int, int]]] = (
    weakref.WeakKeyDictionary()
)
# And what they were made of.
_shapes: weakref.WeakKeyDictionary[type, tuple[Any, ...]] = weakref.WeakKeyDictionary()
_PLAIN = (str, int, float, bytes)
# Of types received, with all their attributes: version, and the attributes' names.
_filled: weakref.WeakKeyDictionary[type, tuple[int, frozenset[str]]] = (
    weakref.WeakKeyDictionary()
)


def _token(found: type) -> str:
    token = _token_of_type.get(found)
    if token is not None and found not in _own:
        return token  # received
    shape = _shape_of(found)
    if token is None or not _same(_shapes[found], shape):
        token = os.urandom(16).hex()
        _own[found] = 1, _seen_of(found)
        _shapes[found] = shape
        _token_of_type[found] = token
        _type_of_token[token] = found  # and still of the one before
    return token


def _shape_of(found: type) -> tuple[Any, ...]:
    """What a receiver makes it of, but for the attributes."""
    parts: tuple[Any, ...] = (type(found), *found.__bases__)
    slots = vars(found).get("__slots__")
    if slots is not None:
        parts += (slots,) if isinstance(slots, str) else tuple(slots)
    if is_enum(found):
        members: dict[str, Any] = dict(found.__members__)
        for name, member in members.items():
            parts += name, member.value
    if isinstance(found, _TypedDictMeta):
        for name, kind in found.__annotations__.items():
            parts += name, kind
        parts += (found.__total__,)
    return parts


def _same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Part for part the same object, or an equal one of CPython's own: runs no code."""
    return len(before) == len(now) and all(
        one is other
        or (type(one) is type(other) and type(one) in _PLAIN and one == other)
        for one, other in zip(before, now, strict=True)
    )


def _seen_of(found: type) -> tuple[int, int]:
    return _atoll.type_version(found), changes(found)


def _version(found: type) -> int:
    """The version to send; read before the attributes are."""
    _token(found)
    if found not in _own:
        return _filled.get(found, (0,))[0]
    version, before = _own[found]
    seen = _seen_of(found)
    if seen != before or seen[0] == 0:  # CPython has no more tags for it
        version += 1
        _own[found] = version, seen
    return version


def _register(made: type, token: str) -> None:
    _token_of_type[made] = token
    _type_of_token[token] = made


_C_NAMES = {
    value: name
    for name, value in vars(types).items()
    if isinstance(value, type) and value.__module__ == "builtins"
}
_NOT_SENT = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__module__",
        "__qualname__",
        "_abc_impl",
        "__static_attributes__",
        "__firstlineno__",
        "__slotnames__",  # copyreg's
        "__annotations_cache__",
        "__annotate_func__",
    }
)
_C_PARTS = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


_TypedDictMeta: Any = vars(typing)["_TypedDictMeta"]


def _metatype_of(found: type) -> type | None:
    """Its metaclass; None where the bases say it, which some in C have no name for."""
    if any(type(base) is type(found) for base in found.__bases__):
        return None
    return type(found)


def reduce_type(found: type) -> Reduced:
    """Take a type apart: by name, or by value where it was written in Python.

    Raises:
        pickle.PicklingError: It can be done neither way.
    """
    if found.__module__ == "builtins" and not is_at(
        found, "builtins", found.__qualname__
    ):
        if found in _C_NAMES:
            return getattr, (types, _C_NAMES[found])
        raise PicklingError("it has no name to find it by")
    named = by_name(found)
    if named is not None:
        return named
    known = make_known(found)
    if known is not None:
        return known
    if is_enum(found):
        return _reduce_enum(found)
    if not found.__flags__ & (1 << 9) or any(  # Py_TPFLAGS_HEAPTYPE
        type(value) in _C_PARTS and value.__objclass__ is found
        for value in vars(found).values()
    ):
        raise PicklingError("it is written in C and not found by its name")
    if type(found).__module__ == "_ctypes" and "_fields_" not in vars(found):
        if hasattr(found, "_length_"):
            return operator.mul, (found._type_, found._length_)  # type: ignore[attr-defined]
        raise PicklingError("ctypes makes it, and it has no name to find it by")
    return _reduce_by_value(found)


def _reduce_by_value(found: type) -> Reduced:
    """What the class statement said, and what was set since."""
    version = _version(found)
    attributes = _attributes_of(found)
    head: dict[str, Any] = {
        "__module__": found.__module__,
        "__qualname__": found.__qualname__,
    }
    slots = vars(found).get("__slots__")
    if slots is not None:
        head["__slots__"] = (slots,) if isinstance(slots, str) else tuple(slots)
    if isinstance(found, _TypedDictMeta) and typing.Generic not in found.__bases__:
        named_as = found.__name__, found.__module__, found.__qualname__
        keys = dict(found.__annotations__), found.__total__
        return _make_typed_dict, (*named_as, *keys, _token(found))
    bases: tuple[Any, ...] = found.__bases__
    if typing.Generic in bases:
        # Their metaclasses work on what the class statement said.
        bases = vars(found).get("__orig_bases__", bases)
        head["__annotations__"] = attributes.pop("__annotations__", {})
    parts = (_metatype_of(found), found.__name__, bases, head, _token(found))
    state = version, (found.__name__, found.__qualname__), attributes
    return _make_type, parts, state, None, None, _complete_type


def _attributes_of(found: type) -> dict[str, Any]:
    """What is in its namespace that making the type does not put there."""
    attributes = {
        name: value
        for name, value in vars(found).items()
        if name not in _NOT_SENT
        and not isinstance(
            value, types.MemberDescriptorType | types.GetSetDescriptorType
        )
        and type(value).__name__ != "CField"  # ctypes makes them of _fields_
    }
    attributes.pop("__slots__", None)
    if sys.version_info >= (3, 14) and not attributes.get("__annotations__"):
        attributes["__annotate__"] = found.__annotate__
    return attributes


def _make_type(
    metatype: Any, name: str, bases: tuple[type, ...], head: dict[str, Any], token: str
) -> type:
    made = _type_of_token.get(token)
    if made is None:
        keywords = {} if metatype is None else {"metaclass": metatype}
        made = types.new_class(name, bases, keywords, lambda body: body.update(head))
        _register(made, token)
    return made


def _make_typed_dict(
    name: str,
    module: str,
    qualname: str,
    keys: dict[str, Any],
    total: bool,
    token: str,
) -> type:
    made: Any = _type_of_token.get(token)
    if made is None:
        make: Any = vars(typing)["TypedDict"]
        made = make(name, keys, total=total)
        made.__module__, made.__qualname__ = module, qualname
        _register(made, token)
    return made  # type: ignore[no-any-return]


type _TypeState = tuple[int, tuple[str, str], dict[str, Any]]


def _has(made: type, version: int) -> bool:
    return made in _own or (made in _filled and _filled[made][0] >= version)


def _complete_type(made: type, state: _TypeState) -> None:
    # Two threads that receive it first at once both fill it, with the same: each may
    # use it when it is done.
    version, (name, qualname), attributes = state
    if _has(made, version):
        return
    before = _filled[made][1] if made in _filled else frozenset()
    if (made.__name__, made.__qualname__) != (name, qualname):
        made.__name__, made.__qualname__ = name, qualname
    for name, value in attributes.items():
        if name != "_fields_" or name not in before:  # which ctypes takes once
            setattr(made, name, value)
    for name in before.difference(attributes):
        if name in vars(made):
            delattr(made, name)
    _filled[made] = version, frozenset(attributes)


def _reduce_enum(found: Any) -> Reduced:
    import enum

    version = _version(found)
    members = {member.name: member.value for member in found.__members__.values()}
    aliases = {
        name: member.value
        for name, member in found.__members__.items()
        if name != member.name
    }
    skipped = _NOT_SENT | set(found.__members__) | set(vars(enum.Enum))
    attributes = {
        name: value
        for name, value in vars(found).items()
        if name not in skipped
        and isinstance(
            value, types.FunctionType | property | classmethod | staticmethod
        )
    }
    arguments = (
        type(found),
        found.__name__,
        found.__bases__,
        members | aliases,
        {"__module__": found.__module__, "__qualname__": found.__qualname__},
        _token(found),
    )
    parts = _member_parts()
    # The receiver makes members of their values alone, without __new__ and __init__,
    # whose globals are not there yet; what those have set comes afterwards.
    own = {
        member.name: {k: v for k, v in vars(member).items() if k not in parts}
        for member in found.__members__.values()
    }
    state = version, (found.__name__, found.__qualname__), attributes
    of_members = {name: values for name, values in own.items() if values}
    return _make_enum, arguments, (state, of_members), None, None, _complete_enum


@functools.cache
def _member_parts() -> frozenset[str]:
    """What every member of an enum has, whatever the class."""
    import enum

    class One(enum.Enum):
        A = 1

    return frozenset(vars(One.A)) | {"_sort_order_"}


def _complete_enum(made: Any, both: tuple[_TypeState, dict[str, Any]]) -> None:
    state, own = both
    if not _has(made, state[0]):
        for name, values in own.items():
            vars(made[name]).update(values)
        _complete_type(made, state)


def _make_enum(
    metatype: Any,
    name: str,
    bases: tuple[type, ...],
    members: dict[str, Any],
    head: dict[str, Any],
    token: str,
) -> type:
    made = _type_of_token.get(token)
    if made is None:
        body = metatype.__prepare__(name, bases)
        for key, value in (head | members).items():
            body[key] = value
        made = metatype(name, bases, body)
        _register(made, token)
    return made
