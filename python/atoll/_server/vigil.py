"""What is done about workers that do not get on: asked, told of, replaced, left.

`pulse` decides when; here is how. A worker that is to be replaced goes on being one
until its successor serves. Then its connections are taken away from it
(`_atoll.Service.give_up`) and what runs in it is interrupted; one that ends by that
closes its interpreter, and one that does not is left where it is: a thread cannot be
ended from outside, and an interpreter in which one runs cannot be destroyed.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from atoll._server import inquest
from atoll._server.pulse import Order, Pulse
from atoll._server.settings import Settings

logger = logging.getLogger("atoll.server")

#: Seconds for a worker's witness to answer: it has to wait for the GIL.
ANSWER_S = 1.0
#: Seconds between two interrupts of a worker that was given up.
INTERRUPT_S = 1.0
#: Seconds for it to end, where `timeout_drain` does not say.
END_S = 30.0
#: What a client that is answered 503 is told to wait, in seconds.
RETRY_AFTER_S = 1


class Ward(Protocol):
    """What is looked at of a worker.

    Attributes:
        index: Its place.
        reader: Descriptor of the socket to it.
        threads: Native ids of those that serve.
        ready: It serves.
    """

    index: int
    reader: int
    threads: list[int]
    ready: bool


class Vigil[Worker: Ward]:
    """Watches over the workers of one service; everything on the supervisor's thread.

    Args:
        settings: How long a worker may be silent.
        replace: Has a worker replaced.
    """

    def __init__(self, settings: Settings, replace: Callable[[Worker], None]) -> None:
        #: The `_atoll.Service`; None: nobody is watched.
        self.service: Any = None
        self._pulse = Pulse(settings)
        self._replace = replace
        # The first cut may find that it still began something; so there is a second.
        self._end_s = max(settings.timeout_drain or END_S, 2 * INTERRUPT_S + 0.5)
        # Workers whose stack was asked for: until when, and how long they were silent.
        self._asked: dict[int, tuple[Worker, float, float]] = {}
        self._stuck: set[int] = set()
        # Given up: which threads, when they were interrupted last, when they are left.
        self._given_up: list[tuple[Worker, set[int], float, float]] = []
        #: Workers that nobody waits for any more.
        self.left: list[Worker] = []

    def next_look(self) -> float | None:
        """When to look again (`time.monotonic()`); None: never."""
        if self.service is None:
            return None
        moments = [until for _, until, _ in self._asked.values()]
        moments += [entry[2] + INTERRUPT_S for entry in self._given_up]
        if (moment := self._pulse.next_look()) is not None:
            moments.append(moment)
        return min(moments, default=None)

    def look(self, workers: Sequence[Worker]) -> None:
        """Ask those that serve for a sign of life, and see to what is due."""
        if self.service is None:
            return
        now = time.monotonic()
        if (moment := self._pulse.next_look()) is not None and moment <= now:
            silences = self.service.probe()
            silent = {thread for thread, silent_s in silences if silent_s}
            self._stuck &= silent
            by_thread = {t: w for w in workers if w.ready for t in w.threads}
            for order in self._pulse.look(now, silences):
                if (worker := by_thread.get(order.thread)) is not None:
                    self._carry_out(order, worker, now)
        for thread, (worker, until, silent_s) in list(self._asked.items()):
            if until <= now:
                del self._asked[thread]
                self._tell_from_outside(worker, thread, silent_s)
        self._see_to_given_up(now)

    def _carry_out(self, order: Order, worker: Worker, now: float) -> None:
        if order.what == "stack":
            self._asked[order.thread] = worker, now + ANSWER_S, order.silent_s
            ask(worker, "stack", order.thread)
        elif order.what == "interrupt":
            ask(worker, "interrupt", order.thread)
        else:
            self._stuck.add(order.thread)
            self._replace(worker)

    def answered(self, thread: int, text: str) -> None:
        """A worker's witness has told where a thread is."""
        if thread in self._asked:
            worker, _, silent_s = self._asked.pop(thread)
            self._warn(worker, silent_s, "", text)

    def _tell_from_outside(self, worker: Worker, thread: int, silent_s: float) -> None:
        text = inquest.take_stack(
            lambda number: bool(self.service.signal_thread(thread, number))
        )
        self._warn(worker, silent_s, "; C code keeps its GIL", text)

    def _warn(self, worker: Worker, silent_s: float, more: str, text: str) -> None:
        logger.warning(
            "worker %d has given no sign of life for %.1f s%s%s",
            worker.index,
            silent_s,
            more,
            f":\n{text.rstrip()}" if text else "",
        )

    def is_stuck(self, worker: Worker) -> bool:
        """Is it replaced because it is stuck, and still is?"""
        return not self._stuck.isdisjoint(worker.threads)

    def give_up(self, worker: Worker) -> None:
        """Its successor serves: threads that are stuck lose all, the others drain."""
        threads = self._stuck.intersection(worker.threads) or set(worker.threads)
        for thread in threads:
            if (asked := self._asked.pop(thread, None)) is not None:
                self._tell_from_outside(worker, thread, asked[2])
        counts = []
        for thread in threads:
            with contextlib.suppress(ValueError):  # it came back, and has ended since
                counts.append(self.service.give_up(thread, RETRY_AFTER_S))
        for thread in worker.threads:
            if thread not in threads:
                self.service.drain_thread(thread)
        logger.warning(
            "worker %d was stuck: %d of its connections went to others, "
            "%d requests were answered 503",
            worker.index,
            sum(moved for moved, _ in counts),
            sum(answered for _, answered in counts),
        )
        self._stuck -= threads
        now = time.monotonic()
        self._given_up.append((worker, threads, now, now + self._end_s))
        self._interrupt(worker, threads)

    @staticmethod
    def _interrupt(worker: Worker, threads: set[int]) -> None:
        for thread in threads:
            ask(worker, "interrupt", thread)

    def _cut(self, worker: Worker, threads: set[int]) -> None:
        """End what they had in hand when given up, if they do not come back."""
        counts = [self.service.cut(t, RETRY_AFTER_S) for t in threads]
        answered = sum(answered for answered, _ in counts)
        cut = sum(cut for _, cut in counts)
        if answered or cut:
            logger.warning(
                "worker %d is still stuck: %d more requests were answered 503, "
                "%d connections were cut",
                worker.index,
                answered,
                cut,
            )

    def _see_to_given_up(self, now: float) -> None:
        still = []
        for worker, threads, interrupted, until in self._given_up:
            if until <= now:
                self._cut(worker, threads)
                self._leave(worker)
            elif interrupted + INTERRUPT_S <= now:
                self._cut(worker, threads)
                self._interrupt(worker, threads)
                still.append((worker, threads, now, until))
            else:
                still.append((worker, threads, interrupted, until))
        self._given_up = still

    def _leave(self, worker: Worker) -> None:
        if worker not in self.left:  # another of its threads may have been the reason
            logger.error(
                "worker %d does not end: its interpreter is left as it is",
                worker.index,
            )
            self.left.append(worker)

    def ended(self, worker: Worker) -> None:
        """It has ended after all."""
        for thread in worker.threads:
            self._asked.pop(thread, None)
        self._stuck.difference_update(worker.threads)
        self._given_up = [entry for entry in self._given_up if entry[0] is not worker]
        if worker in self.left:
            self.left.remove(worker)
            logger.info("worker %d, which was left, has ended", worker.index)


def ask(worker: Ward, what: str, thread: int) -> None:
    """Send a question to its witness; nobody may be there to hear it."""
    line = json.dumps({"ask": what, "thread": thread}).encode() + b"\n"
    try:
        os.write(worker.reader, line)
    except OSError:
        logger.debug("worker %d hears nothing", worker.index)
