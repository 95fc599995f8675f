"""`atoll.Interpreter`: a Python interpreter with its own GIL, in this process."""

from __future__ import annotations

import atexit
import marshal
import math
import os
import select
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from atoll import _atoll, _fork, _frames, _remote, _wire
from atoll._errors import (
    ClosedError,
    InterpreterError,
    NotShareableError,
    RemoteTraceback,
)

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Interpreter", "get_current", "list_interpreters"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_INTERRUPT_GRACE = 1.0  # seconds for interrupted code to end
_SHORT_WAIT = 0.05  # seconds that are waited for on the futex alone
_FINISH_GRACE = 2.5  # seconds beyond the timeout for the interpreter's own functions


class Interpreter:
    """A Python interpreter of its own: own GIL, own modules, own objects.

    It runs in parallel with this one, on a thread of its own. What is called in it runs
    there one call at a time, in the order in which the calls came, whichever threads
    and interpreters they came from. C extensions import in it unmodified.

    An object of this class is a handle: it can be sent to other interpreters and used
    from any thread. When the last handle goes and the interpreter was not closed, it is
    closed in the background, with a `ResourceWarning`.

    See PEP 684 for what an interpreter shares with its process and what it does not.

    Args:
        name: For people; shown in the repr.

    Raises:
        RuntimeError: The process is exiting.
        ValueError: The interpreter could not start; the message says why.
    """

    _id: int
    _name: str | None
    __slots__ = ("__weakref__", "_id", "_name")

    def __init__(self, *, name: str | None = None) -> None:
        self._id = -1
        if not isinstance(name, str | None):
            raise TypeError(f"name must be a str or None, not {type(name).__name__}")
        self._name = name
        _prepare_process()
        _stop_tracing()
        self._id = _atoll.interpreter_create(
            name, marshal.dumps([str(p) for p in sys.path]), _remote.setting()
        )

    @property
    def id(self) -> int:
        """CPython's number for the interpreter; never used twice in a process."""
        return self._id

    @property
    def name(self) -> str | None:
        """What it was called when it was made."""
        return self._name

    def exec(self, code: str | types.CodeType, /) -> None:
        """Run source text or a code object in the interpreter's `__main__`.

        Args:
            code: Source, or what `compile(…, "exec")` gave; it must have no free names.

        Raises:
            Exception: Whatever the code raised, with the remote traceback as its cause.
            InterpreterError: It raised something that cannot be rebuilt here, or
                called `sys.exit()`.
            ClosedError: The interpreter is closed.
            RuntimeError: The call comes from code that this interpreter runs.
        """
        if not isinstance(code, str | types.CodeType):
            raise TypeError(
                f"code must be a str or a code object, not {type(code).__name__}"
            )
        sent = code if isinstance(code, str) else marshal.dumps(code)
        self._run("exec", (sent,), {})

    def call(
        self, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """Call `function` in the interpreter and return its result.

        Importable functions go by name. Lambdas, nested functions and those of the
        caller's `__main__` go as code, with copies of what they refer to. Arguments and
        result are copies.

        A second call waits until the first is done. On the main thread Ctrl-C ends the
        wait, and the call is interrupted.

        Raises:
            Exception: Whatever the function raised, with the remote traceback as its
                cause.
            InterpreterError: It raised something that cannot be rebuilt here, or
                called `sys.exit()`.
            ClosedError: The interpreter is closed, or closed before the call could run.
            RuntimeError: The call comes from code that this interpreter runs, directly
                or through others: it would wait for itself.
            NotShareableError: An argument cannot be sent, or the result cannot leave
                the interpreter; the message names the path.
        """
        if not callable(function):
            raise TypeError(f"{type(function).__name__} object is not callable")
        result: _R = self._run(function, args, kwargs)
        return result

    def submit(
        self, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_R]:
        """Have `function` called in the interpreter; a `concurrent.futures.Future`.

        As `call`, without waiting. What is submitted runs in the order in which it was.
        A future that has not begun can be cancelled; those that have not when the
        interpreter closes end with `ClosedError`.

        Raises:
            ClosedError: The interpreter is closed. What `call` raises else, the future
                raises.
        """
        if self.closed:
            raise ClosedError(f"interpreter {self._id} is closed")
        return _callers(self._id).submit(_call_by_id, self._id, function, args, kwargs)

    async def run(
        self, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """As `call`, for a coroutine: the event loop goes on meanwhile.

        When the coroutine is cancelled while the call runs, the call is left to end by
        itself; `interrupt` ends it.

        Raises:
            BaseException: As `call`, and `asyncio.CancelledError`.
        """
        import asyncio

        return await asyncio.wrap_future(self.submit(function, *args, **kwargs))

    def set(self, /, **names: object) -> None:
        """Bind copies of values in the interpreter's `__main__`.

        Args:
            names: What each name stands for there.

        Raises:
            NotShareableError: A value cannot be sent; the message names the path to it.
            ClosedError: The interpreter is closed.
            RuntimeError: The call comes from code that this interpreter runs.
        """
        self._run("set", (), names)

    def _run(
        self,
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self._refuse_inside("call")
        job = _atoll.interpreter_post(
            self._id, _wire.pack((function, args, kwargs), _wire.CALL), True
        )
        try:
            data = _wait(job, None)
        except ClosedError:
            raise
        except BaseException:
            _abandon(self._id, job)
            raise
        return _result(data)

    def interrupt(self, exception: type[BaseException] = KeyboardInterrupt, /) -> None:
        """Raise `exception` in the code that runs in the interpreter now, if any.

        It is raised between two bytecodes, and ends what waits at a channel, a lock or
        one of its kin; code that is inside another C function gets it when that
        returns. Does not wait.

        Args:
            exception: A class that can be imported there.

        Raises:
            ClosedError: The interpreter is closed.
        """
        if not (isinstance(exception, type) and issubclass(exception, BaseException)):
            raise TypeError("exception must be a class of exceptions")
        _atoll.interpreter_interrupt(
            self._id, None, f"{exception.__module__}:{exception.__qualname__}"
        )

    def is_running(self) -> bool:
        """Does it run a call at this moment?"""
        return bool(_atoll.interpreter_state(self._id) == "running")

    @property
    def closed(self) -> bool:
        """Is it closed or closing?"""
        return _atoll.interpreter_state(self._id) not in ("idle", "running")

    def close(self, *, timeout: float | None = 10.0) -> None:
        """End the interpreter; a second call does nothing.

        Calls made before are finished first, then its non-daemon threads are joined,
        its atexit functions run, and its daemon threads told to go. Code that still
        runs when the time is over is interrupted, and calls still queued then raise
        `ClosedError`. An interpreter in which something runs even after that cannot be
        destroyed: it is left as it is, and a `RuntimeWarning` names what is in the way.

        Args:
            timeout: Seconds for all that; None waits as long as it takes. What runs
                when it is over is interrupted, with 0 at once.

        Raises:
            RuntimeError: The call comes from inside the interpreter.
        """
        self._refuse_inside("close")
        state, report = _close(self._id, timeout)
        if state != "closed" and state != "left":
            report = "code that does not end, though it was interrupted"
        if state != "closed":
            warnings.warn(
                f"interpreter {self._id} could not be closed and is left running: "
                f"{report}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _refuse_inside(self, what: str) -> None:
        if self._id == _atoll.interpreter_here():
            advice = (
                "call the function directly"
                if what == "call"
                else "it closes when its last handle outside goes"
            )
            raise RuntimeError(
                f"interpreter {self._id} cannot {what} itself from inside: {advice}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name is not None else ""
        return (
            f"<atoll.Interpreter {self._id}{name} {_atoll.interpreter_state(self._id)}>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interpreter) and other._id == self._id

    def __hash__(self) -> int:
        return hash((Interpreter, self._id))

    def __reduce__(self) -> tuple[Callable[..., Interpreter], Any]:
        return _sent_handle, (os.getpid(), self._id, self._name)

    # The functions themselves: at the end of the process, modules are emptied before
    # the last objects go.
    def __del__(
        self,
        _unref: Any = _atoll.interpreter_unref,
        _state: Any = _atoll.interpreter_state,
        _begin: Any = _atoll.interpreter_close_begin,
        _reap: Any = _atoll.interpreter_reap,
        _warn: Any = warnings.warn,
    ) -> None:
        # Not there where __init__ was refused its arguments.
        if getattr(self, "_id", -1) < 0 or _unref(self._id) != 0:
            return
        if _state(self._id) in ("idle", "running"):
            _begin(self._id, 10.0)
            _reap(self._id)
            # No repr: modules may be torn down around this already.
            text = f"unclosed <atoll.Interpreter {self._id}>"
            _warn(text, ResourceWarning, stacklevel=2, source=self)


# A thread for each interpreter that something was submitted to: it runs one call at a
# time, so more could only wait. The thread ends with the interpreter.
_submitters: dict[int, ThreadPoolExecutor] = {}
_submitters_lock = threading.Lock()


def _callers(interpreter_id: int) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    with _submitters_lock:
        threads = _submitters.get(interpreter_id)
        if threads is None:
            closed = [
                number
                for number in _submitters
                if _atoll.interpreter_state(number) not in ("idle", "running")
            ]
            for number in closed:
                _submitters.pop(number).shutdown(wait=False)
            threads = ThreadPoolExecutor(1, f"atoll-{interpreter_id}-submit")
            _submitters[interpreter_id] = threads
        return threads


def _call_by_id(
    interpreter_id: int,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    return _handle(interpreter_id, None).call(function, *args, **kwargs)


def _handle(interpreter_id: int, name: str | None) -> Interpreter:
    """A handle to an interpreter that exists."""
    handle = Interpreter.__new__(Interpreter)
    handle._id = interpreter_id
    handle._name = name
    _atoll.interpreter_ref(interpreter_id)
    return handle


def _sent_handle(process_id: int, interpreter_id: int, name: str | None) -> Interpreter:
    # The number means another interpreter, or none, in another process.
    if process_id != os.getpid():
        raise NotShareableError(
            f"interpreter {interpreter_id} belongs to process {process_id}, and can be "
            "used in that alone"
        )
    return _handle(interpreter_id, name)


def list_interpreters() -> list[Interpreter]:
    """Handles to all open interpreters that atoll made, oldest first.

    From any thread of any interpreter.
    """
    return [_handle(i, _atoll.interpreter_name(i)) for i in _atoll.interpreter_ids()]


def get_current() -> Interpreter | None:
    """A handle to the interpreter that this code runs in; None where atoll did not
    make it, as in the main interpreter."""
    here = _atoll.interpreter_here()
    if here not in _atoll.interpreter_ids():
        return None
    return _handle(here, _atoll.interpreter_name(here))


def _abandon(interpreter_id: int, job: Any) -> None:
    # A signal handler raised: what runs for us is not wanted any more. It gets a
    # moment to end, so that its effects are over when the caller sees the signal.
    try:
        _atoll.interpreter_interrupt(interpreter_id, job, "builtins:KeyboardInterrupt")
        _atoll.job_wait(job, _INTERRUPT_GRACE)
    except (TimeoutError, ClosedError):
        pass


def _result(message: _atoll.Message | None) -> Any:
    if message is None:
        raise InterpreterError("the call failed, and so did the report of its error")
    succeeded, value = _wire.unpack(message)
    if succeeded:
        return value
    packed, name, text, words = value
    exception: BaseException | None = None
    if packed is not None:
        try:
            if isinstance(packed, _atoll.SharedDict):
                exception = packed["exception"]
            else:
                exception = _atoll.loads(packed, trusted=True)
        except Exception:
            pass
    if not isinstance(exception, BaseException):
        hint = " (sys.exit() ends only the call)" if name == "SystemExit" else ""
        exception = InterpreterError(f"{name}: {text}{hint}" if text else name + hint)
    try:
        raise exception from RemoteTraceback(words)
    finally:
        del exception


_LONGEST_POLL = 1e6  # seconds; poll() counts milliseconds in an int


def _wait(job: Any, timeout: float | None) -> _atoll.Message | None:
    """Wait for a job, and on the main thread for signals too; its reply.

    Raises:
        TimeoutError: It is not over after `timeout` seconds.
        BaseException: What a signal handler raised.
    """
    on_main = threading.get_ident() == threading.main_thread().ident
    if not on_main or _atoll.interpreter_here() != 0:
        return _atoll.job_wait(job, timeout)
    if timeout is not None and timeout <= _SHORT_WAIT:
        return _atoll.job_wait(job, timeout)
    try:
        return _atoll.job_wait(job, _SHORT_WAIT)
    except TimeoutError:
        pass
    # A signal that comes just before the thread goes to sleep would not wake it, and
    # its Python handler would wait as long as the job takes. So a longer sleep is one
    # in poll(), which the C handler ends by writing to a descriptor.
    left = None if timeout is None else timeout - _SHORT_WAIT
    ended = _atoll.job_listen(job)
    try:
        _poll_with_signals(ended, left)
    finally:
        os.close(ended)
    return _atoll.job_wait(job, 0)


def _poll_with_signals(descriptor: int, timeout: float | None) -> None:
    import signal  # brings enum, which not every interpreter has

    deadline = None if timeout is None else time.monotonic() + timeout
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(reader, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            wait = None if left is None else min(left, _LONGEST_POLL)
            ready = poll.poll(None if wait is None else math.ceil(wait * 1000))
            if any(number == descriptor for number, _ in ready):
                return
            if not ready:
                if wait == left:
                    return
                continue
            numbers = os.read(reader, 4096)
            if previous != -1:
                os.write(previous, numbers)
    finally:
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)


def _stop_tracing() -> None:
    # Each trace refers to the names of files, which are strings of the interpreter that
    # allocated: when it is gone, the next trace that is compared with one of its reads
    # freed memory. On 3.14 ending an interpreter crashes at once; and making one on a
    # thread that has no thread state yet, as the owner's is, hangs: CPython allocates
    # it under the lock of its list of interpreters, and tracemalloc asks for a thread
    # state, which takes that lock.
    tracemalloc = sys.modules.get("tracemalloc")
    if "tracemalloc" in _atoll.left_out():
        return
    if tracemalloc is not None and tracemalloc.is_tracing():
        tracemalloc.stop()
        warnings.warn(
            "tracemalloc was stopped: CPython hangs or crashes when an "
            "interpreter is made or closes while it traces",
            RuntimeWarning,
            stacklevel=4,
        )


def _close(interpreter_id: int, timeout: float | None) -> tuple[str, str]:
    """Close and wait; the state it came to, and what is in the way."""
    timeout = _atoll.seconds(timeout)
    _stop_tracing()
    _atoll.interpreter_close_begin(interpreter_id, timeout)
    try:
        _wait(_atoll.interpreter_end(interpreter_id), timeout)
    except (TimeoutError, ClosedError):
        pass
    state, report = _atoll.interpreter_close_wait(interpreter_id, 0)
    if state == "closing":
        _atoll.interpreter_close_hurry(interpreter_id)
        state, report = _atoll.interpreter_close_wait(interpreter_id, _FINISH_GRACE)
    if state == "closing":
        _atoll.interpreter_reap(interpreter_id)
    return state, report


_prepared = False
_preparing = threading.RLock()  # a signal handler may make an interpreter, too


def _prepare_process() -> None:
    """What has to be so before the first interpreter is made."""
    global _prepared
    if _prepared or _atoll.interpreter_here() != 0:
        return
    with _preparing:  # whoever comes second waits until it is so
        if _prepared:
            return
        # On 3.13 the tuples of datetime's static types belong to the interpreter that
        # imports it first: two that do so at once corrupt each other's heap.
        if "datetime" not in _atoll.left_out():
            import datetime  # noqa: F401

        _atoll.heap_install()
        _fork.install()
        _frames.install()
        atexit.register(_exit_process)
        _prepared = True


# What CPython waits for at the exit of main, as long as it takes.
_WORTH_A_WORD = ("thread ", "an atexit ", "a function ")
_EXIT_TIMEOUT = 2.0  # seconds for all interpreters together


def _exit_process() -> None:
    """Close all interpreters at the end of the process, in bounded time."""
    _atoll.interpreters_stop()
    known = {
        i for i in _atoll.interpreter_left() if _atoll.interpreter_state(i) == "left"
    }
    if _atoll.interpreter_left():
        _stop_tracing()
    for interpreter_id in _atoll.interpreter_left():
        _atoll.interpreter_close_begin(interpreter_id, _EXIT_TIMEOUT)
        _atoll.interpreter_close_hurry(interpreter_id)
    for interpreter_id in _atoll.interpreter_left():
        state, report = _atoll.interpreter_close_wait(
            interpreter_id, _EXIT_TIMEOUT + _FINISH_GRACE
        )
        if (
            state == "left"
            and interpreter_id not in known
            and report.startswith(_WORTH_A_WORD)
        ):
            warnings.warn(
                f"interpreter {interpreter_id} was cut off by the exit of the process: "
                f"{report}; close() gives it more time",
                RuntimeWarning,
                stacklevel=1,
            )
        if state != "closed":
            _atoll.interpreter_freeze(interpreter_id, _INTERRUPT_GRACE)
