"""The side of `atoll.Interpreter` that runs inside the interpreter.

The owner thread (src/interp/owner.c) calls `start` once, then for each job `load`, what
`load` returned, and `reply` or `error`, and `finish` at the end.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import marshal
import sys
import threading
import time
import types
import warnings
from _pickle import dumps, loads
from collections.abc import Callable
from typing import Any, cast

from atoll import _atoll, _descriptor, _errors, _fork, _frames, _wire
from atoll._atoll import SharedDict

__all__: list[str] = []

_EXEC_FILE = "<atoll.Interpreter.exec>"


# ---- start ------------------------------------------------------------------------


def setting() -> bytes:
    """What a new interpreter takes over from this one, for `start`."""
    filters = [
        (
            action,
            _sent(message),
            category.__module__,
            category.__qualname__,
            _sent(module),
            line,
        )
        for action, message, category, module, line in _filters()
    ]
    return dumps(
        {
            "argv": list(getattr(sys, "argv", [""])),
            "filters": filters,
            "dont_write_bytecode": sys.dont_write_bytecode,
            "pycache_prefix": sys.pycache_prefix,
            "recursion_limit": sys.getrecursionlimit(),
            "switch_interval": sys.getswitchinterval(),
            "int_max_str_digits": sys.get_int_max_str_digits(),
        }
    )


def _filters() -> list[Any]:
    return cast("list[Any]", warnings.filters)


# What a filter looks for: nothing, this very text, or what the pattern in a tuple matches.
type _Wanted = str | tuple[str] | None


def _sent(wanted: Any) -> _Wanted:
    return wanted if wanted is None or type(wanted) is str else (wanted.pattern,)


def _set_filters(filters: list[tuple[str, _Wanted, str, str, _Wanted, int]]) -> None:
    warnings.resetwarnings()
    for action, message, home, name, module, line in reversed(filters):
        try:
            category = getattr(importlib.import_module(home), name)
        except (ImportError, AttributeError):
            continue
        if isinstance(message, tuple) or isinstance(module, tuple):
            warnings.filterwarnings(
                action,  # type: ignore[arg-type]
                message[0] if isinstance(message, tuple) else message or "",
                category,
                module[0] if isinstance(module, tuple) else module or "",
                line,
            )
        else:
            # CPython's own ones, of the start, name a module: without a pattern, since
            # that takes re, which not every interpreter has.
            _filters().insert(0, (action, message, category, module, line))


_STACK_BYTES = 8 << 20


def start(data: bytes) -> None:
    """Make the new interpreter like its creator, and ready to import any extension."""
    values = loads(data)
    here: Any = threading.current_thread()
    here.name = f"atoll-{_atoll.interpreter_here()}"
    # threading takes a thread that it did not start for a daemon, and threads that code
    # here starts would be daemons like it: nobody would wait for them at the close.
    here._daemonic = False
    # As much as the thread that this runs on has: a shell's limit may say less, and some
    # libraries (OpenBLAS) overflow 2 MiB.
    if "thread-stacks" not in _atoll.left_out():
        threading.stack_size(_STACK_BYTES)
    sys.argv = values["argv"]
    sys.dont_write_bytecode = values["dont_write_bytecode"]
    sys.pycache_prefix = values["pycache_prefix"]
    sys.setrecursionlimit(values["recursion_limit"])
    sys.setswitchinterval(values["switch_interval"])
    sys.set_int_max_str_digits(values["int_max_str_digits"])
    _set_filters(values["filters"])
    _fork.install()
    _frames.install()
    try:
        importer: Any = importlib.import_module("atoll._importer")
    except ModuleNotFoundError:
        return
    importer.install()


# ---- jobs -------------------------------------------------------------------------


def exec_code(source: str | bytes) -> None:
    """Run source, or marshalled code, in this interpreter's `__main__`."""
    if isinstance(source, str):
        # The traceback shows the lines of the last code that was run.
        import linecache

        linecache.cache[_EXEC_FILE] = (
            len(source),
            None,
            source.splitlines(keepends=True),
            _EXEC_FILE,
        )
        code = compile(source, _EXEC_FILE, "exec", dont_inherit=True)
    else:
        code = marshal.loads(source)
    exec(code, sys.modules["__main__"].__dict__)


def set_names(**names: Any) -> None:
    """Bind `names` in this interpreter's `__main__`."""
    sys.modules["__main__"].__dict__.update(names)


_KINDS: dict[str, Callable[..., Any]] = {"exec": exec_code, "set": set_names}


def _invoke(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def load(request: _atoll.Message) -> Callable[[], Any]:
    """What to call for `request`, which `_interpreter` packed."""
    function, args, kwargs = _wire.unpack(request)
    if isinstance(function, str):
        function = _KINDS[function]
    # The frame that eval(), exec() and globals() find below them is one of __main__.
    invoke = types.FunctionType(_invoke.__code__, sys.modules["__main__"].__dict__)
    return functools.partial(invoke, function, args, kwargs)


def reply(result: Any) -> _atoll.Message:
    """The reply that carries `result`."""
    try:
        return _wire.pack((True, result), ("succeeded", "result"))
    except _errors.NotShareableError:
        raise
    except Exception as error:
        raise _errors.NotShareableError(
            f"result, of type {type(result).__qualname__}, cannot be sent: "
            f"{type(error).__name__}: {error}"
        ) from error


def error(exception: BaseException) -> _atoll.Message:
    """The reply that carries `exception`: itself where it can be packed, its words."""
    where = exception.__traceback__
    while where is not None and where.tb_frame.f_code.co_filename == __file__:
        where = where.tb_next
    exception.__traceback__ = where
    try:
        # Inside: it is a file, and the process may be out of descriptors.
        import traceback

        words = "".join(traceback.format_exception(exception))
    except Exception:
        words = f"{type(exception).__qualname__} (its traceback could not be formatted)"
    try:
        text = str(exception)
    except Exception:
        text = "(its text could not be formatted)"
    kind = type(exception)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    return _wire.pack((False, (_packed(exception), name, text, words)))


# Whether what is reported here goes to another process, by bytes alone.
reports_leave = False


def _packed(exception: BaseException) -> bytes | SharedDict | None:
    """An exception that can be made again apart from its words; None: it cannot.

    One that has shared things goes as the value of a dict: those may be of this process
    alone, or gone before somebody looks at bytes.
    """
    if isinstance(exception, SystemExit):
        return None
    try:
        if reports_leave:
            return _atoll.dumps(exception)
        data, things = _descriptor.collect(lambda: _atoll.dumps(exception))
        if not things:
            return data
    except Exception:
        if reports_leave:
            return None
    try:
        return SharedDict(exception=exception)
    except Exception:
        return None


# ---- the end ----------------------------------------------------------------------


class _Deadline:
    """Nanoseconds of the monotonic clock, as src/sys/clock.h has them."""

    def __init__(self, moment_ns: int) -> None:
        self.moment_ns = moment_ns

    def or_a_moment(self) -> _Deadline:
        """At least so much more time that what is quick can be done."""
        return _Deadline(max(self.moment_ns, time.monotonic_ns() + 1_000_000_000))

    def left(self) -> float:
        return min(max(0.0, (self.moment_ns - time.monotonic_ns()) / 1e9), 1e6)


_FINISHER = "atoll-finish"


def _within(deadline: _Deadline, body: Callable[[], object]) -> bool:
    """Run `body` on a thread of its own; False when it still runs at the deadline."""
    thread = threading.Thread(target=body, name=_FINISHER, daemon=True)
    thread.start()
    thread.join(deadline.left())
    return not thread.is_alive()


def _others() -> list[threading.Thread]:
    # Not the main thread: on 3.13 that object stands for the process's main thread in
    # every interpreter. Nor dummies, which stand for threads that nobody can join.
    here = (threading.current_thread(), threading.main_thread())
    return [
        thread
        for thread in threading.enumerate()
        if thread not in here
        and thread.name != _FINISHER
        and not isinstance(thread, threading._DummyThread)
    ]


def _thread_exits() -> None:
    # What threading._shutdown() does before it joins: concurrent.futures asks its
    # workers to end here.
    exits = getattr(threading, "_threading_atexits", [])
    while exits:
        function = exits.pop()
        try:
            function()
        except Exception:
            sys.excepthook(*sys.exc_info())


def _join(deadline: _Deadline) -> None:
    for thread in _others():
        if not thread.daemon:
            thread.join(deadline.left())


def _reap_daemons(deadline: _Deadline) -> None:
    # A daemon thread is not waited for, but CPython cannot end an interpreter under
    # one: it is asked to go, and gets a moment for it.
    import ctypes

    daemons = [thread for thread in _others() if thread.daemon]
    for thread in daemons:
        if thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            )
    _wake_loops()
    moment = _Deadline(min(deadline.moment_ns, time.monotonic_ns() + 1_000_000_000))
    for thread in daemons:
        thread.join(moment.left())


def _wake_loops() -> None:
    # An event loop that waits for events never comes to the bytecode in which an
    # exception that was set for its thread is raised.
    if "asyncio" not in sys.modules:
        return
    import asyncio
    import gc

    for loop in gc.get_objects():
        try:
            if isinstance(loop, asyncio.AbstractEventLoop) and loop.is_running():
                loop.call_soon_threadsafe(int)
        except Exception:  # of somebody's proxy, or a loop that closes meanwhile
            continue


def _where(thread: threading.Thread) -> str:
    """Where the Python code of `thread` is, in words to go on with."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    code = frame.f_code
    return f" in {code.co_qualname}, {code.co_filename}:{frame.f_lineno}"


def _describe(thread: threading.Thread) -> str:
    kind = "daemon thread" if thread.daemon else "thread"
    return f"{kind} {thread.name!r} (native id {thread.native_id}){_where(thread)}"


def _finisher() -> str:
    for thread in threading.enumerate():
        if thread.name == _FINISHER:
            return _where(thread)
    return ""


def finish(deadline_ns: int) -> str:
    """End threads, atexit functions and event loops; what is left, in words, or ""."""
    deadline = _Deadline(deadline_ns)
    if not _within(deadline, _thread_exits):
        return f"a function that threading runs at exit{_finisher()}: " + ", ".join(
            _describe(thread) for thread in _others()
        )
    _join(deadline)
    # Threads that stay have used up the time: it is not these functions' fault.
    if atexit._ncallbacks() and not _within(
        deadline.or_a_moment(), atexit._run_exitfuncs
    ):
        return f"an atexit function that does not return{_finisher()}"
    # atexit functions may have started or stopped threads.
    _join(deadline)
    if _others():
        _reap_daemons(deadline)
    # Daemon threads last: at the exit of the process they alone are left without a word.
    others = sorted(_others(), key=lambda thread: thread.daemon)
    left = ", ".join(map(_describe, others))
    if not left:
        # threading made a dummy for the owner thread, and makes one more if a finaliser
        # logs something. The tracker that removes it would go off when the module is
        # torn down already, and print an error.
        tracker: Any = getattr(threading, "_DeleteDummyThreadOnDel", None)
        if tracker is not None:
            tracker.__del__ = lambda self: None
    return left
