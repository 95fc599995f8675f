"""Which workers are to be replaced, and by what.

One successor starts at a time, so that a reload costs the memory of one worker more,
and an application that does not start any more is found out by the first.
"""

import random
import time
from typing import Any, Protocol

from atoll._server.settings import Settings

#: Seconds between two looks at how many requests the workers have served.
LOOK_S = 1.0


class Life(Protocol):
    """What is looked at of a worker."""

    index: int
    threads: list[int]
    ready: bool
    started_at: float
    requests_most: int


class Replacing[Worker]:
    """The places whose workers are to be replaced, in order.

    Attributes:
        successor: The one that starts now, or None.
        retired: Those whose successor serves, until they have ended.
    """

    def __init__(self) -> None:
        self.successor: Worker | None = None
        self.retired: list[Worker] = []
        self._wanted: list[int] = []

    def want(self, indexes: list[int]) -> list[int]:
        """Ask for those places; returns those that were not asked for yet."""
        fresh = [index for index in indexes if index not in self._wanted]
        self._wanted += fresh
        return fresh

    def next(self) -> int | None:
        """The place whose successor shall start now; None: not now."""
        if self.successor is not None or not self._wanted:
            return None
        return self._wanted.pop(0)

    def give_up(self) -> None:
        """The successor did not start: the old workers stay."""
        self.successor = None
        self._wanted.clear()

    def others(self) -> list[Worker]:
        """Workers that live beside those in their places."""
        return [*self.retired, *([self.successor] if self.successor else [])]


class Lives:
    """How long workers live: `max_requests` and `max_worker_lifetime`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._looked_at = 0.0

    def requests_most(self) -> int:
        """After how many requests a worker that starts now is replaced; 0: never."""
        settings = self.settings
        if not settings.max_requests:
            return 0
        return settings.max_requests + random.randint(0, settings.max_requests_jitter)

    def next_look(self, workers: "list[Any]") -> float | None:
        """When `spent` shall be asked again (`time.monotonic()`); None: never."""
        moments = []
        if self.settings.max_requests:
            moments.append(self._looked_at + LOOK_S)
        if self.settings.max_worker_lifetime:
            moments += [
                moment
                for worker in workers
                if worker.ready and (moment := self._end(worker)) > self._looked_at
            ]
        return min(moments, default=None)

    def spent(self, workers: "list[Any]", stats: list[dict[str, int]]) -> list[int]:
        """Places of the workers that have had their time."""
        now = self._looked_at = time.monotonic()
        served = {entry["thread"]: entry["requests"] for entry in stats}
        return [
            worker.index
            for worker in workers
            if worker.ready
            and (
                0
                < worker.requests_most
                <= sum(served.get(thread, 0) for thread in worker.threads)
                or (self.settings.max_worker_lifetime and self._end(worker) <= now)
            )
        ]

    def _end(self, worker: Life) -> float:
        return worker.started_at + self.settings.max_worker_lifetime
