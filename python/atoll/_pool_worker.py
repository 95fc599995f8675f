"""What a pool's workers run: in an interpreter, on a thread, in a process.

An interrupt is an exception that another thread sends, and so it may come when the
task that it was meant for is over. The scheduler knows (it marks the task under the
lock under which tasks end) and has the worker settle: wait for the exception to arrive
before it takes another task.
"""

import mmap
import os
import signal
import socket
import struct
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from atoll import _atoll, _remote, _wire

__all__ = [
    "Broadcast",
    "TaskInterrupted",
    "process_main",
    "work_in_interpreter",
    "work_on_thread",
]

_LOST_SECONDS = 5.0

_delivered: defaultdict[int, int] = defaultdict(int)
_expected: defaultdict[int, int] = defaultdict(int)


class TaskInterrupted(BaseException):
    """Raised inside a running task that was cancelled or whose time is over."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        _delivered[threading.get_ident()] += 1


def settle() -> None:
    """Wait for the interrupt that is under way to this thread.

    It is raised between two bytecodes, so that there is nothing to block on. One that
    was lost, because its sender failed, is given up after a while.
    """
    here = threading.get_ident()
    _expected[here] += 1
    until = time.monotonic() + _LOST_SECONDS
    try:
        while _delivered[here] < _expected[here] and time.monotonic() < until:
            time.sleep(0.0005)
    except TaskInterrupted:
        pass
    _expected[here] = _delivered[here]


# An exception on its way: itself packed where it can be, the name of its type, its
# text, its traceback.
type Report = tuple[bytes | None, str, str, str]


def describe(exception: BaseException) -> Report:
    """The report of an exception, with its traceback."""
    _, words = _wire.unpack(_remote.error(exception))
    described: Report = words
    return described


def report(exception: BaseException) -> Report | None:
    """What the pool is told of an exception; None for an interrupt."""
    if isinstance(exception, TaskInterrupted):
        return None
    return describe(exception)


# ---- objects that every worker keeps -------------------------------------------------

_kept: dict[str, Any] = {}


def keep(token: str, value: Any) -> None:
    """Keep a broadcast object in this worker."""
    _kept[token] = value


def drop(token: str) -> None:
    """Let it go."""
    _kept.pop(token, None)


def kept(token: str) -> Any:
    """The object that was broadcast as `token`."""
    try:
        return _kept[token]
    except KeyError:
        raise LookupError("the broadcast object was released") from None


class Broadcast:
    """An object that every worker of a pool keeps; made by `Pool.broadcast`.

    As an argument of a task it arrives as the object itself, without being sent again.
    """

    def __init__(self, token: str, value: Any, release: Callable[[str], None]) -> None:
        self._token = token
        self._release = release
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return kept, (self._token,)

    def release(self) -> None:
        """Let every worker drop it."""
        self._release(self._token)


# ---- chunks --------------------------------------------------------------------------


def run_chunk(
    function: Callable[..., Any], items: list[tuple[Any, ...]]
) -> tuple[float, list[Any], Report | None]:
    """Call `function` for each of `items`: seconds, results, the first error."""
    began = time.perf_counter()
    results = []
    failure = None
    try:
        for arguments in items:
            results.append(function(*arguments))
    except Exception as exception:
        failure = describe(exception)
    return time.perf_counter() - began, results, failure


# ---- interpreters and threads --------------------------------------------------------


def _start(
    initializer: Callable[..., Any] | None, initargs: tuple[Any, ...], keeps: Any
) -> Report | None:
    try:
        for token, value in keeps:
            keep(token, value)
        if initializer is not None:
            initializer(*initargs)
    except BaseException as exception:
        return describe(exception)
    return None


def work_in_interpreter(
    address: int, workers: int, worker: int, turn: int, limit: int, start: bytes
) -> None:
    """Run tasks until the scheduler is closed, or `limit` of them (0: no limit)."""
    scheduler = _atoll.Scheduler(workers, address)
    failure = None
    try:
        failure = _start(*_atoll.loads(start, trusted=True))
        if failure is None:
            scheduler.work(worker, limit, None, report, settle)
    except BaseException as exception:
        failure = describe(exception)
    finally:
        scheduler.notice(worker, (turn, failure))


def work_on_thread(
    scheduler: Any,
    worker: int,
    turn: int,
    limit: int,
    runner: Callable[[int], None],
    start: Any,
) -> None:
    """The same on a thread of this interpreter."""
    failure = None
    try:
        failure = _start(*start)
        if failure is None:
            scheduler.work(worker, limit, runner, report, settle)
    except BaseException as exception:
        failure = describe(exception)
    finally:
        scheduler.notice(worker, (turn, failure))


# ---- processes -----------------------------------------------------------------------

HEAD = struct.Struct("<BQ")
CALL, SETTLE, STOP = 0, 1, 2
_MEMFD_BYTES = 1 << 20


def send_block(sock: socket.socket, kind: int, data: bytes) -> None:
    """Send bytes; many of them as a memfd, so that they are not pushed through."""
    head = HEAD.pack(kind, len(data))
    if len(data) < _MEMFD_BYTES:
        sock.sendall(head + data)
        return
    memory = os.memfd_create("atoll-task", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(memory, view) :]
        socket.send_fds(sock, [head], [memory])
    finally:
        os.close(memory)


def _receive(sock: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def receive_block(sock: socket.socket) -> tuple[int, Any]:
    """Receive what `send_block` sent.

    Raises:
        EOFError: The other side has gone.
    """
    head, descriptors, _, _ = socket.recv_fds(sock, HEAD.size, 1)
    try:
        if not head:
            raise EOFError
        if len(head) < HEAD.size:
            head += _receive(sock, HEAD.size - len(head))
        kind, size = HEAD.unpack(head)
        if not descriptors:
            return kind, _receive(sock, size)
        return kind, mmap.mmap(descriptors[0], size, prot=mmap.PROT_READ)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class _Process:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.in_task = False
        self.early = False  # an interrupt came before its task did
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, self.interrupted)

    def interrupted(self, number: int, frame: object) -> None:
        if self.in_task:
            raise TaskInterrupted
        _delivered[threading.get_ident()] += 1
        self.early = True

    def call(self, data: Any) -> tuple[int, bytes]:
        outcome = 1
        try:
            # Not in the imports that this may need: they would stay half made.
            function, args, kwargs = _atoll.loads(data, trusted=True)
            self.in_task = True
            if self.early:
                self.early = False
                raise TaskInterrupted
            result = function(*args, **kwargs)
            outcome = 4
            answer = 0, _atoll.dumps((result,), "result")
            self.in_task = False
            return answer
        except BaseException as exception:
            self.in_task = False
            return outcome, _atoll.dumps(report(exception))

    def run(self, limit: int) -> None:
        done = 0
        while not limit or done < limit:
            kind, data = receive_block(self.sock)
            if kind == STOP:
                return
            if kind == SETTLE:
                settle()
                self.early = False  # it was for the task before
                continue
            try:
                outcome, answer = self.call(data)
            except TaskInterrupted:  # it came in the few steps around the call
                self.in_task = False
                outcome, answer = 1, _atoll.dumps(None)
            send_block(self.sock, outcome, answer)
            done += 1


def process_main(descriptor: int) -> None:
    """The main function of a worker process."""
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)  # a child that outlives this process would hide its end
    try:
        _, start = receive_block(sock)
        limit, initial = _atoll.loads(start, trusted=True)
        process = _Process(sock)
        failure = _start(*_atoll.loads(initial, trusted=True))
        send_block(sock, 0, _atoll.dumps(failure))
        if failure is None:
            process.run(limit)
    except EOFError:
        pass
    except BaseException:
        traceback.print_exc()
        raise
