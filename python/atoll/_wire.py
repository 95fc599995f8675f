"""Objects into bytes and back, for calls into other interpreters.

Pickle, and for functions that have no importable home (lambdas, nested functions,
those of `__main__`) their marshalled code with defaults, closure and the globals that
the code names.
"""

from __future__ import annotations

import io
import marshal
import pickle
import sys
import types
from typing import Any

__all__ = ["pack", "unpack"]


def _empty_function(code: bytes, name: str, cells: int) -> types.FunctionType:
    namespace: dict[str, Any] = {"__builtins__": __builtins__, "__name__": "__main__"}
    closure = tuple(types.CellType() for _ in range(cells))
    return types.FunctionType(marshal.loads(code), namespace, name, None, closure)


def _fill_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    function.__globals__.update(state["globals"])
    function.__defaults__ = state["defaults"]
    function.__kwdefaults__ = state["kwdefaults"]
    function.__qualname__ = state["qualname"]
    function.__module__ = state["module"]
    for cell, content in zip(function.__closure__ or (), state["cells"], strict=True):
        if content:
            cell.cell_contents = content[0]


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _cell_content(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _has_home(function: types.FunctionType) -> bool:
    if function.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.ModuleType):
            return __import__("importlib").import_module, (obj.__name__,)
        if isinstance(obj, types.CodeType):
            return marshal.loads, (marshal.dumps(obj),)
        if not isinstance(obj, types.FunctionType) or _has_home(obj):
            return NotImplemented
        used = {
            name: obj.__globals__[name]
            for name in _global_names(obj.__code__)
            if name in obj.__globals__
        }
        state = {
            "globals": used,
            "defaults": obj.__defaults__,
            "kwdefaults": obj.__kwdefaults__,
            "qualname": obj.__qualname__,
            "module": obj.__module__,
            "cells": [_cell_content(cell) for cell in obj.__closure__ or ()],
        }
        empty = (
            marshal.dumps(obj.__code__),
            obj.__name__,
            len(obj.__closure__ or ()),
        )
        return _empty_function, empty, state, None, None, _fill_function


def pack(value: Any) -> bytes:
    """The bytes of `value`; raises what pickle raises where it cannot."""
    stream = io.BytesIO()
    _Pickler(stream, protocol=5).dump(value)
    return stream.getvalue()


def unpack(data: bytes) -> Any:
    """The value again."""
    return pickle.loads(data)
