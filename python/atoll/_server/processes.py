"""Workers that are processes.

They listen on copies of this process's sockets, and share a passage over which
connections go from one that is busy, or ends, to another (src/net/passage.c). Each runs
a supervisor of its own (`child`), which takes orders from this one over a socket.
Without `preload` a worker is a fresh process that imports the application. With it, a
template imports the application and forks the workers, so that they share what the
import has made; the template itself is started anew at a reload, and no process that
serves ever forks.

Every process dies with this one, however that ends: the kernel sends SIGKILL to a child
whose parent is gone. A worker that a template has forked is no child of it: the fork
between them ends at once, and orphans come to this process (PR_SET_CHILD_SUBREAPER).
"""

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from atoll import _atoll
from atoll._server import control, inquest, listening
from atoll._server.hosts import WorkerRecord
from atoll._server.orders import send_line
from atoll._server.plan import Plan
from atoll._server.settings import Settings

logger = logging.getLogger("atoll.server")

#: Seconds between two words of a template that tells its stack.
_PATIENCE_S = 1.0

_CHILD = "from atoll._server.child import main; main()"


@dataclasses.dataclass
class _Child:
    """One process."""

    control: socket.socket
    process: subprocess.Popen[bytes] | None = None
    pid: int = 0
    #: Of its board, where it tells of itself; -1: it has none.
    place: int = -1
    #: A template that writes its stack into `control` when it gets `inquest.SIGNAL`.
    can_tell: bool = False


class Processes:
    """A host whose workers are processes; see `hosts.Host`.

    Args:
        settings: What to serve and how.
        plan: How many processes, and what is in each.
    """

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.settings = settings
        self.plan = plan
        self.service: Any = None
        self._boards = -1
        self._passage = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._template: _Child | None = None
        self._old_templates: list[_Child] = []

    def open(self) -> None:
        """Open the sockets, and see that the rest of the settings can be used."""
        self.service = listening.make_service(self.settings)
        self._boards = self.service.open_boards(
            self.plan.processes, self.plan.workers * self.plan.loops
        )
        # Here is the listener of the server's own paths. Of the access log each process
        # has its own; what is wrong with it is told here, and once.
        control.set_up(self.service, self.settings, 0, True)
        listening.open_sockets(self.service, self.settings)
        if self.settings.preload:
            _atoll.adopt_orphans()

    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        addresses: list[tuple[str, int]] = self.service.addresses()
        return addresses

    # ---- start ----

    def start(self, record: WorkerRecord) -> None:
        """Start a process, or have it forked; it may turn out not to start."""
        ours, theirs = socket.socketpair()
        try:
            reader = os.dup(ours.fileno())
        except OSError:
            ours.close()
            theirs.close()
            raise
        record.reader = reader
        record.handle = child = _Child(ours)
        child.place = self.service.give_board(record.index)
        if child.place < 0:
            logger.warning(
                "worker %d is not counted: too many processes of that number live",
                record.index,
            )
        order = {
            "settings": self.settings.to_dict(),
            "plan": dataclasses.asdict(self.plan),
            "name": f"worker {record.index}",
            "sockets": self.service.descriptors(),
            "passage": [end.fileno() for end in self._passage],
            "board": [self._boards, child.place] if child.place >= 0 else [],
            "parent": os.getpid(),
            "beside_others": record.beside_others,
        }
        try:
            if self.settings.preload:
                self._fork(theirs, order)
            else:
                child.process = self._spawn("worker", theirs)
                child.pid = child.process.pid
                send_line(ours, **order)
                record.death_fd = _watched(child.pid)
        except OSError as error:
            record.failure = f"no process can be started: {error}"
        finally:
            theirs.close()
        os.set_blocking(record.reader, False)

    def _spawn(self, role: str, end: socket.socket) -> "subprocess.Popen[bytes]":
        passed = [one.fileno() for one in (end, *self._passage)]
        passed += [*self.service.descriptors(), self._boards]
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        return subprocess.Popen(
            [sys.executable, *flags, "-c", _CHILD, role, str(end.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=passed,
            # Ctrl-C is this process's alone.
            process_group=0,
        )

    def _fork(self, theirs: socket.socket, order: dict[str, Any]) -> None:
        template = self._living_template()
        message = json.dumps(order).encode()
        socket.send_fds(template.control, [message], [theirs.fileno()])

    def _living_template(self) -> _Child:
        template = self._template
        if template is not None:
            assert template.process is not None
            if template.process.poll() is None:
                return template
            self.renew()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        template = _Child(ours)
        try:
            with theirs:
                template.process = self._spawn("template", theirs)
        except OSError:
            ours.close()
            raise
        self._template = template
        first = {"settings": self.settings.to_dict(), "parent": os.getpid()}
        ours.sendall(json.dumps(first).encode())
        return template

    def born(self, record: WorkerRecord, pid: int) -> None:
        """A template has forked it."""
        record.handle.pid = pid
        record.death_fd = _watched(pid)

    # ---- end ----

    def drain(self, record: WorkerRecord) -> None:
        """It ends when its requests have; its connections go to the others."""
        send_line(record.handle.control, order="retire")

    def drain_all(self, records: Sequence[WorkerRecord], others: bool) -> None:
        """Everyone's last order; whoever asks is told that this server stops."""
        self.service.drain()
        for record in records:
            send_line(record.handle.control, order="stop")

    def ask(self, record: WorkerRecord) -> None:
        """Its supervisor answers."""
        send_line(record.handle.control, order="sign")

    def can_tell_start(self, record: WorkerRecord) -> bool:
        """A template is asked from here; a process that is there tells by itself."""
        return self.settings.preload and record.death_fd < 0

    def where_it_starts(self, record: WorkerRecord) -> str:
        """Where the template is, which imports the application first."""
        template = self._template
        if template is None or template.process is None:
            return ""
        if not template.can_tell:  # before it can, the signal would end it
            template.can_tell = bool(inquest.read(template.control, 0))
        if not template.can_tell:
            return ""
        inquest.read(template.control, 0)
        template.process.send_signal(inquest.SIGNAL)
        said = inquest.read(template.control, _PATIENCE_S, inquest.OUTERMOST)
        return inquest.frames_of(said)

    def kill(self, record: WorkerRecord) -> None:
        """SIGKILL; for one that is not forked yet, to the template."""
        with contextlib.suppress(ProcessLookupError):
            if record.death_fd >= 0:
                signal.pidfd_send_signal(record.death_fd, signal.SIGKILL)
                return
            if record.handle.pid and record.running:
                # Nobody else has the number before it is waited for.
                os.kill(record.handle.pid, signal.SIGKILL)
                return
        if self._template is not None and self._template.process is not None:
            self._template.process.kill()

    def reap(self, record: WorkerRecord) -> str:
        """It is dead, or was never born."""
        self._sweep()
        child: _Child = record.handle
        child.control.close()
        if child.place >= 0:
            self.service.take_board_back(child.place)
        if child.process is not None:
            code = child.process.wait()
        elif child.pid:
            code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        else:
            return "its process was not started"
        if code < 0:
            return f"its process was killed by {_signal_name(-code)}"
        return f"its process ended with exit code {code}"

    def renew(self) -> None:
        """The next worker is forked by a new template."""
        if self._template is not None:
            self._template.control.close()
            self._old_templates.append(self._template)
            self._template = None
        self._sweep()

    def _sweep(self) -> None:
        """Let go of the old templates that have ended."""
        self._old_templates = [
            child
            for child in self._old_templates
            if child.process is not None and child.process.poll() is None
        ]

    def reload_certificates(self, records: Sequence[WorkerRecord]) -> None:
        """Here, to see whether they are good, and then in each process."""
        listening.set_tls(self.service, self.settings)
        for record in records:
            send_line(record.handle.control, order="certificates")

    def reopen_logs(self, records: Sequence[WorkerRecord]) -> None:
        """Each process has it open."""
        self.service.reopen_logs()
        for record in records:
            send_line(record.handle.control, order="logs")

    def stats(self) -> list[dict[str, int]]:
        """Each process has its own."""
        return []

    def close(self) -> None:
        """Let go of the sockets, and of the template."""
        self.renew()
        for end in self._passage:
            end.close()
        for child in self._old_templates:
            if child.process is not None:
                child.process.wait()
        self._old_templates.clear()
        if self.service is not None:
            listening.close_sockets(self.service, self.settings)
        self.service = None


def _watched(pid: int) -> int:
    """What is readable when the process has ended; -1: no descriptor is to be had.

    Then the end of its reports tells it.
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
