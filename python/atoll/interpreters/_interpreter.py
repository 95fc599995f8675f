"""`Interpreter` of PEP 734, and the functions that make and list them."""

from __future__ import annotations

import _interpreters
import builtins
import marshal
import re
import threading
import types
import warnings
import weakref
from _interpreters import (
    InterpreterError,
    InterpreterNotFoundError,
    NotShareableError,
)
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from atoll import _atoll, _errors, _interpreter, _parcel, _wire
from atoll._buffer import SharedArray, SharedBuffer
from atoll._channel import Channel
from atoll._interpreter import Interpreter as AtollInterpreter
from atoll.interpreters import _inside
from atoll.interpreters._queues import Queue, UnboundItem

__all__ = [
    "ExecutionFailed",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "NotShareableError",
    "create",
    "get_current",
    "get_main",
    "is_shareable",
    "list_all",
]

_CLOSE_TIMEOUT = 10.0  # seconds for close() before it interrupts what still runs


class ExecutionFailed(InterpreterError):
    """Code that another interpreter ran raised an exception and did not catch it.

    Attributes:
        excinfo: What is known of it: `type` (with `__name__`, `__qualname__` and
            `__module__`), `msg`, `formatted`, and `errdisplay`, its traceback as text.
    """

    def __init__(self, excinfo: types.SimpleNamespace) -> None:
        text = excinfo.formatted
        if not text:
            if excinfo.type and excinfo.msg:
                text = f"{excinfo.type.__name__}: {excinfo.msg}"
            else:
                text = excinfo.type.__name__ or excinfo.msg
        super().__init__(text)
        self.excinfo = excinfo

    def __str__(self) -> str:
        display = getattr(self.excinfo, "errdisplay", None)
        if not display:
            return super().__str__()
        return f"{super().__str__()}\n\nUncaught in the interpreter:\n\n{display}"

    def __reduce__(self) -> tuple[type[Self], tuple[types.SimpleNamespace]]:
        return type(self), (self.excinfo,)


def _failure(report: tuple[str, str, str, str, str]) -> ExecutionFailed:
    name, qualified, module, text, words = report
    shown = qualified if module in ("builtins", "__main__") else f"{module}.{qualified}"
    return ExecutionFailed(
        types.SimpleNamespace(
            type=types.SimpleNamespace(
                __name__=name, __qualname__=qualified, __module__=module
            ),
            msg=text,
            formatted=f"{shown}: {text}" if text else shown,
            errdisplay=words,
        )
    )


_HANDLES = (Queue, UnboundItem, Channel, SharedBuffer, SharedArray)


def is_shareable(obj: object, /) -> bool:
    """Does `obj` reach another interpreter without being pickled?"""
    if type(obj) in _HANDLES or isinstance(obj, UnboundItem):
        return True
    if type(obj) is tuple:
        return all(map(is_shareable, obj))
    return bool(_interpreters.is_shareable(obj))


# ---- functions that need nothing around them ----------------------------------------


def _is_stateless(function: types.FunctionType) -> bool:
    """Does it use neither a closure, nor defaults, nor globals but the built-in ones?

    Such a function runs in the `__main__` of the interpreter that calls it.
    """
    if function.__closure__ or function.__defaults__ or function.__kwdefaults__:
        return False
    names = _parcel.analyse(function.__code__)[1]
    return all(
        hasattr(builtins, name) and name not in function.__globals__ for name in names
    )


def _script(code: object) -> tuple[Callable[..., Any], str | bytes]:
    if isinstance(code, str):
        return _inside.run, code
    if isinstance(code, types.FunctionType):
        if not _is_stateless(code):
            raise ValueError(
                f"a function to be run as a script must use nothing but built-in "
                f"names: {code!r}"
            )
        code = code.__code__
    if not isinstance(code, types.CodeType):
        raise TypeError(
            f"code is a {type(code).__name__}, not a str, function or code object"
        )
    if code.co_freevars or code.co_argcount or code.co_kwonlyargcount:
        raise ValueError("code to be run as a script takes no arguments and no closure")
    if code.co_flags & (0x0020 | 0x0080 | 0x0200):  # generators and coroutines
        raise ValueError("a generator or coroutine cannot be run as a script")
    return _inside.run_code, marshal.dumps(code)


# ---- interpreters -------------------------------------------------------------------

_known: weakref.WeakValueDictionary[int, Interpreter] = weakref.WeakValueDictionary()


class Interpreter:
    """A Python interpreter of this process. There is one object for each ID.

    Those that `create()` made, or `atoll.Interpreter`, can be run, changed and closed.
    Any other, the main one among them, can be looked at. One that `create()` made ends
    with the last of its objects in all interpreters, if not before.

    Attributes:
        id: CPython's number for it; never used twice in a process.
        whence: How it was made, in words.

    Args:
        id: Of an interpreter that exists.

    Raises:
        InterpreterNotFoundError: There is none of that ID.
    """

    _WHENCE_TO_STR: dict[int, str] = {
        _interpreters.WHENCE_UNKNOWN: "unknown",
        _interpreters.WHENCE_RUNTIME: "runtime init",
        _interpreters.WHENCE_LEGACY_CAPI: "legacy C-API",
        _interpreters.WHENCE_CAPI: "C-API",
        _interpreters.WHENCE_XI: "cross-interpreter C-API",
        _interpreters.WHENCE_STDLIB: "_interpreters module",
    }

    _id: int
    _ours: bool
    _whence: int

    def __new__(
        cls, id: int, /, _whence: object = None, _ownsref: object = None
    ) -> Self:
        # The standard library's last two: what they say is looked up here.
        if not isinstance(id, int):
            raise TypeError(f"id must be an int, got {id!r}")
        known = _known.get(id)
        if isinstance(known, cls):
            return known
        if id < 0:
            raise ValueError(f"id must not be negative, got {id}")
        self = super().__new__(cls)
        self._id = int(id)
        # A handle keeps an interpreter of ours alive, whichever thread drops its own.
        self._ours = _atoll.interpreter_ref(id) > 0
        if self._ours and _atoll.interpreter_state(id) not in ("idle", "running"):
            raise _not_found(id)
        self._whence = (
            _interpreters.WHENCE_STDLIB if self._ours else _interpreters.whence(id)
        )
        _known[id] = self
        return self

    # The functions, not their module: where an object outlives the modules, as on a
    # free-threaded build, its names are None by then.
    def __del__(
        self,
        _unref: Any = _atoll.interpreter_unref,
        _state: Any = _atoll.interpreter_state,
        _begin: Any = _atoll.interpreter_close_begin,
        _reap: Any = _atoll.interpreter_reap,
        _close: Any = _interpreter._close,
        _timeout: float = _CLOSE_TIMEOUT,
    ) -> None:
        if not getattr(self, "_ours", False):
            return
        self._ours = False
        if _unref(self._id) != 0:
            return
        # The last one: what it sent is unbound when this returns, as PEP 734 has it.
        state = _state(self._id)
        if state == "idle":
            _close(self._id, _timeout)
        elif state == "running":
            _begin(self._id, _timeout)
            _reap(self._id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._id})"

    def __hash__(self) -> int:
        return hash(self._id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interpreter) and other._id == self._id

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self._id,)

    @property
    def id(self) -> int:
        """CPython's number for the interpreter."""
        return self._id

    @property
    def whence(self) -> str:
        """How it was made, in words."""
        return self._WHENCE_TO_STR[self._whence]

    def _check(self) -> None:
        # What PEP 734 asks before it lets an interpreter be changed.
        if self._ours:
            if _atoll.interpreter_state(self._id) not in ("idle", "running"):
                raise _not_found(self._id)
            return
        _interpreters.whence(self._id)  # InterpreterNotFoundError, if it has gone
        raise InterpreterError(f"unrecognized interpreter {self._id}")

    def is_running(self) -> bool:
        """Does it run code that exec() or call() began?

        Raises:
            InterpreterNotFoundError: It is closed.
        """
        if not self._ours:
            return bool(_interpreters.is_running(self._id))
        self._check()
        return bool(_atoll.interpreter_state(self._id) == "running")

    def close(self) -> None:
        """End the interpreter: join its threads, run its atexit functions, destroy it.

        Raises:
            InterpreterNotFoundError: It is closed already.
            InterpreterError: It is running, it is this interpreter, or it was not made
                here.
        """
        if not self._ours and self._whence == _interpreters.WHENCE_STDLIB:
            _interpreters.destroy(self._id, restrict=True)
            return
        self._check()
        if self._id == _atoll.interpreter_here():
            raise InterpreterError("cannot destroy the current interpreter")
        if _atoll.interpreter_state(self._id) == "running":
            raise InterpreterError("interpreter running")
        state, report = _interpreter._close(self._id, _CLOSE_TIMEOUT)
        if state != "closed":
            warnings.warn(
                f"interpreter {self._id} could not be closed and is left running: "
                f"{report}",
                RuntimeWarning,
                stacklevel=2,
            )

    def prepare_main(
        self,
        ns: Mapping[str, object] | Iterable[tuple[str, object]] | None = None,
        /,
        **kwargs: object,
    ) -> None:
        """Bind copies of values in the interpreter's `__main__`.

        Raises:
            NotShareableError: A value cannot leave this interpreter; nothing is bound.
            InterpreterError: It is running, or was not made here.
        """
        names = dict(ns, **kwargs) if ns is not None else kwargs
        if not names:
            raise ValueError("there are no names to bind")
        self._run("set", (), kwargs=names)

    def exec(self, code: str | types.FunctionType | types.CodeType, /) -> None:
        """Run code in the interpreter's `__main__`, and wait until it has ended.

        Args:
            code: Source; a code object; or a function without arguments, closure and
                globals of its own, whose body is run.

        Raises:
            ExecutionFailed: The code raised an exception.
            InterpreterError: It is running, or was not made here.
        """
        function, script = _script(code)
        outcome = self._run(function, (script,))
        if not outcome[0]:
            raise _failure(outcome[1])

    def _attempt(
        self,
        callable: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """What `_inside.call` says."""
        if (
            isinstance(callable, types.FunctionType)
            and _parcel.by_name(callable) is None
            and _is_stateless(callable)
        ):
            code = marshal.dumps(callable.__code__)
            sent = (code, callable.__name__, args, kwargs)
            return self._run(_inside.call_code, sent, ("", "", "args", "kwargs"))
        return self._run(
            _inside.call, (callable, args, kwargs), ("callable", "args", "kwargs")
        )

    def _call(
        self,
        callable: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        outcome = self._attempt(callable, args, kwargs)
        if not outcome[0]:
            raise _failure(outcome[1])
        return outcome[1]

    def call(
        self, callable: Callable[..., Any], /, *args: object, **kwargs: object
    ) -> Any:
        """Call an object in the interpreter and return its result.

        Raises:
            ExecutionFailed: It raised an exception.
            NotShareableError: The callable, an argument or the result cannot go from
                one interpreter to the other.
            InterpreterError: It is running, or was not made here.
        """
        return self._call(callable, args, kwargs)

    def call_in_thread(
        self, callable: Callable[..., Any], /, *args: object, **kwargs: object
    ) -> threading.Thread:
        """Return a new thread that calls the object in the interpreter.

        What it returns or raises is dropped.
        """
        thread = threading.Thread(target=self._call, args=(callable, args, kwargs))
        thread.start()
        return thread

    def _run(
        self,
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        words: tuple[str, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:
        """Run `function`, by name, if nothing runs there.

        Args:
            words: What the caller calls the `args`, for errors.
        """
        self._check()
        try:
            request = _wire.pack((function, args, kwargs or {}), _wire.CALL)
        except _errors.NotShareableError as error:
            text = str(error)
            for number, word in enumerate(words):
                if text.startswith(f"args[{number}]"):
                    text = word + text.removeprefix(f"args[{number}]")
                    break
            raise NotShareableError(text) from error
        try:
            job = _atoll.interpreter_post(self._id, request, True, True)
        except _errors.ClosedError:
            raise _not_found(self._id) from None
        except RuntimeError as error:
            raise InterpreterError(str(error)) from None
        try:
            reply = _interpreter._wait(job, None)
        except _errors.ClosedError as error:
            raise InterpreterError(str(error)) from None
        except BaseException:
            _interpreter._abandon(self._id, job)
            raise
        try:
            return _interpreter._result(reply)
        except _errors.NotShareableError as error:
            # What comes is (succeeded, what the caller is to have).
            text = re.sub(r"^result\[1\]", "result", str(error))
            raise NotShareableError(text) from error
        except Exception as error:
            # What the code raised is in the outcome: this is not from there.
            cause = NotShareableError(
                f"object could not be unpickled: {type(error).__name__}: {error}"
            )
            cause.__cause__ = error
            raise NotShareableError("args not shareable") from cause


def _not_found(id: int) -> InterpreterNotFoundError:
    return InterpreterNotFoundError(f"unrecognized interpreter ID {id}")


def create() -> Interpreter:
    """Make an interpreter, idle, with its own GIL.

    Raises:
        InterpreterError: It could not start; the message says why.
    """
    try:
        made = AtollInterpreter()
    except (RuntimeError, ValueError, MemoryError) as error:
        raise InterpreterError(f"interpreter creation failed: {error}") from error
    return Interpreter(made.id)


def list_all() -> list[Interpreter]:
    """All interpreters of the process, oldest first."""
    ending = set(_atoll.interpreter_left()) - set(_atoll.interpreter_ids())
    found = []
    for id, _ in _interpreters.list_all(require_ready=True):
        if id not in ending:
            try:
                found.append(Interpreter(id))
            except InterpreterNotFoundError:
                pass  # destroyed since it was listed
    return found


def get_current() -> Interpreter:
    """The interpreter that this code runs in."""
    return Interpreter(_atoll.interpreter_here())


def get_main() -> Interpreter:
    """The main interpreter of the process."""
    return Interpreter(0)
