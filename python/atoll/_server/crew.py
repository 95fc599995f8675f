"""A worker of several threads: the free-threaded build's loops in one interpreter.

They start one after the other, so that an application that does not start says so once
and its own start-up code does not meet itself. One that ends by itself is replaced, ever
later while it keeps ending; the others go on.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

logger = logging.getLogger("atoll.server")

#: Serves on the calling thread; calls its argument once it serves. Why it did not
#: start, or None.
Serve = Callable[[Callable[[], None]], str | None]

#: Seconds before a thread that ended by itself is replaced: the first time, and at most.
REPLACE_FIRST_S = 0.5
REPLACE_MOST_S = 30.0
#: One that lived this long is replaced without a penalty.
FORGIVEN_S = 60.0


class _Member:
    """One thread, from its start to where it serves or has failed."""

    def __init__(
        self,
        index: int,
        serve: Serve,
        ended: "queue.SimpleQueue[_Member | None]",
        delay: float,
    ) -> None:
        self.index = index
        self.serve = serve
        self.native_id = 0
        self.ready = False
        self.failed = False  # it ended by an exception
        self.failure: str | None = None
        self.delay = delay  # until it is replaced, if it ends by itself
        self.started_at = time.monotonic()
        self._ended = ended
        self._settled = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"atoll-loop-{index}", daemon=True
        )

    def start(self) -> bool:
        """Start it; True once it serves, False where it does not."""
        self._thread.start()
        self._settled.wait()
        return self.ready

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def successor(self) -> "_Member":
        """Another for its place."""
        delay = min(2 * self.delay, REPLACE_MOST_S)
        return _Member(self.index, self.serve, self._ended, delay)

    def _run(self) -> None:
        try:
            self.failure = self.serve(self._is_ready)
        except BaseException:
            self.failed = True
            logger.exception("a thread of the worker failed")
        finally:
            if time.monotonic() - self.started_at > FORGIVEN_S:
                self.delay = REPLACE_FIRST_S
            self._ended.put(self)
            self._settled.set()

    def _is_ready(self) -> None:
        self.native_id = threading.get_native_id()
        self.ready = True
        self._settled.set()


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
    ended: queue.SimpleQueue[_Member | None] = queue.SimpleQueue()
    when_asked(lambda: ended.put(None))
    members = [_Member(i, one, ended, REPLACE_FIRST_S) for i, one in enumerate(serves)]
    started: list[_Member] = []
    for member in members:
        started.append(member)
        if not member.start():
            _tell_failure(member, report)
            break
    else:
        settle()
        report(event="ready", threads=[member.native_id for member in members])
        _replace(members, ended, report)
        started = members
    # Those who were asked to end already do not mind.
    report(event="lost", threads=[member.native_id for member in started])
    for member in started:
        member.join()


def _replace(
    members: list[_Member],
    ended: "queue.SimpleQueue[_Member | None]",
    report: Callable[..., None],
) -> None:
    """Put others in the places of those that end by themselves.

    Until the worker is to end, or one does not start. None in `ended` says the first,
    for there may be no thread that could; so does one that ended as it was asked to.
    """
    due: dict[int, float] = {}
    while True:
        soonest = min(due, key=due.__getitem__, default=-1)
        wait = max(0.0, due[soonest] - time.monotonic()) if due else None
        try:
            member = ended.get(timeout=wait)
        except queue.Empty:
            del due[soonest]
            members[soonest] = successor = members[soonest].successor()
            if not successor.start():
                _tell_failure(successor, report)
                return
            report(event="replaced", threads=[one.native_id for one in members])
            continue
        if member is None or not member.failed:
            return
        due[member.index] = time.monotonic() + member.delay
        logger.error(
            "thread %d of the worker ended; another starts in %g s",
            member.index,
            member.delay,
        )


def _tell_failure(member: _Member, report: Callable[..., None]) -> None:
    report(event="failed", text=member.failure or "one of its threads ended")
