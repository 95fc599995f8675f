"""One worker: loads the application and serves it, by asgi.py or wsgi.py."""

import json
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from atoll._server import crew, heap, logs
from atoll._server.interface import find_interface
from atoll._server.loading import AppError, app_traceback, load_app, load_copies
from atoll._server.settings import Settings
from atoll._server.witness import Witness


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
            is one}, {"event": "replaced", "threads": all that serve} where one of
            several has ended by itself and another serves in its place,
            {"event": "lost", "threads": those that are to end} where none does, or the
            worker is to end, and {"event": "late"} where all have ended then but one
            that still starts.
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
            crew.serve(serves, report, settle, witness.when_asked)


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
        # Each where it is needed: asyncio is most of what a worker of WSGI would have
        # imported.
        if interface == "wsgi":
            from atoll._server import wsgi

            wsgi.serve(settings, service, index, app, ready, witness)
            return None
        from atoll._server import asgi
    except BaseException as error:
        return app_traceback(error)
    return asgi.serve(settings, service, index, app, ready, witness)


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
