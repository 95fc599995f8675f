"""One worker: loads the application and serves it on this interpreter's event loop."""

import asyncio
import importlib
import json
import logging
import os
import threading
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from atoll import _atoll
from atoll._errors import ClientDisconnectedError, RequestTimeout
from atoll._server import crew, heap, logs, wsgi
from atoll._server.interface import find_interface
from atoll._server.lifespan import Lifespan, StartupFailedError
from atoll._server.loading import AppError, as_asgi3, load_app, load_copies
from atoll._server.settings import Settings
from atoll._server.timeouts import Timeouts
from atoll._server.witness import Witness, interrupt_stuck

logger = logging.getLogger("atoll.server")


def run(
    settings_fields: dict[str, Any],
    service: int,
    index: int,
    name: str,
    report_fd: int,
    loops: int = 1,
    app: Callable[..., Any] | None = None,
) -> None:
    """Serve until the service drains; called on the worker's own thread.

    Args:
        settings_fields: `Settings.to_dict()`.
        service: Number of the `_atoll.Service`.
        index: Number of its first thread that serves, from 0.
        name: Of this worker, for the log.
        report_fd: Socket to the supervisor, for its questions (`witness`) and for
            reports, JSON lines: {"event": "ready", "threads": the native ids of those
            that serve}, {"event": "failed", "text": why, with a traceback where there
            is one}, or {"event": "lost"} where one of several threads has ended by
            itself.
        loops: Event loops, each on a thread; or the same of WSGI.
        app: The application; None to import it.
    """
    settings = Settings(**settings_fields)
    logs.set_up(settings.log_level, name)
    report = _Reporter(report_fd)
    witness = Witness(report_fd, report)
    of_heap = heap.settled_once_ready if app is None else heap.left_alone
    try:
        with of_heap() as settle:
            _run(settings, service, index, loops, app, report, witness, settle)
    finally:
        witness.close()


def _run(
    settings: Settings,
    service: int,
    index: int,
    loops: int,
    app: Callable[..., Any] | None,
    report: "_Reporter",
    witness: Witness,
    settle: Callable[[], None],
) -> None:
    try:
        if app is not None:
            apps = [app] * loops
        elif settings.app_per_thread and loops > 1:
            apps = load_copies(settings.app, settings.app_dir, settings.factory, loops)
        else:
            app = load_app(settings.app, settings.app_dir, settings.factory)
            apps = [app] * loops
    except AppError as error:
        report(event="failed", text=str(error))
    except BaseException as error:
        report(event="failed", text=app_traceback(error))
    else:
        if loops == 1:
            _serve_alone(settings, service, index, apps[0], report, witness, settle)
        else:
            serves = [
                partial(_serve_on_thread, settings, service, index + i, one, witness)
                for i, one in enumerate(apps)
            ]
            crew.serve(serves, report, settle)


def _serve_alone(
    settings: Settings,
    service: int,
    index: int,
    app: Callable[..., Any],
    report: "_Reporter",
    witness: Witness,
    settle: Callable[[], None],
) -> None:
    def ready() -> None:
        settle()
        report(event="ready", threads=[threading.get_native_id()])

    failure = _serve_on_thread(settings, service, index, app, witness, ready)
    if failure is not None:
        report(event="failed", text=failure)


def _serve_on_thread(
    settings: Settings,
    service: int,
    index: int,
    app: Callable[..., Any],
    witness: Witness,
    ready: Callable[[], None],
) -> str | None:
    """Serve on this thread; `ready` is called once. Why it does not start, or None."""
    try:
        interface = settings.interface
        if interface == "auto":
            interface = find_interface(app)
        if interface == "wsgi":
            wsgi.serve(settings, service, index, app, ready, witness)
            return None
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
            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
    return asyncio.new_event_loop()


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
    try:
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


def app_traceback(error: BaseException) -> str:
    """The traceback without the server's and the importer's own frames."""
    frames = error.__traceback__
    while frames is not None and _is_own(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    if frames is None and not isinstance(error, SyntaxError):
        frames = error.__traceback__
    # None where the module itself is no Python: the error says where.
    return "".join(traceback.format_exception(error.with_traceback(frames))).rstrip()


def _is_own(filename: str) -> bool:
    own = str(Path(__file__).parent)
    return filename.startswith((own, "<frozen importlib")) or (
        filename == importlib.__file__
    )


class _Reporter:
    """Writes JSON lines to the supervisor; from any thread."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()

    def __call__(self, **fields: Any) -> None:
        line = json.dumps(fields).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self.descriptor, line) :]
