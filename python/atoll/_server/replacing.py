"""Which workers are to be replaced, and by what.

One successor starts at a time, so that a reload costs the memory of one worker more,
and an application that does not start any more is found out by the first.
"""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from atoll._server.settings import Settings

#: Seconds between two looks at how much memory the workers take.
LOOK_S = 1.0


class Life(Protocol):
    """What is looked at of a worker."""

    index: int
    threads: list[int]
    ready: bool
    started_at: float
    requests_most: int
    lifetime: float


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
    """How long workers live, by requests, by time and by memory.

    Args:
        settings: `max_requests`, `max_worker_lifetime` with their jitters, and
            `max_worker_memory`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._looked_at = 0.0

    def requests_most(self) -> int:
        """After how many requests a worker that starts now is replaced; 0: never."""
        settings = self.settings
        if not settings.max_requests:
            return 0
        return settings.max_requests + random.randint(0, settings.max_requests_jitter)

    def lifetime(self) -> float:
        """For how many seconds a worker that starts now lives; 0: for ever."""
        settings = self.settings
        if not settings.max_worker_lifetime:
            return 0.0
        jitter = random.uniform(0, settings.max_worker_lifetime_jitter)
        return settings.max_worker_lifetime + jitter

    def next_look(self, workers: Sequence[Life]) -> float | None:
        """When `spent` shall be asked again (`time.monotonic()`); None: never."""
        moments = []
        if self.settings.max_worker_memory:
            moments.append(self._looked_at + LOOK_S)
        moments += [
            end
            for worker in workers
            if worker.ready
            and worker.lifetime
            and (end := worker.started_at + worker.lifetime) > self._looked_at
        ]
        return min(moments, default=None)

    def is_due(self, workers: Sequence[Life]) -> bool:
        """Is it time to ask `spent`?"""
        moment = self.next_look(workers)
        return moment is not None and moment <= time.monotonic()

    def spent(
        self, workers: Sequence[Life], stats: Sequence[Mapping[str, int]]
    ) -> list[int]:
        """Places of the workers that have had their time.

        Args:
            workers: All of them.
            stats: `_atoll.Service.stats()`.
        """
        now = self._looked_at = time.monotonic()
        by_thread = {entry["thread"]: entry for entry in stats}
        return [
            worker.index
            for worker in workers
            if worker.ready
            and self._is_spent(
                worker, now, [by_thread[t] for t in worker.threads if t in by_thread]
            )
        ]

    @staticmethod
    def next_counts(
        worker: Life, stats: Sequence[Mapping[str, int]]
    ) -> list[tuple[int, int]]:
        """(thread, requests) of each thread: when one has had so many, look again."""
        entries = [entry for entry in stats if entry["thread"] in worker.threads]
        if not worker.requests_most or not entries:
            return []
        left = worker.requests_most - sum(entry["requests"] for entry in entries)
        share = max(1, -(-left // len(entries)))
        return [(entry["thread"], entry["requests"] + share) for entry in entries]

    def _is_spent(
        self, worker: Life, now: float, entries: list[Mapping[str, int]]
    ) -> bool:
        requests = sum(entry["requests"] for entry in entries)
        # Threads of one interpreter share its objects.
        memory = max((entry["memory_bytes"] for entry in entries), default=0)
        most_bytes = self.settings.max_worker_memory * 1_000_000
        return (
            0 < worker.requests_most <= requests
            or 0 < worker.lifetime <= now - worker.started_at
            or 0 < most_bytes < memory
        )
