"""Signs of life of processes: each is asked, and its supervisor answers.

It answers unless C code keeps the GIL that it shares with the application, where a
worker is a process; workers that are interpreters of a process are seen to by the
supervisor in it (`vigil`).
"""

import logging
import time
from collections.abc import Callable, Iterable

from atoll._server.hosts import Host, WorkerRecord
from atoll._server.pulse import Pulse
from atoll._server.settings import Settings

logger = logging.getLogger("atoll.server")


class Signs:
    """Who has answered when; everything on the supervisor's thread.

    Args:
        settings: `stuck_after` and `replace_stuck_after`.
        host: Asks.
        replace: Has a process replaced.
    """

    def __init__(
        self, settings: Settings, host: Host, replace: Callable[[WorkerRecord], None]
    ) -> None:
        self._settings = settings
        self._host = host
        self._replace = replace
        self._interval_s = Pulse(settings).interval_s
        self._looked_at = 0.0
        self._asked: dict[WorkerRecord, float] = {}
        self._told: set[WorkerRecord] = set()
        self._stuck: set[WorkerRecord] = set()

    def next_look(self) -> float | None:
        """When to look again (`time.monotonic()`); None: never."""
        return self._looked_at + self._interval_s if self._interval_s else None

    def look(self, records: Iterable[WorkerRecord]) -> None:
        """Ask those that serve and have answered; see to those that have not."""
        now = time.monotonic()
        moment = self.next_look()
        if moment is None or now < moment:
            return
        self._looked_at = now
        for record in records:
            if not record.ready:
                continue
            if record not in self._asked:
                self._asked[record] = now
                self._host.ask(record)
            else:
                self._see_to(record, now - self._asked[record])

    def _see_to(self, record: WorkerRecord, silent_s: float) -> None:
        settings = self._settings
        if 0 < settings.stuck_after <= silent_s and record not in self._told:
            self._told.add(record)
            logger.warning(
                "worker %d has given no sign of life for %.1f s; C code keeps its GIL",
                record.index,
                silent_s,
            )
        if 0 < settings.replace_stuck_after <= silent_s and record not in self._stuck:
            self._stuck.add(record)
            self._replace(record)

    def answered(self, record: WorkerRecord) -> None:
        """It lives."""
        self.ended(record)

    def ended(self, record: WorkerRecord) -> None:
        """It does not, and is asked no more."""
        self._asked.pop(record, None)
        self._told.discard(record)
        self._stuck.discard(record)

    def is_stuck(self, record: WorkerRecord) -> bool:
        """Is it replaced because it is silent, and still is?"""
        return record in self._stuck
