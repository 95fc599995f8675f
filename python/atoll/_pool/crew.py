"""The workers of a pool: each is started, and started again when it has ended."""

import collections
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from atoll._pool.results import rebuilt
from atoll._pool.worker import Report

if TYPE_CHECKING:
    from atoll._pool.executor import Pool
    from atoll._pool.models import Model

__all__ = ["Crew"]


class Crew:
    """Who works on each number, in which turn.

    A worker that ends sends a notice with its turn, so that one that was given up, and
    comes to its end after all, is not taken for the one that has its number now.
    """

    def __init__(self, pool: "Pool", model: "Model", workers: int) -> None:
        self._pool = pool
        self._model = model
        self._turns: collections.Counter[int] = collections.Counter()
        self._care_name = f"{pool._name}-care"
        self.alive: set[int] = set()
        self.restarts = 0
        self.restarts_of: collections.Counter[int] = collections.Counter()
        if model.start_takes_long:
            self._start_together(workers)
            return
        for worker in range(workers):
            self._begin(worker)

    def _start_together(self, workers: int) -> None:
        """Start each on a thread of its own; one here.

        Raises:
            BaseException: What one of them raised; the others have ended then.
        """
        failures: list[BaseException] = []

        def begin(worker: int) -> None:
            try:
                self._begin(worker)
            except BaseException as error:
                failures.append(error)

        started: list[threading.Thread] = []
        try:
            for worker in range(1, workers):
                helper = threading.Thread(
                    target=begin, args=(worker,), name=self._care_name
                )
                helper.start()
                started.append(helper)
            begin(0)
            for helper in started:
                helper.join()
        except BaseException as error:  # Ctrl-C, or no thread is to be had
            failures.insert(0, error)
            for helper in started:
                helper.join()
        if failures:
            self._pool._scheduler.close()
            for worker in range(workers):
                if self._model.place(worker):
                    self._model.ended(worker)
            raise failures[0]

    def _begin(self, worker: int) -> None:
        self._start(worker)
        self.alive.add(worker)

    def _start(self, worker: int) -> None:
        self._turns[worker] += 1
        self._model.start(worker, self._turns[worker])

    def noticed(self, worker: int, notice: tuple[int, Report | None]) -> None:
        """A worker said that it has ended."""
        turn, failure = notice
        if turn != self._turns[worker]:
            return
        if failure is not None:
            self._pool._break(rebuilt(failure))
        self._care(worker, self._model.ended)

    def leave(self, worker: int) -> None:
        """Give up a worker that does not end, and start another."""
        self._turns[worker] += 1  # what it says when it ends is not heard
        self._care(worker, self._model.leave)

    def _care(self, worker: int, end: Callable[[int], None]) -> None:
        # Ending and starting block: not on the thread that delivers.
        threading.Thread(
            target=self._renew,
            args=(worker, end),
            name=self._care_name,
            daemon=True,
        ).start()

    def _renew(self, worker: int, end: Callable[[int], None]) -> None:
        pool = self._pool
        end(worker)
        if pool._broken is None and (not pool._shut or pool.queued > 0):
            try:
                self.restarts += 1
                self.restarts_of[worker] += 1
                self._start(worker)
                return
            except BaseException as error:
                pool._break(error)
        self.alive.discard(worker)
        pool._scheduler.nudge()
