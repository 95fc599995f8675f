"""Where workers run, as the supervisor sees it: a host starts them and asks them to end.

`Inside` runs them in this process: in interpreters of their own, or in this one.
`processes.Processes` is the other.
"""

import dataclasses
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import atoll
from atoll._server import control, listening, worker
from atoll._server.plan import Plan
from atoll._server.settings import Settings
from atoll._server.vigil import ask
from atoll._server.witness import THE_FIRST

logger = logging.getLogger("atoll.server")

#: Seconds before a worker that died is replaced: the first time.
RESTART_FIRST_S = 0.5


@dataclasses.dataclass(eq=False)
class WorkerRecord:
    """What is known of one worker.

    Attributes:
        index: Its place, from 0.
        running: It was started, and its end has not been seen.
        reader: Descriptor that gives its reports, JSON lines; -1: none (any more).
        pending: Of a line that has not come whole.
        ready: It serves.
        drain_when_ready: It is to end, but has to serve first.
        beside_others: Others serve while it starts.
        threads: Native ids of the threads that serve.
        started_at: `time.monotonic()`.
        requests_most: After so many requests it is replaced; 0: never.
        lifetime: After so many seconds it is replaced; 0: never.
        restart_at: When it shall be started again; None: it shall not.
        delay: Seconds until then, when it ends the next time.
        failure: Why it could not start, for the user.
        death_fd: Readable when it has ended; -1: the end of `reader` says that.
        kill_at: When its end shall be forced; None: it has time.
        handle: The host's.
    """

    index: int
    running: bool = False
    reader: int = -1
    pending: bytes = b""
    ready: bool = False
    drain_when_ready: bool = False
    beside_others: bool = False
    threads: list[int] = dataclasses.field(default_factory=list)
    started_at: float = 0.0
    requests_most: int = 0
    lifetime: float = 0.0
    restart_at: float | None = None
    delay: float = RESTART_FIRST_S
    failure: str | None = None
    death_fd: int = -1
    kill_at: float | None = None
    handle: Any = None

    def starts(self) -> None:
        """A new life begins."""
        self.running, self.ready, self.drain_when_ready = True, False, False
        self.pending, self.threads, self.failure = b"", [], None
        self.reader = self.death_fd = -1
        self.started_at, self.restart_at = time.monotonic(), None
        self.kill_at = None


class Host(Protocol):
    """Starts workers and asks them to end; everything on the supervisor's thread.

    Attributes:
        service: The `_atoll.Service` that listens; None unless open.
    """

    service: Any

    def open(self) -> None:
        """Listen. Raises OSError or ValueError, with a text for the user."""

    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens: (host, port), or (path, -1)."""

    def start(self, record: WorkerRecord) -> None:
        """Start a worker: sets `reader`, and `death_fd` if there is one.

        Raises:
            OSError: The system refuses a descriptor or a process.
            RuntimeError: It refuses a thread.
        """

    def born(self, record: WorkerRecord, pid: int) -> None:
        """A process that another started has told who it is: sets `death_fd`."""

    def drain(self, record: WorkerRecord) -> None:
        """Ask one that serves to finish; others go on."""

    def drain_all(self, records: Sequence[WorkerRecord], others: bool) -> None:
        """Ask everyone to finish; `others`: the workers of other processes go on."""

    def ask(self, record: WorkerRecord) -> None:
        """Ask a process for a sign of life: {"event": "alive"}."""

    def can_tell_start(self, record: WorkerRecord) -> bool:
        """Can `where_it_starts` be asked? If not the worker tells by itself."""

    def where_it_starts(self, record: WorkerRecord) -> str:
        """The Python stack of one that does not serve yet; "": it may come as a report,
        {"event": "stack"}."""

    def kill(self, record: WorkerRecord) -> None:
        """Force its end, where that is possible."""

    def reap(self, record: WorkerRecord) -> str:
        """It has ended: how, in words, or "" where that says nothing."""

    def renew(self) -> None:
        """Workers that start from now on import the application anew."""

    def reload_certificates(self, records: Sequence[WorkerRecord]) -> None:
        """Read them again. Raises ValueError: they stay as they were."""

    def reopen_logs(self, records: Sequence[WorkerRecord]) -> None:
        """Open the access log again. Raises OSError: it stays where it was."""

    def stats(self) -> list[dict[str, int]]:
        """What the threads that serve have done, as `_atoll.Service.stats`."""

    def close(self) -> None:
        """The last worker has ended."""


class Inside:
    """Workers of this process.

    Args:
        settings: What to serve and how.
        plan: What a worker is.
        app: The application itself, with place "main" only; None to import it.
        sockets: Descriptors of listening sockets; None to open them.
        passage: The ends of what shares connections with other processes, if any.
        board: Where this process tells of itself to those: a descriptor and a place.
        name: What workers are called in the log; "" for "worker N".
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        app: Callable[..., Any] | None = None,
        sockets: Sequence[int] | None = None,
        passage: Sequence[int] = (),
        board: Sequence[int] = (),
        name: str = "",
    ) -> None:
        self.settings = settings
        self.plan = plan
        self.app = app
        self.sockets = sockets
        self.passage = passage
        self.board = board
        self.name = name
        self.service: Any = None

    def open(self) -> None:
        """Make the service and open its sockets."""
        self.service = listening.make_service(self.settings)
        if self.board:
            self.service.join_boards(*self.board)
        threads = self.plan.workers * self.plan.loops
        control.set_up(self.service, self.settings, threads, self.sockets is None)
        if self.sockets is None:
            listening.open_sockets(self.service, self.settings)
        else:
            listening.adopt_sockets(self.service, self.sockets)
        if self.passage:
            self.service.join_passage(*self.passage)

    def addresses(self) -> list[tuple[str, int]]:
        """Where the service listens."""
        addresses: list[tuple[str, int]] = self.service.addresses()
        return addresses

    def start(self, record: WorkerRecord) -> None:
        """Give the worker a thread, and a socket to report and be asked through."""
        above, below = socket.socketpair()
        above.setblocking(False)
        record.reader, writer = above.detach(), below.detach()
        name = self.name or f"worker {record.index}"
        if self.name and self.plan.workers > 1:
            name += f".{record.index}"
        arguments: tuple[Any, ...] = (
            self.settings.to_dict(),
            self.service.number,
            record.index * self.plan.loops,
            name,
            writer,
            self.plan.loops,
        )
        if self.plan.place == "main":
            arguments += (self.app,)
        record.handle = threading.Thread(
            target=self._run,
            args=(writer, arguments),
            name=f"atoll-worker-{record.index}",
            daemon=True,
        )
        try:
            record.handle.start()
        except RuntimeError:
            os.close(record.reader)
            os.close(writer)
            record.reader = -1
            raise

    def _run(self, writer: int, arguments: tuple[Any, ...]) -> None:
        """The body of a worker's thread; its end closes the socket."""
        try:
            if self.plan.place == "main":
                worker.run(*arguments)
            else:
                with atoll.Interpreter() as interpreter:
                    interpreter.call(worker.run, *arguments)
        except BaseException:
            logger.exception("a worker failed")
        finally:
            os.close(writer)

    def born(self, record: WorkerRecord, pid: int) -> None:
        """No worker of this process is one."""

    def drain(self, record: WorkerRecord) -> None:
        """Ask its reactors, by their threads."""
        for thread in record.threads:
            self.service.drain_thread(thread)
        self._tell_end(record)

    def drain_all(self, records: Sequence[WorkerRecord], others: bool) -> None:
        """Those that start yet are asked as soon as they serve."""
        if others:
            self.service.retire()
        else:
            self.service.drain()
        for record in records:
            self._tell_end(record)

    def _tell_end(self, record: WorkerRecord) -> None:
        if self.plan.loops > 1 and record.reader >= 0:
            ask(record, "end", THE_FIRST)

    def ask(self, record: WorkerRecord) -> None:
        """No worker of this process is one."""

    def can_tell_start(self, record: WorkerRecord) -> bool:
        """Its witness does."""
        return True

    def where_it_starts(self, record: WorkerRecord) -> str:
        """Its witness reports it."""
        ask(record, "stack", THE_FIRST)
        return ""

    def kill(self, record: WorkerRecord) -> None:
        """A thread cannot be ended from outside."""

    def reap(self, record: WorkerRecord) -> str:
        """The thread is at its end."""
        record.handle.join()
        return ""

    def renew(self) -> None:
        """Each interpreter imports the application itself."""

    def reload_certificates(self, records: Sequence[WorkerRecord]) -> None:
        """For all workers at once."""
        listening.set_tls(self.service, self.settings)

    def reopen_logs(self, records: Sequence[WorkerRecord]) -> None:
        """There is one for all workers."""
        self.service.reopen_logs()

    def stats(self) -> list[dict[str, int]]:
        """Of every reactor."""
        stats: list[dict[str, int]] = self.service.stats()
        return stats

    def close(self) -> None:
        """Let go of the sockets."""
        if self.service is not None and self.sockets is None:
            listening.close_sockets(self.service, self.settings)
        self.service = None
