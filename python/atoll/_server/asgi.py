"""A worker's ASGI side: an event loop on one thread that serves the application.

Nothing imports it before there is an ASGI application: a worker of WSGI has no use for
asyncio and its four megabytes.
"""

import asyncio
import importlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from types import FrameType
from typing import Any

from atoll import _atoll
from atoll._errors import ClientDisconnectedError, RequestTimeout
from atoll._server.lifespan import Lifespan, StartupFailedError
from atoll._server.loading import app_traceback, as_asgi3
from atoll._server.settings import Settings
from atoll._server.timeouts import Timeouts
from atoll._server.witness import Witness, interrupt_stuck

logger = logging.getLogger("atoll.server")

#: More than uvloop takes as it makes a loop: a pipe for signals, what it polls with,
#: what wakes it.
_DESCRIPTORS_OF_A_LOOP = 16


def serve(
    settings: Settings,
    service: int,
    index: int,
    app: Callable[..., Any],
    ready: Callable[[], None],
    witness: Witness,
) -> str | None:
    """Serve `app` on this thread until the service drains.

    Args:
        settings: How.
        service: Number of the `_atoll.Service`.
        index: Number of this thread, from 0.
        app: The ASGI application, of any version.
        ready: Called when it serves.
        witness: Is told of the thread.

    Returns:
        Why the application does not start, or None.
    """
    try:
        app = as_asgi3(app)
        loop = new_loop(settings.loop)
    except BaseException as error:
        return app_traceback(error)
    try:
        asyncio.set_event_loop(loop)
        return _run_loop(
            loop, _serve(settings, service, index, app, loop, witness, ready)
        )
    finally:
        _close_loop(loop)


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """An event loop of that kind: "asyncio", "uvloop", or "auto"."""
    if name != "asyncio":
        try:
            uvloop = importlib.import_module("uvloop")
        except ImportError:
            if name == "uvloop":
                raise
        else:
            _see_that_there_are_descriptors()
            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
    return asyncio.new_event_loop()


def _see_that_there_are_descriptors() -> None:
    """libuv aborts the process, and all its workers, where a loop gets none.

    Raises:
        OSError: They are all taken.
    """
    taken: list[int] = []
    try:
        for _ in range(_DESCRIPTORS_OF_A_LOOP):
            taken.append(os.eventfd(0, os.EFD_CLOEXEC))
    finally:
        for descriptor in taken:
            os.close(descriptor)


def _run_loop(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, str | None]
) -> str | None:
    """`loop.run_until_complete()`, which a late interrupt does not end."""
    task = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(task)
        except RequestTimeout:
            # Meant for a callback that had just come to its end (see timeout.c).
            if task.done():
                raise


async def _serve(
    settings: Settings,
    service: int,
    index: int,
    app: Callable[..., Any],
    loop: asyncio.AbstractEventLoop,
    witness: Witness,
    ready: Callable[[], None],
) -> str | None:
    lifespan = Lifespan(app, settings.lifespan)

    def where(tell: Callable[[Iterable[FrameType]], None]) -> None:
        loop.call_soon_threadsafe(lambda: tell(lifespan.frames()))

    try:
        with witness.starting(where):
            await lifespan.startup()
    except StartupFailedError as error:
        if error.cause is not None:
            return app_traceback(error.cause)
        return f"the application's startup failed: {error}"
    stop, drained = asyncio.Event(), asyncio.Event()
    worker = _atoll.Worker(
        service=service,
        app=app,
        loop=loop,
        state=lifespan.state,
        root_path=settings.root_path,
        on_error=log_failure,
        on_drain=stop.set,
        on_drained=drained.set,
        on_debug=log_debug if settings.log_level == "debug" else None,
        gone_class=ClientDisconnectedError,
        index=index,
    )
    witness.enter(partial(interrupt_stuck, worker, threading.get_ident()))
    timeouts = None
    if settings.request_timeout:
        timeouts = Timeouts(worker, loop, settings.request_timeout)
    loop.add_reader(worker.fileno(), worker.run)
    ready()
    try:
        await stop.wait()
        worker.drain()
        await _drain(worker, drained, settings.timeout_drain)
    finally:
        witness.leave()
        if timeouts is not None:
            timeouts.close()
        loop.remove_reader(worker.fileno())
        worker.close()
        await lifespan.shutdown()
    return None


async def _drain(worker: Any, drained: asyncio.Event, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout or None):
            await drained.wait()
            while worker.running:  # what runs on behind a complete response
                await asyncio.sleep(0.01)
    except TimeoutError:
        logger.warning("requests still run after %g s: cancelled", timeout)
        worker.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def _close_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=5))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_default_executor(), 5))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def log_debug(scope: dict[str, Any], info: dict[str, Any]) -> None:
    """Log what the application tells with http.response.debug; called by the C side."""
    logger.debug("%s %s: debug: %r", scope["method"], scope["path"], info)


def log_failure(
    scope: dict[str, Any] | None, error: BaseException | None, text: str
) -> None:
    """Log what went wrong in a request; called by the C side.

    Args:
        scope: The request's, or None where there is none.
        error: What the application raised, or None.
        text: What is wrong, or where.
    """
    what = text
    if scope:
        what = f"{scope.get('method', 'WebSocket')} {scope['path']}: {text}"
    if error is None:
        logger.error("%s", what)
    elif _is_disconnect(error):
        logger.debug("%s: the client went away", what)
    else:
        logger.error("%s", what, exc_info=error)


def _is_disconnect(error: BaseException | None) -> bool:
    """True where `error` comes from sending to a client that had gone."""
    seen = 0
    while error is not None and seen < 32:
        if isinstance(error, ClientDisconnectedError):
            return True
        error = error.__cause__ or error.__context__
        seen += 1
    return False
