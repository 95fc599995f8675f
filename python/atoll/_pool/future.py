"""Futures of a pool: `concurrent.futures.Future`, made cheap.

A Future of the standard library makes a condition with a lock for itself, and takes it
to be finished. Of a million small tasks nobody waits for most that way: here the
condition is made by who wants it, and the fields are C's (`src/bind/pool_future.h`).
"""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    LOGGER,
    PENDING,
    RUNNING,
)
from typing import Any, NoReturn, TypeVar

from atoll import _atoll

__all__ = ["Cancelled", "PoolFuture", "finish", "tell"]


_R = TypeVar("_R")


class Cancelled(CancelledError):
    """Finishes a future as cancelled; a task may raise its base class as any other."""


class PoolFuture(_atoll.PoolFutureBase, Future[_R]):
    """A task of an `atoll.Pool`; also a `concurrent.futures.Future`."""

    _result: _R

    def __init__(self) -> None:
        raise TypeError("a PoolFuture is made by submitting to a pool")

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        made = self._made
        return made if made is not None else self._adopt(threading.Condition())

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a future stays in the interpreter that submitted its task: send its result"
        )

    def __repr__(self) -> str:
        text = super().__repr__()
        if self._state == PENDING and self.running():
            text = text.replace("state=pending", "state=running")
        return text

    def result(self, timeout: float | None = None) -> _R:
        """What the task returned; raises what it raised.

        Args:
            timeout: Seconds to wait; None: as long as it takes.

        Raises:
            CancelledError: The task was cancelled.
            TimeoutError: It is not over in time, or the time of the task is.
        """
        # Finished already, as most are of whoever collects many: nobody to wait for.
        if self._state == FINISHED and self._exception is None:
            return self._result
        self._wait(timeout)
        if self._state == CANCELLED_AND_NOTIFIED:
            raise CancelledError
        if self._state != FINISHED:
            raise TimeoutError
        if self._exception is None:
            return self._result
        try:
            raise self._exception
        finally:
            # A frame that the traceback keeps need not keep the future.
            self = None  # type: ignore[assignment]  # IPython looks for it by name

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None.

        Args:
            timeout: Seconds to wait; None: as long as it takes.

        Raises:
            CancelledError: The task was cancelled.
            TimeoutError: It is not over in time.
        """
        self._wait(timeout)
        if self._state == CANCELLED_AND_NOTIFIED:
            raise CancelledError
        if self._state != FINISHED:
            raise TimeoutError
        exception: BaseException | None = self._exception
        return exception

    def _wait(self, timeout: float | None) -> None:
        """Wait until it is finished, or that long.

        Not with the condition, as the base class does it: a signal handler that raises
        could leave that locked, and then the collector waits for ever, and everybody
        with it. CPython 3.14 runs handlers also after the call of `__enter__`, before
        the `with` statement guards what that took; Condition.__enter__, a function of
        Python, is such a place on all versions.
        """
        timeout = _atoll.seconds(timeout)
        # Where nobody else is told of it, the result comes straight to this thread.
        if self._state == PENDING and self._made is None:
            timeout = self._pool._delivery.lead(self, timeout)
        if self._state == PENDING:
            self._park(timeout)

    def _park(self, timeout: float | None) -> None:
        """Wait until another thread has finished it, or that long."""
        if threading.current_thread() is self._pool._delivery.thread:
            raise RuntimeError(
                "a callback cannot wait for a future of its pool: it runs on the thread"
                " that hands out the results"
            )
        waiter = _Waiter()
        _ = self._condition  # once it is there, who finishes this tells
        waiters = self._waiters
        waiters.append(waiter)
        try:
            if self._state == PENDING:
                waiter.wait(timeout)
        finally:
            waiters.remove(waiter)

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call `fn` with this future when it is finished, or now if it is.

        Callbacks are called in the order in which they were added, on a thread of the
        pool or on this one; what one raises is logged.
        """
        _ = self._condition
        self._done_callbacks.append(fn)
        if self._state != PENDING:
            self._invoke_callbacks()

    def _invoke_callbacks(self) -> None:
        callbacks = self._done_callbacks
        while callbacks:
            try:
                callback = callbacks.pop(0)
            except IndexError:
                return  # another thread calls it
            try:
                callback(self)
            except BaseException:  # sys.exit() too: the thread is everybody's
                LOGGER.exception("exception calling callback for %r", self)

    def running(self) -> bool:
        """Does a worker run it at this moment?"""
        if self._state == PENDING:
            return bool(self._pool._scheduler.running(self._task_id) >= 0)
        return self._state == RUNNING

    def cancel(self, *, running: bool = False) -> bool:
        """Cancel the task if it has not begun, or with `running` even then.

        A running task is interrupted between two bytecodes: an exception is raised in
        it that `except Exception` does not catch, and the future is cancelled when the
        task has ended. A task inside a C function gets it when that returns; see
        `Pool.stuck`, `Pool.replace` and the pool's `replace_stuck`. A
        task that catches the exception and returns has its result; it is not sent
        again.

        Args:
            running: Also interrupt it where it runs.

        Returns:
            Whether it is cancelled, or was asked to end.
        """
        if self._state in (CANCELLED, CANCELLED_AND_NOTIFIED):
            return True
        if self._state == FINISHED:
            return False
        return bool(self._pool._limits.cancel(self, running))

    def set_running_or_notify_cancel(self) -> bool:
        raise InvalidStateError("a pool's future is run by the pool alone")


class _Waiter:
    """A thread that waits for one future; the interface of `concurrent.futures`'."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float | None) -> None:
        """Until it is told, or that long."""
        if timeout is None:
            self._lock.acquire()
        else:
            self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def add_result(self, future: Future[Any]) -> None:
        """It is finished."""
        if self._lock.locked():  # not by a set_result() of somebody else's before
            self._lock.release()

    add_exception = add_cancelled = add_result


def tell(future: PoolFuture[Any]) -> None:
    """Wake who waits for a future that is finished, and run its callbacks."""
    with future._condition:
        for waiter in list(future._waiters):  # those that give up go meanwhile
            if future._state == CANCELLED_AND_NOTIFIED:
                waiter.add_cancelled(future)
            elif future._exception is not None:
                waiter.add_exception(future)
            else:
                waiter.add_result(future)
        future._condition.notify_all()
    future._invoke_callbacks()


def finish(future: PoolFuture[Any], exception: BaseException) -> None:
    """Finish a future with an exception, where it is not; `Cancelled` cancels it.

    On any thread. The step itself is one call in C: no handler of a signal can come in
    its midst.
    """
    if isinstance(exception, Cancelled):
        told = future._settle(CANCELLED_AND_NOTIFIED, None, None)
    else:
        told = future._settle(FINISHED, None, exception)
    if told:
        tell(future)
