"""A worker of several threads: the free-threaded build's loops in one interpreter.

They start one after the other, so that an application that does not start says so once
and its own start-up code does not meet itself. One that ends by itself is replaced, ever
later while it keeps ending; the others go on. When the worker is to end, those that
serve have their time, which is not the crew's affair; one that only starts has little,
since its start may never come to an end.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

logger = logging.getLogger("atoll.server")

#: Serves on the calling thread; calls its argument once it serves. Why it did not
#: start, or None.
Serve = Callable[[Callable[[], None]], str | None]

#: What is heard of a member; None: the worker is to end.
Event = tuple[Literal["ready", "ended"], "_Member"] | None

#: Seconds before a thread that ended by itself is replaced: the first time, and at most.
REPLACE_FIRST_S = 0.5
REPLACE_MOST_S = 30.0
#: One that lived this long is replaced without a penalty.
FORGIVEN_S = 60.0
#: Seconds for those that still start, once the worker is to end.
START_MOST_S = 3.0


class _Member:
    """One thread, from its start to its end."""

    def __init__(
        self,
        index: int,
        serve: Serve,
        events: "queue.SimpleQueue[Event]",
        delay: float,
    ) -> None:
        self.index = index
        self.serve = serve
        self.native_id = 0
        self.ready = False
        self.ended = False
        self.failed = False  # it ended by an exception
        self.failure: str | None = None
        self.delay = delay  # until it is replaced, if it ends by itself
        self.started_at = time.monotonic()
        self._events = events
        self._settled = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"atoll-loop-{index}", daemon=True
        )

    def start(self) -> None:
        """Start it. RuntimeError: the system refuses a thread."""
        self._thread.start()

    def serves(self) -> bool:
        """Wait until it serves, True, or does not start."""
        self._settled.wait()
        return self.ready

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def successor(self) -> "_Member":
        """Another for its place."""
        delay = min(2 * self.delay, REPLACE_MOST_S)
        return _Member(self.index, self.serve, self._events, delay)

    def _run(self) -> None:
        try:
            self.failure = self.serve(self._is_ready)
        except BaseException:
            self.failed = True
            logger.exception("a thread of the worker failed")
        finally:
            if time.monotonic() - self.started_at > FORGIVEN_S:
                self.delay = REPLACE_FIRST_S
            self.ended = True
            self._events.put(("ended", self))
            self._settled.set()

    def _is_ready(self) -> None:
        self.native_id = threading.get_native_id()
        self.ready = True
        self._events.put(("ready", self))
        self._settled.set()


class _Crew:
    """The members of one worker; everything on the worker's thread."""

    def __init__(self, report: Callable[..., None]) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._report = report
        self._members: list[_Member] = []
        self._successors: set[_Member] = set()  # those that start
        self._due: dict[int, float] = {}  # when the next shall start, by its place

    def _threads(self) -> list[int]:
        """Native ids of those that serve, or have."""
        return [member.native_id for member in self._members if member.ready]

    def start(self, serves: Sequence[Serve]) -> bool:
        """Start one after the other; False: one did not."""
        for index, one in enumerate(serves):
            member = _Member(index, one, self.events, REPLACE_FIRST_S)
            member.start()
            self._members.append(member)
            if not member.serves():
                self._tell_failure(member)
                return False
        return True

    def keep(self) -> None:
        """Put others in the places of those that end by themselves.

        Until the worker is to end, or one does not start. None says the first, for
        there may be no thread that could; so does one that ended as it was asked to.
        """
        self._report(event="ready", threads=self._threads())
        while True:
            soonest = min(self._due, key=self._due.__getitem__, default=-1)
            wait = None
            if self._due:
                wait = max(0.0, self._due[soonest] - time.monotonic())
            try:
                event = self.events.get(timeout=wait)
            except queue.Empty:
                del self._due[soonest]
                self._start_another(soonest)
                continue
            if event is None or not self._go_on(*event):
                return

    def _go_on(self, what: Literal["ready", "ended"], member: _Member) -> bool:
        """See to what was heard; False: the worker ends by it."""
        is_new = member in self._successors
        self._successors.discard(member)
        if what == "ready":
            if is_new:
                self._report(event="replaced", threads=self._threads())
            return True
        if is_new:
            self._tell_failure(member)
            return False
        if member.failed:
            self._due[member.index] = time.monotonic() + member.delay
            logger.error(
                "thread %d of the worker ended; another starts in %g s",
                member.index,
                member.delay,
            )
        return member.failed

    def _start_another(self, index: int) -> None:
        successor = self._members[index].successor()
        try:
            successor.start()
        except RuntimeError as error:
            self._due[index] = time.monotonic() + successor.delay
            logger.error("thread %d of the worker cannot be started: %s", index, error)
            return
        self._members[index] = successor
        self._successors.add(successor)

    def _tell_failure(self, member: _Member) -> None:
        text = member.failure or "one of its threads ended"
        self._report(event="failed", text=text)

    def end(self) -> None:
        """Wait for those that serve, and not for long for those that start.

        Those are told of, and then waited for as long as they take: an interpreter in
        which a thread runs cannot be ended.
        """
        # Those who were asked to end already do not mind.
        self._report(event="lost", threads=self._threads())
        until = time.monotonic() + START_MOST_S
        told = False
        while living := [member for member in self._members if not member.ended]:
            wait = None
            if not told and not any(member.ready for member in living):
                wait = max(0.0, until - time.monotonic())
            try:
                event = self.events.get(timeout=wait)
            except queue.Empty:
                told = True
                self._report(event="late")
                continue
            if event is not None and event[0] == "ready":  # it has not heard of it
                self._report(event="lost", threads=self._threads())
        for member in self._members:
            member.join()


def serve(
    serves: Sequence[Serve],
    report: Callable[..., None],
    settle: Callable[[], None],
    when_asked: Callable[[Callable[[], None]], None],
) -> None:
    """Run each on a thread of its own until all have ended.

    Args:
        serves: What the threads do.
        report: To the supervisor; see `worker.run`. Where one thread does not start,
            at first or in place of another, the others are asked to end as well.
        settle: Called when all have started.
        when_asked: Is told whom to call, on any thread, when the worker is to end.
    """
    crew = _Crew(report)
    when_asked(lambda: crew.events.put(None))
    if crew.start(serves):
        settle()
        crew.keep()
    crew.end()
