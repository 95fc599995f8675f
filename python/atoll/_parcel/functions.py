"""Functions by value: marshalled code, defaults, closure and the globals it names."""

import functools
import marshal
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from atoll._parcel.code import analyse
from atoll._parcel.known import make_known
from atoll._parcel.names import Reduced, by_name

__all__ = ["reduce_cell", "reduce_code", "reduce_function"]


class _Globals:
    """Stands for the globals of one module in a parcel: its functions share them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_globals, (self.name,)


def _make_globals(name: str) -> dict[str, Any]:
    return {"__name__": name, "__builtins__": __builtins__}


_GLOBALS_KEPT = 64
_globals: dict[int, tuple[dict[str, Any], _Globals]] = {}


def _globals_of(namespace: dict[str, Any]) -> _Globals:
    # A dict cannot be referred to weakly, so a few are simply kept.
    kept = _globals.get(id(namespace))
    if kept is None:
        while len(_globals) >= _GLOBALS_KEPT:
            _globals.pop(next(iter(_globals)), None)
        kept = (namespace, _Globals(namespace.get("__name__", "__main__")))
        _globals[id(namespace)] = kept
    return kept[1]


def _submodules(used: dict[str, Any], every: frozenset[str]) -> list[types.ModuleType]:
    """The submodules that code reaches through a module it names (`xml.etree`)."""
    found = []
    for value in used.values():
        if isinstance(value, types.ModuleType) and hasattr(value, "__path__"):
            prefix = value.__name__ + "."
            for name, module in list(sys.modules.items()):
                if (
                    name.startswith(prefix)
                    and isinstance(module, types.ModuleType)
                    and every.issuperset(name.removeprefix(prefix).split("."))
                ):
                    found.append(module)
    return found


def _has_more(function: types.FunctionType) -> bool:
    return bool(
        function.__closure__
        or function.__defaults__
        or function.__kwdefaults__
        or function.__dict__
        or function.__type_params__
    )


def reduce_function(function: types.FunctionType) -> Reduced:
    named = by_name(function)
    if named is not None:
        return named
    if function.__code__ is _DISPATCH_CODE:
        return _reduce_dispatch(function)
    if not _has_more(function):
        same = make_known(function)
        if same is not None:
            return same
    code, names, every = analyse(function.__code__)
    namespace = function.__globals__
    used = {name: namespace[name] for name in names if name in namespace}
    state: dict[str, Any] = {
        "__globals__": used,
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__dict__": function.__dict__,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__type_params__": function.__type_params__,
    }
    if sys.version_info >= (3, 14):
        state["__annotate__"] = function.__annotate__
    else:
        state["__annotations__"] = function.__annotations__
    cells = function.__closure__ or ()
    contents = {}
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            contents[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            pass
    if _CLASS_NAMESPACE in contents:
        contents[_CLASS_NAMESPACE] = _named_in(contents[_CLASS_NAMESPACE], every)
    if contents:
        state["__closure__"] = contents
    imports = _submodules(used, every)
    if imports:
        state["imports"] = imports
    arguments = (code, _globals_of(namespace), function.__name__, cells)
    return _make_function, arguments, state, None, None, _complete_function


@functools.lru_cache(maxsize=512)
def _load_code(data: bytes) -> types.CodeType:
    code: types.CodeType = marshal.loads(data)
    return code


def _make_function(
    code: bytes, namespace: dict[str, Any], name: str, cells: tuple[Any, ...]
) -> types.FunctionType:
    return types.FunctionType(
        _load_code(code), namespace, name, closure=cells if cells else None
    )


def _complete_function(function: Any, state: dict[str, Any]) -> None:
    state.pop("imports", None)
    namespace = function.__globals__
    for name, value in state.pop("__globals__").items():
        namespace.setdefault(name, value)
    contents = state.pop("__closure__", None)
    if contents:
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__, strict=True
        ):
            if name in contents:
                _fill_cell(cell, name, contents[name])
    function.__dict__.update(state.pop("__dict__"))
    for name, value in state.items():
        setattr(function, name, value)


# The cell with the namespace of the class that a function was written in. Annotations
# that are evaluated later (PEP 649) look names up there before they do in the globals,
# and it is the class's own dict, descriptors that cannot be sent and all: what goes is
# what the function names.
_CLASS_NAMESPACE = "__classdict__"


def _named_in(namespace: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    return {name: namespace[name] for name in names if name in namespace}


def _fill_cell(cell: types.CellType, name: str, content: Any) -> None:
    if name == _CLASS_NAMESPACE:
        # The functions of a class share the cell, and each brings what it names.
        try:
            content = cell.cell_contents | content
        except ValueError:  # the first of them
            pass
    cell.cell_contents = content


def reduce_cell(cell: types.CellType) -> Reduced:
    # What is in it is the function's state: only there has it a name.
    return types.CellType, ()


def reduce_code(code: types.CodeType) -> Reduced:
    return _load_code, (marshal.dumps(code),)


_DISPATCH_CODE = vars(functools)["singledispatch"](len).__code__


def _make_dispatch(function: Callable[..., Any]) -> Any:
    return functools.singledispatch(function)


def _fill_dispatch(dispatch: Any, state: dict[str, Any]) -> None:
    for kind, function in state.pop("registry").items():
        dispatch.register(kind, function)
    dispatch.__dict__.update(state)


def _reduce_dispatch(dispatch: Any) -> Reduced:
    # What functools keeps in its closure is made anew: a cache with weak references.
    made = vars(functools.singledispatch(len))
    state = {name: v for name, v in vars(dispatch).items() if name not in made}
    state["registry"] = dict(dispatch.registry)
    function = state["registry"].pop(object)
    return _make_dispatch, (function,), state, None, None, _fill_dispatch
