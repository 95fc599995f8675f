"""The rare paths of parcels: what the C packer asks Python about.

Functions and types go by name where the receiver can import the very same object, else
by value. By value a function is its marshalled code, defaults, closure and the globals
that its code names, each of which may again be such a function; a type is its
metaclass, bases and attributes. All of it takes the form of a `__reduce_ex__` result,
so that the packer's memo keeps shared references, recursion and cycles.

What goes by value: functions and types of `__main__`, of modules that cannot be
imported (no `__spec__`), and those that are not found under their own name (lambdas,
nested ones, and what was replaced since). Types written in C go by name only.

A type that goes by value keeps an identity: whoever receives it twice, or gets back
what it sent itself, has one type, so that `isinstance` and `except` work across a round
trip.
"""

import dataclasses
import dis
import enum
import functools
import importlib
import io
import itertools
import marshal
import mmap
import pickle
import queue
import sys
import threading
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from atoll import _atoll

__all__ = ["REDUCERS", "find_global", "name_of", "reduce_type"]

type Reduced = tuple[Any, ...] | str


# ---- by name -----------------------------------------------------------------------


def find_global(module_name: str, name: str) -> Any:
    """Find what a parcel calls `name` in `module_name`; for "" the module itself."""
    module = sys.modules.get(module_name)
    if module is None or getattr(module.__spec__, "_initializing", False):
        module = importlib.import_module(module_name)
    found: Any = module
    if name:
        for part in name.split("."):
            found = getattr(found, part)
    return found


def _importable(module_name: Any) -> bool:
    if not isinstance(module_name, str) or module_name == "__main__":
        return False
    module = sys.modules.get(module_name)
    return module is not None and getattr(module, "__spec__", None) is not None


def _is_at(found: object, module_name: str, name: str) -> bool:
    here: Any = sys.modules.get(module_name)
    for part in name.split("."):
        here = getattr(here, part, None)
        if here is None:
            return False
    return here is found


def name_of(found: object, name: str) -> tuple[str, str]:
    """Say where the global that its `__reduce__` calls `name` is found.

    Raises:
        pickle.PicklingError: It is not there, or something else is.
    """
    module_name = getattr(found, "__module__", None)
    if module_name is None:
        module_name = pickle.whichmodule(found, name)  # type: ignore[attr-defined]
    if module_name not in sys.modules or not _is_at(found, module_name, name):
        raise pickle.PicklingError(f"it is not found as {module_name}.{name}")
    return module_name, name


# ---- functions by value ------------------------------------------------------------


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


_GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
_NAME_OPERATIONS = frozenset({"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


@functools.lru_cache(maxsize=512)
def _analyse(code: types.CodeType) -> tuple[bytes, frozenset[str], frozenset[str]]:
    """Marshal `code`; say which globals it names, and every name in it."""
    names: set[str] = set()
    every: set[str] = set()
    pending = [code]
    while pending:
        inner = pending.pop()
        every.update(inner.co_names)
        for instruction in dis.get_instructions(inner):
            if instruction.opname in _GLOBAL_OPERATIONS or (
                instruction.opname in _NAME_OPERATIONS
            ):
                names.add(instruction.argval)
        pending.extend(c for c in inner.co_consts if isinstance(c, types.CodeType))
    return marshal.dumps(code), frozenset(names), frozenset(every)


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


def _by_name(found: Any) -> Reduced | None:
    module_name, name = found.__module__, found.__qualname__
    if _importable(module_name) and _is_at(found, module_name, name):
        return str(name)
    return None


_FUNCTIONS_KEPT = 1024

# A function by value that means the same wherever and whenever it is sent: its code, the
# globals that go by name themselves (name, value, name, value ...), the names that are
# builtins and no globals, a token, and what is sent. Kept for src/parcel/function.c,
# which sees at each use whether it still holds.
type _Simple = tuple[types.CodeType, tuple[Any, ...], tuple[str, ...], bytes, bytes]
_simple: dict[types.FunctionType, _Simple] = {}
_received: dict[bytes, types.FunctionType] = {}


def _has_more(function: types.FunctionType) -> bool:
    return bool(
        function.__closure__
        or function.__defaults__
        or function.__kwdefaults__
        or function.__dict__
        or function.__type_params__
    )


def _goes_by_name(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, types.ModuleType):
        return _importable(value.__name__)
    if isinstance(value, types.BuiltinFunctionType):
        return isinstance(value.__self__, types.ModuleType)
    return isinstance(value, types.FunctionType | type) and _by_name(value) is not None


def _reduce_simple(function: types.FunctionType) -> Reduced | None:
    """The same again for a function that needs nothing but its code and names.

    Its receivers make it once, however often it comes: a task's function, above all.
    """
    code, names, every = _analyse(function.__code__)
    namespace = function.__globals__
    used = [(name, namespace[name]) for name in names if name in namespace]
    try:
        annotations = function.__annotations__
    except NameError:  # one that cannot be evaluated yet
        return None
    if (
        _has_more(function)
        or not all(isinstance(v, str) or _goes_by_name(v) for v in annotations.values())
        or not all(_goes_by_name(value) for _, value in used)
        or _assigns_globals(function.__code__)
    ):
        return None
    state = {
        "__globals__": dict(used),
        "__dict__": {},
        "__annotations__": annotations,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "imports": _submodules(dict(used), every),
    }
    parts = (code, namespace.get("__name__", "__main__"), function.__name__, state)
    token, data = uuid.uuid4().bytes, _atoll.dumps(parts)
    if len(_simple) >= _FUNCTIONS_KEPT:
        _simple.clear()
    _simple[function] = (
        function.__code__,
        tuple(itertools.chain.from_iterable(used)),
        tuple(name for name in names if name not in namespace),
        token,
        data,
    )
    return _shared_function, (token, data)


def _shared_function(token: bytes, data: bytes) -> types.FunctionType:
    function = _received.get(token)
    if function is None:
        code, module_name, name, state = _atoll.loads(data, trusted=True)
        function = _make_function(code, _make_globals(module_name), name, ())
        _complete_function(function, state)
        if len(_received) >= _FUNCTIONS_KEPT:
            _received.clear()
        _received[token] = function
    return function


def _assigns_globals(code: types.CodeType) -> bool:
    return any(
        instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
        for instruction in dis.get_instructions(code)
    ) or any(
        _assigns_globals(c) for c in code.co_consts if isinstance(c, types.CodeType)
    )


def _reduce_function(function: types.FunctionType) -> Reduced:
    named = _by_name(function)
    if named is not None:
        return named
    same = _reduce_simple(function)
    if same is not None:
        return same
    code, names, every = _analyse(function.__code__)
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


def _reduce_cell(cell: types.CellType) -> Reduced:
    # What is in it is the function's state: only there has it a name.
    return types.CellType, ()


# ---- types by value ----------------------------------------------------------------

_type_of_token: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_token_of_type: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def _token(found: type) -> str:
    token = _token_of_type.get(found)
    if token is None:
        token = uuid.uuid4().hex
        _token_of_type[found] = token
        _type_of_token[token] = found
    return token


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
        "__annotations_cache__",
        "__annotate_func__",
    }
)
_C_PARTS = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


def reduce_type(found: type) -> Reduced:
    """Take a type apart: by name, or by value where it was written in Python.

    Raises:
        pickle.PicklingError: It can be done neither way.
    """
    if found.__module__ == "builtins" and not _is_at(
        found, "builtins", found.__qualname__
    ):
        if found in _C_NAMES:
            return getattr, (types, _C_NAMES[found])
        raise pickle.PicklingError("it has no name to find it by")
    named = _by_name(found)
    if named is not None:
        return named
    if isinstance(found, enum.EnumType):
        return _reduce_enum(found)
    if not found.__flags__ & (1 << 9) or any(  # Py_TPFLAGS_HEAPTYPE
        type(value) in _C_PARTS and value.__objclass__ is found
        for value in vars(found).values()
    ):
        raise pickle.PicklingError("it is written in C and not found by its name")
    slots = vars(found).get("__slots__")
    slot_names = (slots,) if isinstance(slots, str) else tuple(slots or ())
    attributes = {
        name: value
        for name, value in vars(found).items()
        if name not in _NOT_SENT
        and not isinstance(
            value, types.MemberDescriptorType | types.GetSetDescriptorType
        )
    }
    attributes.pop("__slots__", None)
    if sys.version_info >= (3, 14) and not attributes.get("__annotations__"):
        attributes["__annotate__"] = found.__annotate__
    head: dict[str, Any] = {
        "__module__": found.__module__,
        "__qualname__": found.__qualname__,
    }
    if slots is not None:
        head["__slots__"] = slot_names
    parts = (type(found), found.__name__, found.__bases__, head, _token(found))
    return _make_type, parts, attributes, None, None, _complete_type


_complete: weakref.WeakSet[type] = weakref.WeakSet()


def _make_type(
    metatype: Any, name: str, bases: tuple[type, ...], head: dict[str, Any], token: str
) -> type:
    made = _type_of_token.get(token)
    if made is None:
        made = types.new_class(
            name, bases, {"metaclass": metatype}, lambda body: body.update(head)
        )
        _register(made, token)
    else:
        _complete.add(made)
    return made


def _complete_type(made: type, attributes: dict[str, Any]) -> None:
    if made in _complete:
        return
    _complete.add(made)
    for name, value in attributes.items():
        setattr(made, name, value)


def _reduce_enum(found: Any) -> Reduced:
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
    return _make_enum, arguments, attributes, None, None, _complete_type


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
    else:
        _complete.add(made)
    return made


# ---- others that pickle does not take ----------------------------------------------


def _reduce_module(module: types.ModuleType) -> Reduced:
    name = module.__name__
    if name != "__main__" and not _importable(name):
        raise pickle.PicklingError("the module cannot be imported by its name")
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


def _reduce_memoryview(view: memoryview) -> Reduced:
    if not view.contiguous:
        raise pickle.PicklingError("a memoryview must be contiguous")
    flat = pickle.PickleBuffer(view).raw()
    return _make_memoryview, (pickle.PickleBuffer(flat), view.format, view.shape)


def _make_memoryview(data: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    flat = memoryview(data)
    if format == "B" and len(shape) == 1:
        return flat
    return flat.cast("B").cast(format, shape)  # type: ignore[call-overload, no-any-return]


def _reduce_cached(function: Any) -> Reduced:
    named = _by_name(function)
    if named is not None:
        return named
    return _make_cached, (function.__wrapped__, function.cache_parameters())


def _make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_singleton(name: str, value: object) -> Reduced:
    return getattr, (dataclasses, name)


_SINGLETONS = {
    type(getattr(dataclasses, name)): name
    for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY")
}
_FIELD_TYPES = ("_FIELD", "_FIELD_CLASSVAR", "_FIELD_INITVAR")


def _reduce_field_type(value: Any) -> Reduced:
    return getattr, (dataclasses, value.name)


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
    if _importable(module_name) and _is_at(variable, module_name, variable.__name__):
        return str(variable.__name__)
    return _make_type_variable, (type(variable), variable.__name__)


def _make_type_variable(kind: Any, name: str) -> Any:
    return kind(name)


# What people try to send, and what they can send instead.
_INSTEAD: dict[type, str] = {
    type(threading.Lock()): "an atoll.Lock can be",
    type(threading.RLock()): "an atoll.RLock can be",
    types.GeneratorType: "send its items, as a list or one by one through a Channel",
    types.CoroutineType: "send the function that makes it",
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
    raise pickle.PicklingError(
        f"cannot pickle '{kind.__qualname__}' object; {_INSTEAD[kind]}"
    )


# Exact type -> function from an instance to what its __reduce_ex__ would give.
REDUCERS: dict[type, Callable[[Any], Reduced]] = {
    types.FunctionType: _reduce_function,
    types.CellType: _reduce_cell,
    types.ModuleType: _reduce_module,
    types.MethodType: _reduce_method,
    types.MappingProxyType: lambda proxy: (types.MappingProxyType, (dict(proxy),)),
    property: _reduce_property,
    staticmethod: lambda value: (staticmethod, (value.__func__,)),
    classmethod: lambda value: (classmethod, (value.__func__,)),
    memoryview: _reduce_memoryview,
    type(functools.lru_cache(len)): _reduce_cached,
    type(dataclasses._FIELD): _reduce_field_type,  # type: ignore[attr-defined]
    typing.TypeVar: _reduce_type_variable,
    typing.ParamSpec: _reduce_type_variable,
    typing.TypeVarTuple: _reduce_type_variable,
    **dict.fromkeys(_INSTEAD, _reduce_not),
    _Keys: _reduce_view,
    _Values: _reduce_view,
    _Items: _reduce_view,
    **{
        kind: functools.partial(_reduce_singleton, name)
        for kind, name in _SINGLETONS.items()
    },
}
