"""Workers that take long to start: the log says so, and where they are.

Importing an application can wait for what never comes (a database, a lock, a line of
input) or never end. Nobody is harmed while others serve, but somebody should know; an
edit that mends it must not wait for what it mends, and a stop must not either.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from atoll._server.settings import Settings
from atoll._server.vigil import ANSWER_S, Ward

logger = logging.getLogger("atoll.server")


class Starter(Ward, Protocol):
    """What is looked at of a worker.

    Attributes:
        running: It was started, and has not ended.
        started_at: `time.monotonic()`.
    """

    running: bool
    started_at: float


class Asked[Worker](Protocol):
    """Who knows where a worker that starts is."""

    def can_tell_start(self, record: Worker, /) -> bool:
        """Does it? Otherwise the worker's own process tells by itself."""

    def where_it_starts(self, record: Worker, /) -> str:
        """Its Python stack; "" where there is none, or `answered` is told it later."""


class Starts[Worker: Starter]:
    """Looks at workers that do not serve yet; everything on the supervisor's thread.

    Args:
        settings: `stuck_after`: how long a start may take before it is told of. `app`:
            what starts.
        host: Where they run.
        leave: Called for those that were given up, once they were told of.
    """

    def __init__(
        self, settings: Settings, host: Asked[Worker], leave: Callable[[Worker], None]
    ) -> None:
        self._limit_s = settings.stuck_after
        self._app = settings.app
        self._host = host
        self._leave = leave
        # After how many seconds each is told of next.
        self._next_s: dict[Worker, float] = {}
        # Until when each that was given up is expected to say where it is.
        self._given_up: dict[Worker, float] = {}

    def is_overdue(self, worker: Worker) -> bool:
        """Has it been starting for longer than `stuck_after`?"""
        starting = worker.running and not worker.ready
        return starting and 0 < self._limit_s <= time.monotonic() - worker.started_at

    def next_look(self, workers: Sequence[Worker]) -> float | None:
        """When to look again (`time.monotonic()`); None: not before a worker starts."""
        moments = list(self._given_up.values())
        if self._limit_s:
            moments += [
                worker.started_at + self._next_s.get(worker, self._limit_s)
                for worker in workers
                if self._is_watched(worker)
            ]
        return min(moments, default=None)

    def look(self, workers: Sequence[Worker]) -> None:
        """Tell of those that are overdue, each after twice the time."""
        now = time.monotonic()
        for worker in [one for one, until in self._given_up.items() if until <= now]:
            self.answered(worker, "")
        late = {w for w in workers if self._is_watched(w) and self.is_overdue(w)}
        self._next_s = {w: at for w, at in self._next_s.items() if w in late}
        for worker in late:
            seconds = now - worker.started_at
            if seconds >= self._next_s.get(worker, 0.0):
                self._next_s[worker] = 2 * seconds
                logger.warning(
                    "worker %d has been starting for %.0f s: %s is imported or starts",
                    worker.index,
                    seconds,
                    self._app,
                )
                self.answered(worker, self._host.where_it_starts(worker))

    def _is_watched(self, worker: Worker) -> bool:
        return (
            worker.running
            and not worker.ready
            and worker not in self._given_up
            and self._host.can_tell_start(worker)
        )

    def give_up(self, worker: Worker) -> None:
        """Have it left, or killed, when it has said where it is, or has not."""
        self._given_up[worker] = time.monotonic() + ANSWER_S
        can_tell = self._host.can_tell_start(worker)
        text = self._host.where_it_starts(worker) if can_tell else ""
        if text or not can_tell:
            self.answered(worker, text)

    def answered(self, worker: Worker, text: str) -> None:
        """Where it is: its Python stack, or ""."""
        if self._given_up.pop(worker, None) is not None:
            logger.error(
                "worker %d has not got to serving: it is waited for no more%s",
                worker.index,
                f", and is here:\n{text.rstrip()}" if text else "",
            )
            self._leave(worker)
        elif text and not worker.ready:
            logger.warning("worker %d is here:\n%s", worker.index, text.rstrip())

    def forget(self, worker: Worker) -> None:
        """It serves, or has ended."""
        self._given_up.pop(worker, None)
