"""`atoll.Server`: the server in a program's own code, and in its tests."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Self

from atoll._errors import AtollError
from atoll._server.checking import check_names
from atoll._server.plan import make_plan
from atoll._server.settings import Settings
from atoll._server.stats import ServerStats
from atoll._server.supervisor import Supervisor

__all__ = ["Server"]


class Server:
    """Serves an ASGI or WSGI application from this process.

    HTTP/1.1 (RFC 9112), HTTP/2 (RFC 9113) and WebSocket (RFC 6455, RFC 8441), for
    ASGI 3 or WSGI (PEP 3333).

    Args:
        app: "module:attribute", which each worker imports for itself; or the
            application itself, which is then served by threads of this interpreter.
        **settings: Fields of the command's options by the names of `atoll serve
            --help`, with underscores: `host`, `port` (0: any that is free), `workers`,
            `loop`, `timeout_drain` and so on.

    Raises:
        TypeError: A setting that does not exist, or one of another type.
        ValueError: A setting that is out of bounds, or settings that contradict each
            other: an application that is not named runs in this interpreter only.

    As a context manager it serves inside the block:

        with atoll.Server("main:app", port=0, workers=2) as server:
            print(server.url)
    """

    def __init__(self, app: str | Callable[..., Any], **settings: Any) -> None:
        name = app if isinstance(app, str) else getattr(app, "__name__", repr(app))
        check_names(settings, {f.name for f in dataclasses.fields(Settings)} - {"app"})
        self.settings = Settings(app=name, **settings)
        self._app = None if isinstance(app, str) else app
        make_plan(self.settings, self._app is not None)
        self._supervisor: Supervisor | None = None
        self._thread: threading.Thread | None = None
        self._known = threading.Event()
        self._to_stop = threading.Lock()  # taken by the one who asks it to
        self._addresses: list[tuple[str, int]] = []
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; only on the main thread.

        Returns:
            0 after an orderly stop, 1 where the application did not start; the log says
            why.
        """
        return self._make().run()

    def start(self) -> Self:
        """Serve in the background; returns when the first worker answers.

        Raises:
            RuntimeError: It is running, or has `preload`, which needs `run()`.
            AtollError: The application did not start; the log has its traceback.
        """
        if self._thread is not None:
            raise RuntimeError("the server is running")
        if self.settings.preload:
            raise RuntimeError(
                "preload needs run(): its workers are orphans that the process adopts"
                " (PR_SET_CHILD_SUBREAPER), and so it would every orphan of a program;"
                " model='processes' without preload can be started"
            )
        supervisor = self._make()
        self._known.clear()
        self._to_stop = threading.Lock()
        self._thread = threading.Thread(
            target=self._serve, args=(supervisor,), name="atoll-server", daemon=True
        )
        self._thread.start()
        self._known.wait()
        if self._exit_code is not None:
            self._thread.join()
            self._thread = None
            raise AtollError(
                supervisor.failure or f"{self.settings.app} does not start"
            )
        return self

    def stop(self) -> None:
        """Let running requests finish, and end; returns when it has.

        From any thread, also from several at once. Where it is not running, nothing
        happens.
        """
        thread, supervisor = self._thread, self._supervisor
        if thread is not None and supervisor is not None:
            if self._to_stop.acquire(blocking=False):  # being asked twice is urgent
                supervisor.stop()
            thread.join()
            if self._thread is thread:
                self._thread = None

    def reload(self) -> None:
        """Put new workers, which import the application anew, in place of the old.

        Returns at once; from any thread. Each old worker ends when its successor
        serves; connections move over. Where the application does not start any more
        the old workers go on, and the log says why.

        Raises:
            RuntimeError: The server is not running, or was given the application
                itself, which is what it is.
        """
        if self._app is not None:
            raise RuntimeError("only an application that is named can be reloaded")
        if self._supervisor is None or not self._addresses:
            raise RuntimeError("the server is not running")
        self._supervisor.reload()

    def stats(self) -> ServerStats:
        """What the server and each of its workers have done; from any thread.

        The numbers are read from counters in C: no worker is asked, so it comes at once
        also while all of them are busy.

        Raises:
            RuntimeError: The server is not running.
        """
        stats = self._supervisor.stats() if self._supervisor is not None else None
        if stats is None:
            raise RuntimeError("the server is not running")
        return stats

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens: host and port of each socket."""
        return list(self._addresses)

    @property
    def url(self) -> str:
        """The root of the first address."""
        if not self._addresses:
            raise RuntimeError("the server is not running")
        host, port = self._addresses[0]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _make(self) -> Supervisor:
        self._exit_code = None
        self._supervisor = Supervisor(
            self.settings,
            app=self._app,
            on_ready=self._ready,
        )
        return self._supervisor

    def _serve(self, supervisor: Supervisor) -> None:
        code = 1
        try:
            code = supervisor.run(signals=False)
        finally:
            self._exit_code = code
            self._addresses = []
            self._known.set()

    def _ready(self, addresses: list[tuple[str, int]]) -> None:
        self._addresses = addresses
        self._known.set()
