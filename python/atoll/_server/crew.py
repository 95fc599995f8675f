"""A worker of several threads: the free-threaded build's loops in one interpreter.

They start one after the other, so that an application that does not start says so once
and its own start-up code does not meet itself.
"""

import logging
import threading
from collections.abc import Callable, Sequence

logger = logging.getLogger("atoll.server")

#: Serves on the calling thread; calls its argument once it serves. Why it did not
#: start, or None.
Serve = Callable[[Callable[[], None]], str | None]


class _Member:
    """One thread, from its start to where it serves or has failed."""

    def __init__(self, index: int, serve: Serve, any_ended: threading.Event) -> None:
        self.serve = serve
        self.any_ended = any_ended
        self.native_id = 0
        self.ready = False
        self.failure: str | None = None
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

    def _run(self) -> None:
        try:
            self.failure = self.serve(self._is_ready)
        except BaseException:
            logger.exception("a thread of the worker failed")
        finally:
            self.any_ended.set()
            self._settled.set()

    def _is_ready(self) -> None:
        self.native_id = threading.get_native_id()
        self.ready = True
        self._settled.set()


def serve(
    serves: Sequence[Serve], report: Callable[..., None], settle: Callable[[], None]
) -> None:
    """Run each on a thread of its own until all have ended.

    Args:
        serves: What the threads do.
        report: To the supervisor; see `worker.run`. Where one thread does not start,
            or ends by itself, the others are asked to end as well.
        settle: Called when all have started.
    """
    any_ended = threading.Event()
    members = [_Member(i, one, any_ended) for i, one in enumerate(serves)]
    started: list[_Member] = []
    for member in members:
        started.append(member)
        if not member.start():
            report(event="failed", text=member.failure or "one of its threads ended")
            break
    else:
        settle()
        report(event="ready", threads=[member.native_id for member in members])
        any_ended.wait()
    # Those who were asked to end already do not mind.
    report(event="lost", threads=[member.native_id for member in started])
    for member in started:
        member.join()
