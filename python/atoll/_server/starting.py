"""Workers that take long to start: the log says so, and where they are.

Importing an application can wait for what never comes (a database, a lock, a line of
input) or never end. Nobody is harmed while others serve, but somebody should know; and
an edit that mends it must not wait for what it mends.
"""

import logging
import time
from collections.abc import Sequence
from typing import Protocol

from atoll._server.settings import Settings
from atoll._server.vigil import Ward

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
    """

    def __init__(self, settings: Settings, host: Asked[Worker]) -> None:
        self._limit_s = settings.stuck_after
        self._app = settings.app
        self._host = host
        # After how many seconds each is told of next.
        self._next_s: dict[Worker, float] = {}

    def is_overdue(self, worker: Worker) -> bool:
        """Has it been starting for longer than `stuck_after`?"""
        starting = worker.running and not worker.ready
        return starting and 0 < self._limit_s <= time.monotonic() - worker.started_at

    def next_look(self, workers: Sequence[Worker]) -> float | None:
        """When to look again (`time.monotonic()`); None: not before a worker starts."""
        if not self._limit_s:
            return None
        moments = [
            worker.started_at + self._next_s.get(worker, self._limit_s)
            for worker in workers
            if worker.running and not worker.ready and self._host.can_tell_start(worker)
        ]
        return min(moments, default=None)

    def look(self, workers: Sequence[Worker]) -> None:
        """Tell of those that are overdue, each after twice the time."""
        late = {
            worker
            for worker in workers
            if self.is_overdue(worker) and self._host.can_tell_start(worker)
        }
        self._next_s = {w: at for w, at in self._next_s.items() if w in late}
        for worker in late:
            seconds = time.monotonic() - worker.started_at
            if seconds >= self._next_s.get(worker, 0.0):
                self._next_s[worker] = 2 * seconds
                logger.warning(
                    "worker %d has been starting for %.0f s: %s is imported or starts",
                    worker.index,
                    seconds,
                    self._app,
                )
                self.answered(worker, self._host.where_it_starts(worker))

    def answered(self, worker: Worker, text: str) -> None:
        """Where it is: its Python stack, or ""."""
        if text and not worker.ready:
            logger.warning("worker %d is here:\n%s", worker.index, text.rstrip())
