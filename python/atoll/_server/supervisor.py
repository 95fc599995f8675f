"""The main interpreter's side: listen, start the workers, pass on the signals.

The application is never imported here. The first worker loads it; when that has
succeeded the others follow, so an application that cannot start says so once. A worker
that ends without being asked to is replaced, ever more slowly while it keeps ending.
"""

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from atoll import _atoll
from atoll._server import logs, models
from atoll._server.replacing import Lives, Replacing
from atoll._server.settings import Settings
from atoll._server.stats import ServerStats, collect
from atoll._server.watching import Watcher

logger = logging.getLogger("atoll.server")

#: Seconds before a worker that died is replaced: the first time, and at most.
RESTART_FIRST_S, RESTART_MOST_S = 0.5, 30.0
#: A worker that lived this long starts again without a penalty.
RESTART_FORGIVEN_S = 60.0


class _Worker:
    """What the supervisor knows of one worker."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.thread: threading.Thread | None = None
        self.reader = -1
        self.pending = b""
        self.ready = False
        self.drain_when_ready = False
        self.native_id = 0
        self.started_at = 0.0
        self.requests_most = 0
        self.restart_at: float | None = None
        self.delay = RESTART_FIRST_S
        self.failure: str | None = None


class Supervisor:
    """Runs one service: `run()` returns the exit code.

    Args:
        settings: What to serve and how.
        app: The application itself; only with the "thread" model, which runs in this
            interpreter.
        model: "interpreters" or "thread".
        on_ready: Called with the addresses, [(host, port)], when the first worker
            serves.
    """

    def __init__(
        self,
        settings: Settings,
        app: Callable[..., Any] | None = None,
        model: str = "interpreters",
        on_ready: Callable[[list[tuple[str, int]]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.app = app
        self.model = model
        self.on_ready = on_ready
        self.service: Any = None
        #: Why it did not start; None while all is well.
        self.failure: str | None = None
        self.workers = [_Worker(index) for index in range(settings.workers)]
        self._selector = selectors.DefaultSelector()
        self._replacing: Replacing[_Worker] = Replacing()
        self._lives = Lives(settings)
        self._served = False
        self._stopping = False
        self._exit_code = 0
        self._started_at = time.monotonic()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)

    # ---- from other threads ----

    def stop(self) -> None:
        """Ask the server to drain and end; from any thread."""
        with contextlib.suppress(OSError):
            self._wake_write.send(bytes([signal.SIGTERM]))

    def reload(self) -> None:
        """Ask for new workers in place of the old; from any thread."""
        with contextlib.suppress(OSError):
            self._wake_write.send(bytes([signal.SIGHUP]))

    def stats(self) -> ServerStats | None:
        """What the server has done so far; None unless it runs. From any thread."""
        service = self.service
        return None if service is None else collect(service, self._started_at)

    # ---- the main loop ----

    def run(self, signals: bool = True) -> int:
        """Serve until stopped.

        Args:
            signals: Receive SIGINT and SIGTERM; only on the main thread.

        Returns:
            0 after an orderly stop, 1 where the server could not start.
        """
        logs.set_up(self.settings.log_level)
        try:
            self._listen()
        except (OSError, ValueError) as error:
            logger.error("%s", error)
            self.failure = str(error)
            self._close()
            return 1
        with self._signals() if signals else contextlib.nullcontext():
            self._selector.register(self._wake_read, selectors.EVENT_READ, None)
            self._start(self.workers[0])
            with self._watcher():
                while self._alive():
                    self._turn()
        self._close()
        return self._exit_code

    def _listen(self) -> None:
        settings = self.settings
        self.service = _atoll.Service(
            request_line_bytes=settings.limit_request_line,
            head_bytes=settings.limit_head,
            header_count=settings.limit_headers,
            body_bytes=settings.limit_body,
            head_timeout=settings.timeout_head,
            body_timeout=settings.timeout_body,
            idle_timeout=settings.timeout_keep_alive,
            write_timeout=settings.timeout_write,
            handshake_timeout=settings.timeout_handshake,
            forwarded_allow=settings.forwarded_allow_ips,
            proxy_headers=settings.proxy_headers,
            proxy_protocol=settings.proxy_protocol,
            ws_message_bytes=settings.ws_max_size,
            ws_queue=settings.ws_max_queue,
            ws_ping_interval=settings.ws_ping_interval,
            ws_ping_timeout=settings.ws_ping_timeout,
            ws_deflate=settings.ws_per_message_deflate,
        )
        self._set_tls()
        for mount in settings.static:
            prefix, _, folder = mount.partition("=")
            self.service.mount(prefix, folder)
        self._open_sockets()

    def _open_sockets(self) -> None:
        settings = self.settings
        inherited = [settings.fd] if settings.fd >= 0 else self._from_systemd()
        if settings.uds:
            self.service.listen_unix(settings.uds, settings.backlog)
        elif inherited:
            for descriptor in inherited:
                self.service.adopt(descriptor)
        else:
            self.service.listen(settings.host, settings.port, settings.backlog)

    @staticmethod
    def _from_systemd() -> list[int]:
        """The sockets that systemd has opened for this process (sd_listen_fds(3))."""
        count = os.environ.get("LISTEN_FDS", "")
        if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
            return []
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
        return list(range(3, 3 + int(count)))

    def _set_tls(self) -> None:
        """Read the certificates, at the start and again at SIGHUP.

        Raises:
            ValueError: A file cannot be used; what was set before stays.
        """
        settings = self.settings
        if not settings.ssl_certfile:
            if settings.ssl_keyfile:
                raise ValueError("a private key needs its certificate: --ssl-certfile")
            return
        keys: tuple[str | None, ...] = settings.ssl_keyfile
        if not keys:
            keys = (None,) * len(settings.ssl_certfile)
        if len(keys) != len(settings.ssl_certfile):
            raise ValueError("there must be a private key for each certificate")
        self.service.set_tls(
            tuple(zip(settings.ssl_certfile, keys, strict=True)),
            settings.ssl_keyfile_password or None,
            settings.ssl_ca_certs or None,
            settings.ssl_cert_reqs,
            settings.ssl_ciphers or None,
            settings.http2,
        )

    def _reload_certificates(self) -> None:
        try:
            self._set_tls()
        except ValueError as error:
            logger.error("the certificates stay as they were: %s", error)
        else:
            if self.settings.ssl_certfile:
                logger.info("the certificates were read again")

    def _close(self) -> None:
        if self._served and self.settings.uds:
            Path(self.settings.uds).unlink(missing_ok=True)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
        self.service = None

    def _watcher(self) -> contextlib.AbstractContextManager[object]:
        settings = self.settings
        if not settings.reload:
            return contextlib.nullcontext()
        folders = settings.reload_dirs or (settings.app_dir or ".",)
        return Watcher(folders, settings.reload_include, self.reload)

    def _alive(self) -> bool:
        return any(
            w.thread is not None or w.restart_at is not None
            for w in (*self.workers, *self._replacing.others())
        )

    def _turn(self) -> None:
        """Wait for something to happen, and see to it."""
        moments = [w.restart_at for w in self.workers if w.restart_at is not None]
        if (moment := self._lives.next_look(self.workers)) is not None:
            moments.append(moment)
        timeout = max(0.0, min(moments) - time.monotonic()) if moments else None
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._take_signals()
            else:
                self._take_reports(key.data)
        now = time.monotonic()
        for worker in self.workers:
            if worker.restart_at is not None and worker.restart_at <= now:
                self._start(worker)
        if not self._stopping:
            spent = self._lives.spent(self.workers, self.service.stats())
            self._replace(spent, "has had its time", "spent")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The signals arrive as bytes in the wake-up socket meanwhile."""
        before = {
            number: signal.signal(number, lambda *_: None)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        wakeup = signal.set_wakeup_fd(
            self._wake_write.fileno(), warn_on_full_buffer=False
        )
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take_signals(self) -> None:
        for number in self._wake_read.recv(64):
            if number == signal.SIGHUP:
                self._reload_certificates()
                self._reload()
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            if self._stopping:
                logger.warning("stopped at once, with requests running")
                logging.shutdown()
                os._exit(1)
            logger.info("stopping: running requests are being finished")
            self._drain()

    def _drain(self) -> None:
        self._stopping = True
        for worker in self.workers:
            worker.restart_at = None
        self.service.drain()

    # ---- new workers in place of old ones ----

    def _reload(self) -> None:
        if self.app is not None or self.model == "thread":
            logger.warning("this application is not imported by workers: no reload")
        elif self._served and not self._stopping:
            self._replace([w.index for w in self.workers], "reloads", "reload")

    def _replace(self, indexes: list[int], why: str, counted: str) -> None:
        for index in self._replacing.want(indexes):
            logger.info("worker %d %s", index, why)
            self.service.count_restart(counted)
        self._start_successor()

    def _start_successor(self) -> None:
        """One at a time: the next starts when this one serves."""
        index = self._replacing.next()
        if index is not None and not self._stopping:
            self._replacing.successor = _Worker(index)
            self._start(self._replacing.successor)

    def _succeed(self, successor: _Worker) -> None:
        """It serves: its predecessor finishes, and gives its connections away."""
        old = self.workers[successor.index]
        self.workers[successor.index] = successor
        self._replacing.successor = None
        old.restart_at = None
        if old.thread is not None:
            self._replacing.retired.append(old)
            if old.ready:
                self.service.drain_thread(old.native_id)
            else:
                old.drain_when_ready = True
        logger.info("worker %d: a new one serves", successor.index)
        self._start_successor()

    # ---- workers ----

    def _start(self, worker: _Worker) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        worker.reader, worker.pending, worker.ready = reader, b"", False
        worker.started_at, worker.restart_at = time.monotonic(), None
        worker.requests_most = self._lives.requests_most()
        self._selector.register(reader, selectors.EVENT_READ, worker)
        arguments = (
            self.settings.to_dict(),
            self.service.number,
            worker.index,
            writer,
        )
        worker.thread = threading.Thread(
            target=self._run_worker,
            args=(writer, arguments),
            name=f"atoll-worker-{worker.index}",
            daemon=True,
        )
        worker.thread.start()

    def _run_worker(self, writer: int, arguments: tuple[Any, ...]) -> None:
        """The body of a worker's thread here; its end closes the pipe."""
        try:
            models.run_worker(self.model, arguments, self.app)
        except BaseException:
            logger.exception("a worker failed")
        finally:
            os.close(writer)

    def _take_reports(self, worker: _Worker) -> None:
        data = os.read(worker.reader, 65536)
        if not data:
            self._ended(worker)
            return
        *lines, worker.pending = (worker.pending + data).split(b"\n")
        for line in lines:
            report = json.loads(line)
            if report["event"] == "ready":
                worker.native_id = report["thread"]
                self._ready(worker)
            elif report["event"] == "failed":
                worker.failure = report["text"]

    def _ready(self, worker: _Worker) -> None:
        worker.ready = True
        if worker.drain_when_ready:
            self.service.drain_thread(worker.native_id)
            return
        if worker is self._replacing.successor:
            self._succeed(worker)
            return
        if not self._served:
            self._served = True
            self._announce()
            for other in self.workers:
                if other is not worker and not self._stopping:
                    self._start(other)
        if len(self.workers) > 1 and all(w.ready for w in self.workers):
            logger.info("all %d workers serve", len(self.workers))

    def _announce(self) -> None:
        addresses = self.service.addresses()
        settings = self.settings
        for host, port in addresses:
            where = f"[{host}]" if ":" in host else host
            scheme = "https" if settings.ssl_certfile else "http"
            logger.info(
                "listening on %s (%s, %d %s)",
                f"unix:{host}" if port < 0 else f"{scheme}://{where}:{port}",
                settings.app,
                settings.workers,
                "worker" if settings.workers == 1 else "workers",
            )
        if self.on_ready is not None:
            self.on_ready(addresses)

    def _ended(self, worker: _Worker) -> None:
        self._selector.unregister(worker.reader)
        os.close(worker.reader)
        if worker.thread is not None:
            worker.thread.join()
        worker.thread = None
        if worker in self._replacing.retired:
            self._replacing.retired.remove(worker)
            return
        if worker is self._replacing.successor:
            self._replacing.give_up()
            if not self._stopping:
                logger.error(
                    "the old workers go on: %s does not start any more:\n%s",
                    self.settings.app,
                    worker.failure or "its interpreter ended",
                )
            return
        if self._stopping:
            return
        if not self._served:
            self.failure = worker.failure or "its interpreter ended"
            logger.error("%s does not start:\n%s", self.settings.app, self.failure)
            self._exit_code = 1
            self._drain()
            return
        if time.monotonic() - worker.started_at > RESTART_FORGIVEN_S:
            worker.delay = RESTART_FIRST_S
        self.service.count_restart("died")
        logger.error(
            "worker %d ended%s; another starts in %g s",
            worker.index,
            f":\n{worker.failure}" if worker.failure else "",
            worker.delay,
        )
        worker.failure = None
        worker.restart_at = time.monotonic() + worker.delay
        worker.delay = min(worker.delay * 2, RESTART_MOST_S)
