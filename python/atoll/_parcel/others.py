"""Objects that pickle does not take, and those that nothing can."""

import functools
import importlib
import io
import mmap
import queue
import sys
import threading
import types
import typing
from _pickle import PicklingError
from collections.abc import Callable
from typing import Any

from atoll._parcel.arrays import reduce_memoryview
from atoll._parcel.functions import reduce_cell, reduce_code, reduce_function
from atoll._parcel.late import dataclasses_here
from atoll._parcel.names import Reduced, by_name, importable, is_at

__all__ = ["REDUCERS", "take_dataclasses"]


def _reduce_module(module: types.ModuleType) -> Reduced:
    name = module.__name__
    if name != "__main__" and not importable(name):
        raise PicklingError("the module cannot be imported by its name")
    return importlib.import_module, (name,)


def _reduce_method(method: types.MethodType) -> Reduced:
    function, owner = method.__func__, method.__self__
    if getattr(owner, getattr(function, "__name__", ""), None) == method:
        return getattr, (owner, function.__name__)
    return _make_method, (owner, function)


def _make_method(owner: Any, function: Callable[..., Any]) -> types.MethodType:
    return types.MethodType(function, owner)


def _reduce_property(value: property) -> Reduced:
    return property, (value.fget, value.fset, value.fdel, value.__doc__)


def _reduce_cached(function: Any) -> Reduced:
    named = by_name(function)
    if named is not None:
        return named
    return _make_cached, (function.__wrapped__, function.cache_parameters())


def _make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_singleton(name: str, value: object) -> Reduced:
    return getattr, (sys.modules["dataclasses"], name)


def _reduce_field_type(value: Any) -> Reduced:
    return getattr, (sys.modules["dataclasses"], value.name)


def _reduce_view(view: Any) -> Reduced:
    mapping = dict(view.mapping)
    method = {_Keys: "keys", _Values: "values", _Items: "items"}[type(view)]
    return _call_method, (mapping, method)


def _call_method(owner: Any, name: str) -> Any:
    return getattr(owner, name)()


_Keys: type = type({}.keys())
_Values: type = type({}.values())
_Items: type = type({}.items())


def _reduce_type_variable(variable: Any) -> Reduced:
    module_name = variable.__module__
    if importable(module_name) and is_at(variable, module_name, variable.__name__):
        return str(variable.__name__)
    settings = {}
    if not isinstance(variable, typing.TypeVarTuple):
        settings["bound"] = variable.__bound__
        for name in ("covariant", "contravariant", "infer_variance"):
            settings[name] = getattr(variable, f"__{name}__")
    constraints = getattr(variable, "__constraints__", ())
    return _make_type_variable, (
        type(variable),
        (variable.__name__, *constraints),
        settings,
    )


def _make_type_variable(
    kind: Any, arguments: tuple[Any, ...], settings: dict[str, Any]
) -> Any:
    return kind(*arguments, **settings)


def _reduce_new_type(made: Any) -> Reduced:
    named = by_name(made)
    if named is not None:
        return named
    return (
        typing.NewType,
        (made.__name__, made.__supertype__),
        {
            "__module__": made.__module__,
            "__qualname__": made.__qualname__,
        },
    )


def _reduce_type_alias(alias: Any) -> Reduced:
    if importable(alias.__module__) and is_at(alias, alias.__module__, alias.__name__):
        return str(alias.__name__)
    return _make_type_alias, (alias.__name__, alias.__value__, alias.__type_params__)


def _make_type_alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    return typing.TypeAliasType(name, value, type_params=parameters)


def _reduce_dispatch_method(method: Any) -> Reduced:
    return type(method), (method.func,), {"dispatcher": method.dispatcher}


# What people try to send, and what they can send instead.
_INSTEAD: dict[type, str] = {
    type(threading.Lock()): "an atoll.Lock can be",
    type(threading.RLock()): "an atoll.RLock can be",
    types.GeneratorType: "send its items, as a list or one by one through a Channel",
    types.CoroutineType: "send the function that makes it; asyncio.run() runs it there",
    types.AsyncGeneratorType: "send its items through a Channel",
    io.TextIOWrapper: "send its path",
    io.BufferedReader: "send its path",
    io.BufferedWriter: "send its path",
    io.BufferedRandom: "send its path",
    io.FileIO: "send its path",
    mmap.mmap: "an atoll.SharedBuffer can be, and bytes of it",
    queue.SimpleQueue: "an atoll.Channel can be",
}


def _reduce_not(value: object) -> Reduced:
    kind = type(value)
    raise PicklingError(f"cannot pickle '{kind.__qualname__}' object; {_INSTEAD[kind]}")


# Exact type -> function from an instance to what its __reduce_ex__ would give.
REDUCERS: dict[type, Callable[[Any], Reduced]] = {
    types.FunctionType: reduce_function,
    types.CellType: reduce_cell,
    types.ModuleType: _reduce_module,
    types.MethodType: _reduce_method,
    types.MappingProxyType: lambda proxy: (types.MappingProxyType, (dict(proxy),)),
    property: _reduce_property,
    staticmethod: lambda value: (staticmethod, (value.__func__,)),
    classmethod: lambda value: (classmethod, (value.__func__,)),
    memoryview: reduce_memoryview,
    type(functools.lru_cache(len)): _reduce_cached,
    typing.TypeVar: _reduce_type_variable,
    typing.ParamSpec: _reduce_type_variable,
    typing.TypeVarTuple: _reduce_type_variable,
    typing.NewType: _reduce_new_type,
    typing.TypeAliasType: _reduce_type_alias,
    types.CodeType: reduce_code,
    functools.singledispatchmethod: _reduce_dispatch_method,
    **dict.fromkeys(_INSTEAD, _reduce_not),
    _Keys: _reduce_view,
    _Values: _reduce_view,
    _Items: _reduce_view,
}


def take_dataclasses() -> bool:
    """Add what the module `dataclasses` has to the table, once it is imported.

    Returns:
        False while it is not.
    """
    known = dataclasses_here()
    if known is None:
        return False
    REDUCERS[known.field_kind] = _reduce_field_type
    for name, single in known.singletons.items():
        if type(single).__module__ != "dataclasses":
            continue  # from 3.15 on a sentinel, one of many, which goes by its name
        REDUCERS[type(single)] = functools.partial(_reduce_singleton, name)
    return True
