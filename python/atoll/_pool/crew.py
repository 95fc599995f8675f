"""The workers of a pool: each is started, and started again when it has ended.

One that cannot be started, for want of files or threads, is told of and tried again
later, as long as there are others: the pool breaks when nobody is left to work. At the
pool's own start it is an error where the start of a worker can tell at once.
"""

import collections
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures._base import LOGGER
from typing import TYPE_CHECKING, Any

from atoll._pool.claims import Claims
from atoll._pool.results import rebuilt
from atoll._pool.worker import Report

if TYPE_CHECKING:
    from atoll._pool.executor import Pool
    from atoll._pool.future import PoolFuture
    from atoll._pool.models import Model

__all__ = ["Crew"]

# Seconds until a worker that could not be started is tried again; twice as many after
# each try.
_FIRST_WAIT = 0.25
_LONGEST_WAIT = 30.0

# A worker, what cleans up after it, and why there was none, if there was not.
type _Ended = tuple[int, Callable[[int], None], Exception | None]


class Crew:
    """Who works on each number, in which turn.

    A worker that ends sends a notice with its turn, so that one that was given up, and
    comes to its end after all, is not taken for the one that has its number now.
    """

    def __init__(self, pool: "Pool", model: "Model") -> None:
        self._pool = pool
        self._model = model
        self._turns: collections.Counter[int] = collections.Counter()
        self._care_name = f"{pool._name}-care"
        self.alive: set[int] = set()
        self.restarts = 0
        self.restarts_of: collections.Counter[int] = collections.Counter()
        self._failures: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()
        # Those that could not be started, and are among `alive`: they will be.
        self._absent: set[int] = set()  # guarded: _lock
        self._sent_to_all: list[dict[int, PoolFuture[Any]]] = []  # guarded: _lock
        # Workers that ended and that no thread could be had for.
        self._unattended: list[_Ended] = []  # guarded: _lock
        self._tried_at = 0.0  # `time.monotonic()`; writer: who hands out results

    # ---- the first of each -----------------------------------------------------------

    def start(self, workers: int) -> None:
        """Start each; on a thread of its own where that takes long, but for one.

        Raises:
            BaseException: What one of them raised; the others have ended then.
        """
        together = self._model.start_takes_long
        claims = Claims(workers)
        failures: list[BaseException] = []

        def begin(worker: int) -> None:
            with claims.claim(worker) as claimed:
                if not claimed:
                    return
                try:
                    self._begin(worker)
                except BaseException as error:
                    failures.append(error)

        try:
            for worker in range(1, workers) if together else ():
                threading.Thread(
                    target=begin, args=(worker,), name=self._care_name
                ).start()
            for worker in range(1 if together else workers):
                self._begin(worker)
            if together:
                claims.wait(range(1, workers))
        except BaseException as error:  # Ctrl-C, or no thread is to be had
            failures.insert(0, error)
        if failures:
            self.end(workers, claims)
            raise failures[0]

    def end(self, workers: int, claims: Claims | None = None) -> None:
        """End those of a pool that does not come to be."""
        self._pool._scheduler.close()
        if claims is not None:
            claims.wait(claims.call_off())
        for worker in range(workers):
            if self._model.has(worker):
                self._model.ended(worker)

    def _begin(self, worker: int) -> None:
        self._start(worker)
        self.alive.add(worker)

    def _start(self, worker: int) -> None:
        self._turns[worker] += 1
        self._model.start(worker, self._turns[worker])

    # ---- those after it --------------------------------------------------------------

    def noticed(self, worker: int, notice: tuple[int, Report | None]) -> None:
        """A worker said that it has ended."""
        turn, failure = notice
        if turn != self._turns[worker]:
            return
        if failure is not None:
            self._pool._break(rebuilt(failure))
        error = self._model.start_error(worker)
        self._care(worker, self._model.ended, error)

    def leave(self, worker: int) -> None:
        """Give up a worker that does not end, and start another."""
        self._turns[worker] += 1  # what it says when it ends is not heard
        self._care(worker, self._model.leave, None)

    def _care(
        self, worker: int, end: Callable[[int], None], error: Exception | None
    ) -> None:
        # Ending and starting block: not on the thread that delivers.
        thread = threading.Thread(
            target=self._renew,
            args=(worker, end, error),
            name=self._care_name,
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as failure:  # no thread is to be had
            if self._is_wanted() and self._miss(worker):
                with self._lock:
                    self._unattended.append((worker, end, error))
                self._pool._scheduler.nudge()
            else:  # nobody is left, and the pool breaks; or it ends
                self._renew(worker, end, failure)

    def wait_seconds(self) -> float | None:
        """Seconds until `attend` has something to do; None: it has nothing."""
        if not self._unattended:
            return None
        return max(0.0, self._tried_at + _FIRST_WAIT - time.monotonic())

    def attend(self) -> None:
        """See to the workers for which there was no thread, some time ago."""
        if self.wait_seconds() != 0.0:
            return
        self._tried_at = time.monotonic()
        with self._lock:
            unattended, self._unattended = self._unattended, []
        for ended in unattended:
            self._care(*ended)

    def _renew(
        self, worker: int, end: Callable[[int], None], error: Exception | None
    ) -> None:
        pool = self._pool
        try:
            end(worker)
            if error is None:  # there was a worker
                self._failures.pop(worker, None)
            while self._is_wanted() and (error is None or self._waits(worker, error)):
                if error is None:
                    self.restarts += 1
                    self.restarts_of[worker] += 1
                try:
                    with self._lock:
                        self._absent.discard(worker)  # it gets what is sent to all
                    self._start(worker)
                    return
                except Exception as failure:
                    error = failure
        except BaseException as failure:
            pool._break(failure)
        self.alive.discard(worker)
        pool._scheduler.nudge()

    def _is_wanted(self) -> bool:
        pool = self._pool
        return pool._broken is None and (not pool._shut or pool.queued > 0)

    def _waits(self, worker: int, error: Exception) -> bool:
        """Wait until a worker that could not be started is tried again.

        False: it is not, since the pool has broken or ends.
        """
        pool = self._pool
        others = self._miss(worker)
        if not others:
            pool._break(error)
        if pool._closing.is_set():
            return False
        seconds = min(_FIRST_WAIT * 2 ** self._failures[worker], _LONGEST_WAIT)
        self._failures[worker] += 1
        LOGGER.warning(
            "worker %d of %r could not be started: %s; the other %d go on, and it is "
            "tried again in %g s",
            worker,
            pool._name,
            error,
            others,
            seconds,
        )
        return not pool._closing.wait(seconds)

    def _miss(self, worker: int) -> int:
        """It is absent until it is started: how many others there are."""
        with self._lock:
            self._absent.add(worker)
            others = len(self.alive - self._absent)
            sent = [one[worker] for one in self._sent_to_all]
        for future in sent:
            future.cancel()
        return others

    # ---- what is sent to all ---------------------------------------------------------

    def wait_for_all(self, sent: dict[int, "PoolFuture[Any]"]) -> None:
        """Wait for tasks that were sent to each worker by its number.

        One that is not there gets what they bring when it starts.
        """
        with self._lock:
            self._sent_to_all.append(sent)
            absent = list(self._absent)
        try:
            for worker in absent:
                sent[worker].cancel()
            for future in sent.values():
                try:
                    future.result()
                except CancelledError:
                    pass
        finally:
            with self._lock:
                self._sent_to_all.remove(sent)
