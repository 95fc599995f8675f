"""The side of `atoll.interpreters` that runs inside the interpreter.

Each function returns `(True, result)`, or `(False, report, exception)`: what was raised
ends here, and its words are what PEP 734 sends back. `exception` is the exception as a
parcel, for the executor, or None where it cannot be packed.
"""

import builtins
import marshal
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any

from atoll import _atoll

__all__ = ["call", "call_code", "name_thread", "run", "run_code"]

type Outcome = tuple[bool, Any] | tuple[bool, Any, bytes | None]

_HERE = __file__


def _main() -> dict[str, Any]:
    return sys.modules["__main__"].__dict__


def _report(exception: BaseException) -> tuple[str, str, str, str, str]:
    """Name, qualified name, module, text and traceback of `exception`."""
    where = exception.__traceback__
    while where is not None and where.tb_frame.f_code.co_filename == _HERE:
        where = where.tb_next
    exception.__traceback__ = where
    kind = type(exception)
    try:
        text = str(exception)
    except Exception:
        text = "<exception str() failed>"
    try:
        words = "".join(traceback.format_exception(exception)).rstrip("\n")
    except Exception:
        words = f"{kind.__qualname__}: {text}"
    return kind.__name__, kind.__qualname__, kind.__module__, text, words


def _failed(exception: BaseException) -> Outcome:
    report = _report(exception)
    try:
        packed = _atoll.dumps(exception)
    except Exception:
        packed = None
    return False, report, packed


def name_thread(name: str) -> None:
    """Call the thread that runs this interpreter so, for people and debuggers."""
    threading.current_thread().name = name


def run(source: str) -> Outcome:
    """Run source text in `__main__`."""
    try:
        exec(compile(source, "<string>", "exec", dont_inherit=True), _main())
    except BaseException as exception:
        return _failed(exception)
    return True, None


def run_code(code: bytes) -> Outcome:
    """Run a marshalled code object in `__main__`."""
    try:
        exec(marshal.loads(code), _main())
    except BaseException as exception:
        return _failed(exception)
    return True, None


# These look at the frame that calls them; called from outside, that is `__main__`'s.
_OF_THE_FRAME: dict[Any, Callable[..., Any]] = {
    builtins.globals: _main,
    builtins.locals: _main,
    builtins.eval: lambda source, *names: eval(source, *(names or (_main(),))),
    builtins.exec: lambda source, *names, **options: exec(
        source, *(names or (_main(),)), **options
    ),
    builtins.dir: lambda *objects: dir(*objects) if objects else sorted(_main()),
    builtins.vars: lambda *objects: vars(*objects) if objects else _main(),
}


def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    """Call `function`."""
    if type(function) is types.BuiltinFunctionType:
        function = _OF_THE_FRAME.get(function, function)
    try:
        return True, function(*args, **kwargs)
    except BaseException as exception:
        return _failed(exception)


def call_code(
    code: bytes, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Outcome:
    """Call a function that needs nothing around it: its globals are `__main__`'s."""
    function = types.FunctionType(marshal.loads(code), _main(), name)
    return call(function, args, kwargs)
