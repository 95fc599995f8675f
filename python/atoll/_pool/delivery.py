"""How results come to their futures: by one thread, or by those that wait.

The thread takes all results there are at once. Whoever waits for a future leads
instead: results come past the thread then, which sleeps. What a result leaves to do
that is not done in C (errors, callbacks, notices of workers) is the thread's.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures._base import LOGGER, PENDING
from typing import TYPE_CHECKING, Any

from atoll._pool import ending
from atoll._pool.claims import Claims
from atoll._pool.future import PoolFuture, finish, tell
from atoll._pool.results import NOTICE, error_of

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["Delivery"]

_LEAD_SECONDS = 0.05


class Delivery:
    """The results of a pool, on their way."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._scheduler = pool._scheduler
        self._led: list[Any] = []  # what is left to do about results that waiters took
        self.over = threading.Event()  # all workers have ended, and all futures
        self._claims = Claims(1)
        self.thread = threading.Thread(
            target=self._collect, name=f"{pool._name}-results", daemon=True
        )

    # ---- by the thread ---------------------------------------------------------------

    def called_off(self) -> bool:
        """Keep the thread from beginning; False where it has begun."""
        return not self._claims.call_off()

    def _collect(self) -> None:
        pool = self._pool
        with self._claims.claim(0) as claimed:
            if not claimed:
                self.over.set()
                return
        try:
            while pool._crew.alive or pool._futures or self._led:
                wait = pool._limits.wait_seconds()
                if (until := pool._crew.wait_seconds()) is not None:
                    wait = until if wait is None else min(wait, until)
                self._guarded(self._collect_once, wait)
                self._guarded(self._finish_led)
                if pool._dropped and not pool._shut:
                    # No map is under way: its results would hold the pool.
                    self._guarded(pool._close, False, False, False, True)
                if wait is not None:
                    self._guarded(pool._limits.expire)
                    self._guarded(pool._crew.attend)
        finally:
            self.over.set()
            self._finish_led()  # pairs with the look at `over` of who led
            ending.forget(pool)

    def _collect_once(self, wait: float | None) -> None:
        for entry in self._pool._desk.collect(wait):
            self._guarded(self._finish, entry)

    def _guarded(self, step: Callable[..., object], *arguments: Any) -> None:
        """A step of the thread, which must not end by what it raises.

        A warning may be an error here, as under pytest.
        """
        try:
            step(*arguments)
        except BaseException:
            LOGGER.exception("in the thread that hands out results of %r", self._pool)

    def _finish_led(self) -> None:
        while self._led:
            try:
                self._finish(self._led.pop(0))
            except IndexError:
                return  # another thread had it too

    def _finish(self, entry: Any) -> None:
        """See to what the desk has left of a result."""
        if isinstance(entry, PoolFuture):
            tell(entry)
            return
        pool = self._pool
        if len(entry) == 2:
            future, error = entry
            task_id = future._task_id
        else:
            task_id, outcome, worker, value = entry
            if outcome == NOTICE:
                pool._crew.noticed(worker, value)
                return
            future = pool._futures.get(task_id)
            interrupted = future is not None and future._interrupt
            error = error_of(outcome, value, interrupted)
        if future is not None:
            self.fail(future, error)
            pool._futures.pop(task_id, None)
        pool._model.forget(task_id)

    # ---- past the workers ------------------------------------------------------------

    def fail(self, future: PoolFuture[Any], exception: BaseException) -> None:
        """The future ends with `exception`, if it has not ended."""
        finish(future, exception)
        self._scheduler.lead_release(future._task_id)

    def drop(self, task_id: int, exception: BaseException) -> None:
        """The task ends with `exception`; it is on no queue and no worker any more."""
        future = self._pool._futures.pop(task_id, None)
        self._pool._model.forget(task_id)
        if future is not None:
            self.fail(future, exception)

    # ---- by who waits ----------------------------------------------------------------

    def lead(self, future: PoolFuture[Any], timeout: float | None) -> float | None:
        """Wait for a result past the thread, but not for long; the time left.

        The wait is one in C that a signal handler interrupts only when it comes while
        the thread sleeps, so a longer one is `PoolFuture.result`'s.

        A handler may raise between any two steps here, so a result is the future's by
        the call in C that takes it. What that leaves to do, errors and telling others,
        is in `_led` then, for the collecting thread.
        """
        desk = self._pool._desk
        began = time.monotonic()
        until = began + _LEAD_SECONDS
        if timeout is not None:
            until = min(until, began + timeout)
        try:
            while future._state == PENDING:
                wait = max(0.0, until - time.monotonic())
                taken = desk.lead(future, wait, self._led)
                if self._led:
                    self._scheduler.nudge()
                if isinstance(taken, BaseException):
                    _tell_apart(future, taken, timeout)
                    break
                if taken is None or wait == 0.0:
                    break
        finally:
            if self._led or self._pool._shut:
                self._scheduler.nudge()  # this may have been the last one
            if self.over.is_set():
                self._finish_led()
        if timeout is None:
            return None
        return max(0.0, began + timeout - time.monotonic())


def _tell_apart(
    future: PoolFuture[Any], raised: BaseException, timeout: float | None
) -> None:
    """Raise what came as the value was made, unless it is the task's own error.

    A signal handler may have raised it. The collecting thread makes the value again.
    """
    future._park(timeout)
    if type(future._exception) is not type(raised):
        raise raised
