"""Requests that wait for too long, on an event loop: `--request-timeout`."""

import asyncio
import linecache
import logging
from typing import Any

logger = logging.getLogger("atoll.server")

#: Seconds between two looks, at least, however many requests come to their end.
LOOK_LEAST_S = 0.02


class Timeouts:
    """Cancels the tasks of requests that have no response after some time.

    Args:
        worker: The `_atoll.Worker`.
        loop: Its loop; everything here happens on its thread.
        seconds: The time.
    """

    def __init__(
        self, worker: Any, loop: asyncio.AbstractEventLoop, seconds: float
    ) -> None:
        self._worker = worker
        self._loop = loop
        self._seconds = seconds
        self._timer = loop.call_later(seconds, self._look)

    def close(self) -> None:
        """Let requests run from now on."""
        self._timer.cancel()

    def _look(self) -> None:
        late, left = self._worker.overdue(self._seconds)
        for task, scope in late:
            logger.error(
                "%s %s: no response after %g s, cancelled; it waits at:\n%s",
                scope.get("method", "-"),
                scope["path"],
                self._seconds,
                where(task),
            )
            task.cancel(f"no response after {self._seconds:g} s")
        self._timer = self._loop.call_later(max(left, LOOK_LEAST_S), self._look)


def where(task: "asyncio.Task[Any]") -> str:
    """Where the task waits: a line for each coroutine that awaits the next."""
    lines = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        code = getattr(awaited, "cr_code", None) or getattr(awaited, "gi_code", None)
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if code is None or frame is None:
            break
        lines.append(
            f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}'
        )
        if source := linecache.getline(code.co_filename, frame.f_lineno).strip():
            lines.append(f"    {source}")
        awaited = getattr(awaited, "cr_await", None) or getattr(
            awaited, "gi_yieldfrom", None
        )
    return "\n".join(lines)
