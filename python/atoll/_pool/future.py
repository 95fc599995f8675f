"""Futures of a pool: `concurrent.futures.Future`, made cheap.

A Future of the standard library makes a condition with a lock for itself, and takes it
to be finished. Of a million small tasks nobody waits for most that way: here the
condition is made by who wants it, and a batch is finished under one lock.
"""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["PoolFuture", "finish", "finish_all"]

# Guards the making of conditions against the finishing of futures that have none yet.
_lock = threading.Lock()


class PoolFuture(Future[Any]):
    """A task of an `atoll.Pool`; also a `concurrent.futures.Future`."""

    def __init__(
        self, pool: "Pool", task_id: int, function: Callable[..., Any]
    ) -> None:
        # What the base class sets, but for its condition.
        self._made: threading.Condition | None = None
        self._state = PENDING
        self._result = None
        self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self._pool = pool
        self._task_id = task_id
        self._function: Callable[..., Any] | None = function  # until it is finished
        self._interrupt = False
        self._interrupt_sent = False

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        made = self._made
        if made is None:
            with _lock:
                made = self._made
                if made is None:
                    made = self._made = threading.Condition()
        return made

    def result(self, timeout: float | None = None) -> Any:
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
        # Where nobody else is told of it, the result comes straight to this thread.
        if self._state == PENDING and self._made is None:
            timeout = self._pool._lead(self, timeout)
            if self._state == FINISHED and self._exception is None:
                return self._result
        return super().result(timeout)

    def running(self) -> bool:
        """Does a worker run it at this moment?"""
        if self._state == PENDING:
            return bool(self._pool._scheduler.running(self._task_id) >= 0)
        return bool(self._state == RUNNING)

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
        return self._pool._limits.cancel(self, running)

    def set_running_or_notify_cancel(self) -> bool:
        raise InvalidStateError("a pool's future is run by the pool alone")


def _set(future: PoolFuture, result: Any, exception: BaseException | None) -> bool:
    """Finish a future, under the lock; True where somebody is to be told."""
    if future._state in (FINISHED, CANCELLED_AND_NOTIFIED):
        return False
    future._function = None
    if exception is None:
        future._result = result
        future._state = FINISHED
    elif type(exception) is CancelledError:
        future._state = CANCELLED_AND_NOTIFIED
    else:
        future._exception = exception
        future._state = FINISHED
    return future._made is not None


def _tell(future: PoolFuture) -> None:
    with future._condition:
        for waiter in future._waiters:
            if future._state == CANCELLED_AND_NOTIFIED:
                waiter.add_cancelled(future)
            elif future._exception is not None:
                waiter.add_exception(future)
            else:
                waiter.add_result(future)
        future._condition.notify_all()
    future._invoke_callbacks()  # type: ignore[attr-defined]


def finish(future: PoolFuture, result: Any, exception: BaseException | None) -> None:
    """Finish a future with a result or an exception; `CancelledError` is cancelled.

    On any thread: no handler of a signal can leave the lock taken. The handler runs at
    a jump backwards, and at the end of a loop's body CPython 3.13 leaves that jump out
    of the `with` statement around the loop.
    """
    with _lock:
        told = _set(future, result, exception)
    if told:
        _tell(future)


def finish_all(
    batch: list[tuple[PoolFuture, Any, BaseException | None]],
) -> None:
    """Finish many; not on the main thread, whose signal handlers may raise.

    What is finished already stays as it is.
    """
    watched = []
    with _lock:
        for future, result, exception in batch:
            if _set(future, result, exception):
                watched.append(future)
    for future in watched:
        _tell(future)
