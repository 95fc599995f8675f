"""Which workers get on, and what is to be done about those that do not.

Busy is not dead. A worker is asked for a sign of life, which its event loop gives as
soon as it turns (`_atoll.Service.probe`); what counts is how long it has given none.
Then, each at its time: the log gets its Python stack, the request that runs gets a
`RequestTimeout`, another worker takes its place.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from atoll._server.settings import Settings

#: Seconds between two questions: a fourth of the shortest limit, but not more or less.
ASK_MOST_S, ASK_LEAST_S = 2.5, 0.05


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes:
        what: "stack": tell where it is; "interrupt": raise the timeout; "replace".
        thread: Native id of the thread that does not get on.
        silent_s: Since when, in seconds.
    """

    what: Literal["stack", "interrupt", "replace"]
    thread: int
    silent_s: float


class Pulse:
    """Decides; asks nobody and does nothing itself.

    Args:
        settings: `stuck_after`, `request_timeout`, `replace_stuck_after`.
    """

    def __init__(self, settings: Settings) -> None:
        self._limits: dict[Literal["stack", "interrupt", "replace"], float] = {
            "stack": settings.stuck_after,
            "interrupt": settings.request_timeout,
            "replace": settings.replace_stuck_after,
        }
        shortest = min((limit for limit in self._limits.values() if limit), default=0.0)
        #: Seconds between two questions; 0: nobody is to be asked.
        self.interval_s = (
            min(ASK_MOST_S, max(ASK_LEAST_S, shortest / 4)) if shortest else 0.0
        )
        self._asked_at = 0.0
        # For each silent thread, how often each thing was ordered in this silence.
        self._ordered: dict[int, dict[str, int]] = {}

    def next_look(self) -> float | None:
        """When to ask again (`time.monotonic()`); None: never."""
        return self._asked_at + self.interval_s if self.interval_s else None

    def look(self, now: float, silences: Iterable[tuple[int, float]]) -> list[Order]:
        """Take the answers, and say what is to be done.

        Args:
            now: `time.monotonic()`.
            silences: Native id of each thread that serves, and for how many seconds it
                has given no sign.
        """
        self._asked_at = now
        orders = []
        still: dict[int, dict[str, int]] = {}
        for thread, silent_s in silences:
            if not silent_s:
                continue
            ordered = still[thread] = self._ordered.get(thread, {})
            for what, limit in self._limits.items():
                if not limit:
                    continue
                # A timeout is raised anew after the same time; the rest is done once.
                again = what == "interrupt"
                count = int(silent_s / limit) if again else int(silent_s >= limit)
                if count > ordered.get(what, 0):
                    ordered[what] = count
                    orders.append(Order(what, thread, silent_s))
        self._ordered = still
        return orders
