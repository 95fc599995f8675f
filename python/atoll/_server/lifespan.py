"""ASGI's lifespan protocol: an application's own start and end.

See https://asgi.readthedocs.io/en/latest/specs/lifespan.html.
"""

import asyncio
import logging
from collections.abc import Callable
from types import FrameType
from typing import Any

from atoll._server import suspended

logger = logging.getLogger("atoll.server")


class StartupFailedError(Exception):
    """The application said, or showed, that it cannot start.

    Attributes:
        cause: The exception that its lifespan coroutine raised, or None.
    """

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause


def strip(error: BaseException) -> BaseException:
    """The exception without this module's own frame at the top."""
    frames = error.__traceback__
    if frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return error.with_traceback(frames)


class Lifespan:
    """One application's lifespan, in a task of its own.

    Args:
        app: The ASGI application.
        mode: "on": it must speak the protocol; "off": it is not asked; "auto": one
            that raises before it answers is taken to speak none, as the specification
            has it. The log has the exception of one that had asked for the first
            event: it may have meant to start.
    """

    def __init__(self, app: Callable[..., Any], mode: str) -> None:
        self.app = app
        self.mode = mode
        #: What the application stored for its requests; None where it has no lifespan.
        self.state: dict[str, Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: str | None = None
        self._asked = self._answered = self._ending = False
        self._error: BaseException | None = None

    async def startup(self) -> None:
        """Let the application start.

        Raises:
            StartupFailedError: It did not.
        """
        if self.mode == "off":
            return
        state: dict[str, Any] = {}
        self._task = asyncio.create_task(self._run(state), name="lifespan")
        self._events.put_nowait({"type": "lifespan.startup"})
        await self._started.wait()
        if self._failure is not None:
            raise StartupFailedError(self._failure, self._error)
        if not self._answered:
            if self.mode == "on":
                raise StartupFailedError("the application has no lifespan", self._error)
            self._tell_why()
            self._task = None
            return
        self.state = state

    def frames(self) -> list[FrameType]:
        """Where the application's lifespan is, outermost first; on the loop's thread."""
        return [] if self._task is None else suspended.frames_of(self._task.get_coro())

    def _tell_why(self) -> None:
        if self._asked and self._error is not None:
            logger.warning(
                "the application raised in its lifespan's startup and is served"
                " without a lifespan: --lifespan on makes that an error, --lifespan off"
                " does not ask",
                exc_info=strip(self._error),
            )
        else:
            logger.debug("the application has no lifespan: %r", self._error)

    async def shutdown(self) -> bool:
        """Let the application end; True unless it failed to."""
        if self._task is None or self._task.done():
            return True
        self._ending = True
        self._events.put_nowait({"type": "lifespan.shutdown"})
        await self._stopped.wait()
        if self._failure is not None:
            logger.error("the application's shutdown failed: %s", self._failure)
        elif self._error is not None:
            logger.error("the application's shutdown failed", exc_info=self._error)
        return self._failure is None and self._error is None

    async def _run(self, state: dict[str, Any]) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": state,
        }
        try:
            await self.app(scope, self._receive, self._send)
        except BaseException as error:
            self._error = error
            if self._answered and not self._ending:
                logger.error(
                    "the application's lifespan ended early", exc_info=strip(error)
                )
            if not isinstance(error, Exception):
                raise
        finally:
            self._started.set()
            self._stopped.set()

    async def _receive(self) -> dict[str, str]:
        self._asked = True
        return await self._events.get()

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._answered = True
            self._started.set()
        elif kind == "lifespan.startup.failed":
            self._failure = message.get("message") or "no reason given"
            self._started.set()
        elif kind == "lifespan.shutdown.complete":
            self._stopped.set()
        elif kind == "lifespan.shutdown.failed":
            self._failure = message.get("message") or "no reason given"
            self._stopped.set()
        else:
            raise RuntimeError(f"not a lifespan message: {kind!r}")
