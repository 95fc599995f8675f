"""A worker process: it receives calls through a socket, and answers them.

The signal SIGUSR1 interrupts a task. It may come when the task is over: then the pool
sends `SETTLE` after it, and the process waits for it, and answers that it has come.
"""

import mmap
import os
import signal
import socket
import struct
import threading
import traceback
from typing import Any

from atoll import _atoll
from atoll._pool import worker

__all__ = ["CALL", "SETTLE", "STOP", "main", "receive_block", "send_block"]

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
            raise worker.TaskInterrupted
        worker.delivered[threading.get_ident()] += 1
        self.early = True

    def call(self, data: Any) -> tuple[int, bytes]:
        outcome = 1
        try:
            # Not in the imports that this may need: they would stay half made.
            function, args, kwargs = _atoll.loads(data, trusted=True)
            self.in_task = True
            if self.early:
                self.early = False
                raise worker.TaskInterrupted
            result = function(*args, **kwargs)
            outcome = 4
            answer = 0, _atoll.dumps((result,), ("result",))
            self.in_task = False
            return answer
        except BaseException as exception:
            self.in_task = False
            return outcome, _atoll.dumps(worker.report(exception))

    def run(self, limit: int) -> None:
        done = 0
        while not limit or done < limit:
            kind, data = receive_block(self.sock)
            if kind == STOP:
                return
            if kind == SETTLE:
                worker.settle()
                self.early = False  # it was for the task before
                send_block(self.sock, SETTLE, b"")
                continue
            try:
                outcome, answer = self.call(data)
            except worker.TaskInterrupted:  # it came in the few steps around the call
                self.in_task = False
                outcome, answer = 1, _atoll.dumps(None)
            send_block(self.sock, outcome, answer)
            done += 1


def main(descriptor: int) -> None:
    """The main function of a worker process."""
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)  # a child that outlives this process would hide its end
    try:
        _, start = receive_block(sock)
        limit, initial = _atoll.loads(start, trusted=True)
        process = _Process(sock)
        failure = worker.begin(*_atoll.loads(initial, trusted=True))
        send_block(sock, 0, _atoll.dumps(failure))
        if failure is None:
            process.run(limit)
    except EOFError:
        pass
    except BaseException:
        traceback.print_exc()
        raise
