"""Functions and types by value that are known: taken apart once, made once.

One is known here when it means the same wherever and whenever it is sent: all that it
refers to is a constant, goes by name, or is such a function or type itself. What would
make it mean something else is written down as guards, which src/parcel/known.c checks
at each use without running any code. It then sends a token and the bytes that were made
before, and a receiver that has met the token does not look at the bytes.

A type is made known when it is sent for the second time: many are sent once.
"""

import os
import sys
import threading
import types
import typing
import weakref
from collections.abc import Mapping
from importlib.machinery import PathFinder
from typing import Any

from atoll import _atoll
from atoll._parcel.code import analyse, assigns_globals
from atoll._parcel.late import dataclasses_here, is_enum
from atoll._parcel.names import Reduced, by_name, importable

__all__ = ["changes", "make_known", "received"]

_KEPT = 1024
_LONGEST = 1024  # characters of a constant

# What the first item is says what is checked:
#   (function, code, closure, defaults, kwdefaults, dict, (name, value, ...), (name, ...),
#    name, qualname, doc, annotations)
#   (type, version, name, qualname)
#   (cell, content)
#   (dict, (name, value, ...)): it holds these and no others
type Guard = tuple[Any, ...]
_known: dict[Any, tuple[tuple[Guard, ...], bytes, bytes]] = {}
_received: dict[bytes, Any] = {}

_met: weakref.WeakSet[type] = weakref.WeakSet()
# Types that cannot be known, and their version when that was seen.
_unknown: weakref.WeakKeyDictionary[type, int] = weakref.WeakKeyDictionary()
# How often a guard has noticed that they, or what goes with them, are not as they were.
_changes: weakref.WeakKeyDictionary[type, int] = weakref.WeakKeyDictionary()


class _State(threading.local):
    root: Any = None  # this thread makes the bytes of that one


_here = _State()


def make_known(found: Any) -> Reduced | None:
    """What `found`, a function or type that goes by value, is sent as; None: in full."""
    outer = _here.root
    if outer is found:
        return None
    if isinstance(found, type):
        if outer is not None:
            return None
        if found not in _met:
            _met.add(found)
            return None
        if _unknown.get(found) == _atoll.type_version(found):
            return None
    before = _known.pop(found, None)
    if before is not None:  # and does not hold any more
        for guard in before[0]:
            if isinstance(guard[0], type):
                _changes[guard[0]] = changes(guard[0]) + 1
    walk = _Walk(found)
    try:
        walk.visit(found)
        _here.root = found
        data = _atoll.dumps(found, whole=True)
    except Exception:  # it may be user code's: annotations are evaluated
        if isinstance(found, type):
            _unknown[found] = _atoll.type_version(found)
        return None
    finally:
        _here.root = outer
    token = os.urandom(16)
    if len(_known) >= _KEPT:
        _known.clear()
    _known[found] = tuple(walk.guards), token, data
    return received, (token, data)


def changes(found: type) -> int:
    """How often `found` was known and then noticed to have changed."""
    return _changes.get(found, 0)


def received(token: bytes, data: bytes) -> Any:
    """The function or type that comes as `token`."""
    found = _received.get(token)
    if found is None:
        found = _atoll.loads(data, trusted=True)
        if len(_received) >= _KEPT:
            _received.clear()
        _received[token] = found
    return found


class _Changes(Exception):
    """What was met can change in a way that no guard sees."""


_CONSTANTS = (type(None), bool, int, float, complex, type(...), type(NotImplemented))
_FIELD_PARTS = (
    "name",
    "type",
    "default",
    "default_factory",
    "repr",
    "hash",
    "init",
    "compare",
    "kw_only",
    "_field_type",
)
_SpecialForm: Any = vars(typing)["_SpecialForm"]
_TypedDictMeta: Any = vars(typing)["_TypedDictMeta"]
_MADE_ANEW = (types.MemberDescriptorType, types.GetSetDescriptorType)


class _Walk:
    """Visits all that goes with a function or type, and collects the guards."""

    def __init__(self, root: Any) -> None:
        self.guards: list[Guard] = []
        self._root = root
        self._is_leaf = isinstance(root, types.FunctionType)
        self._seen: dict[int, Any] = {}

    def visit(self, value: Any) -> None:
        """Raise `_Changes` unless `value` can be guarded."""
        if isinstance(value, _CONSTANTS) and type(value) in _CONSTANTS:
            return
        if type(value) in (str, bytes):
            if len(value) > _LONGEST:
                raise _Changes
            return
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if type(value) in (tuple, frozenset):
            for item in value:
                self.visit(item)
        elif isinstance(value, type):
            self._type(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.ModuleType):
            if not importable(value.__name__):
                raise _Changes
        elif isinstance(value, types.BuiltinFunctionType):
            if not isinstance(value.__self__, types.ModuleType):
                raise _Changes
        elif type(value) in (staticmethod, classmethod):
            self.visit(value.__func__)
        elif is_enum(type(value)):
            self._type(type(value))
        elif type(value) is property:
            for part in (value.fget, value.fset, value.fdel, value.__doc__):
                self.visit(part)
        else:
            self._annotation(value)

    def _annotation(self, value: Any) -> None:
        if isinstance(value, types.GenericAlias | types.UnionType) or (
            type(value).__module__ == "typing" and hasattr(value, "__args__")
        ):
            self.visit(getattr(value, "__origin__", None))
            self.visit(value.__args__)
        elif type(value).__name__ == "_DataclassParams":
            for part in type(value).__slots__:
                self.visit(getattr(value, part))
        elif not isinstance(value, _SpecialForm):
            self._of_dataclasses(value)

    def _of_dataclasses(self, value: Any) -> None:
        known = dataclasses_here()
        if known is None:
            raise _Changes
        if type(value) is known.field:
            if value.metadata:
                raise _Changes
            for part in _FIELD_PARTS:
                self.visit(getattr(value, part))
        elif not (
            isinstance(value, (known.field_kind, known.docstring))
            or any(value is single for single in known.singletons.values())
        ):
            raise _Changes

    def _named(self, table: Mapping[str, Any]) -> None:
        for value in table.values():
            self.visit(value)

    def _not_below_a_function(self, value: Any) -> None:
        # Other functions may bring the same ones: in a message they are one function.
        if self._is_leaf and value is not self._root:
            raise _Changes

    def _function(self, function: types.FunctionType) -> None:
        if by_name(function) is not None:
            return
        self._not_below_a_function(function)
        if function.__type_params__ or assigns_globals(function.__code__):
            raise _Changes
        _, names, every = analyse(function.__code__)
        namespace = function.__globals__
        used = {name: namespace[name] for name in names if name in namespace}
        for value in used.values():
            # The functions of a message share their globals, and one may assign them.
            if type(value) in _CHANGING:
                raise _Changes
            if isinstance(value, types.ModuleType) and _may_load(value, every):
                raise _Changes
        self._named(used)
        annotations = function.__annotations__
        self.visit(function.__defaults__)
        self.visit(function.__doc__)
        for table in (annotations, function.__kwdefaults__, function.__dict__):
            if table:
                self._named(table)
                self.guards.append((table, _flat(table)))
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                raise _Changes from None
            if not _is_scratch(function, content):
                self.visit(content)
                self.guards.append((cell, content))
        self.guards.append(
            (
                function,
                function.__code__,
                function.__closure__ or None,
                function.__defaults__ or None,
                function.__kwdefaults__ or None,
                function.__dict__ or None,
                _flat(used),
                tuple(name for name in names if name not in namespace),
                function.__name__,
                function.__qualname__,
                function.__doc__,
                annotations or None,
            )
        )

    def _type(self, found: type) -> None:
        if found.__module__ == "builtins" or by_name(found) is not None:
            return
        self._not_below_a_function(found)
        # Before the version: from 3.14 on they are kept in the type when asked for.
        keys = found.__annotations__ if isinstance(found, _TypedDictMeta) else {}
        version = _atoll.type_version(found)
        if version == 0 or type(found).__hash__ is not type.__hash__:
            raise _Changes
        self.guards.append((found, version, found.__name__, found.__qualname__))
        self.visit(type(found))
        for base in found.__bases__:
            self.visit(base)
        if keys:
            self._named(keys)
            self.guards.append((keys, _flat(keys)))
        if is_enum(found):
            members: list[Any] = list(found.__members__.values())
            self.guards.append((found._member_map_, _flat(found._member_map_)))
            for member in members:
                self._seen[id(member)] = member
                self._named(vars(member))
                self.guards.append((vars(member), _flat(vars(member))))
        for name, value in vars(found).items():
            if isinstance(value, _MADE_ANEW) or name in _OF_TYPES:
                continue
            if name in ("__annotations__", "__dataclass_fields__"):
                if type(value) is not dict:
                    raise _Changes
                self._named(value)
                self.guards.append((value, _flat(value)))
            elif is_enum(found) and not isinstance(value, _OF_CODE):
                continue  # EnumType makes them, of the members
            else:
                self.visit(value)


_OF_TYPES = frozenset(
    {
        "_abc_impl",
        "__dict__",
        "__weakref__",
        "__annotations_cache__",
        "__annotate_func__",
        "__static_attributes__",
        "__firstlineno__",
        "__slotnames__",  # copyreg's
    }
)
_CHANGING = (bool, int, float, complex, str, bytes, tuple, frozenset)
_OF_CODE = (types.FunctionType, property, classmethod, staticmethod)


def _may_load(module: types.ModuleType, names: frozenset[str]) -> bool:
    """May one of `names` be a submodule that is not imported yet, and goes along then?"""
    if not hasattr(module, "__path__"):
        return False
    for name in names - vars(module).keys():
        full = f"{module.__name__}.{name}"
        if full not in sys.modules and PathFinder.find_spec(full, module.__path__):
            return True
    return any(
        _may_load(inner, names)
        for name in names
        if (inner := sys.modules.get(f"{module.__name__}.{name}")) is not None
    )


def _is_scratch(function: types.FunctionType, content: Any) -> bool:
    # The set of those whose repr is being made, of dataclasses and reprlib.
    return type(content) is set and function.__code__.co_qualname.startswith(
        ("_recursive_repr.", "recursive_repr.")
    )


def _flat(table: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(part for pair in table.items() for part in pair)
