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
from collections.abc import Collection
from typing import Any

from atoll import _atoll, _descriptor, _remote
from atoll._pool import worker
from atoll._pool.handles import NOTHING, Arrived, Bundle, collect
from atoll._pool.memory import Memory, dump, views

__all__ = ["CALL", "SETTLE", "STOP", "main", "receive_block", "send_block"]

# A block begins with a head: kind, bytes, how many regions (src/bind/pool_feed.c, which
# sends and receives small blocks).
HEAD_BYTES = len(_atoll.block_head(0, 0, 0))
REGION = struct.Struct("<QQ?")
CALL, SETTLE, STOP = 0, 1, 2
_MEMFD_BYTES = 1 << 20
# In the count of regions: the descriptor is that of a bundle, in which the memory's
# comes first.
_BUNDLE = 1 << 31


def send_block(
    sock: socket.socket,
    kind: int,
    data: bytes,
    memory: Memory | None = None,
    bundle: Bundle | None = None,
) -> None:
    """Send bytes, buffers that were written to memory, and descriptors.

    Many bytes go as a memfd too, so that they are not pushed through, where one is to
    be had.

    Args:
        sock: Where to.
        kind: Of the block.
        data: The bytes.
        memory: Where the buffers are.
        bundle: Of the descriptors, and that of memory before them; it is closed.
    """
    size, regions = len(data), []
    if memory is not None:
        regions = memory.regions
    elif size >= _MEMFD_BYTES and bundle is None:
        try:
            memory, data = Memory([data]), b""
        except OSError:
            pass
    if bundle is not None:
        count, descriptor = len(regions) | _BUNDLE, bundle.fileno()
    elif memory is not None:
        count, descriptor = len(regions), memory.descriptor
    else:
        _atoll.block_send(sock.fileno(), kind, data)
        return
    head = _atoll.block_head(kind, size, count)
    block = head + b"".join(REGION.pack(*region) for region in regions) + data
    sent = socket.send_fds(sock, [block], [descriptor])
    if bundle is not None:
        bundle.close()
    if sent < len(block):  # whoever has all of it may have ended, or closed its end
        sock.sendall(block[sent:])


def _receive_up_to(sock: socket.socket, data: bytearray, size: int) -> None:
    """More of a block, until there are so many bytes of it."""
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part


def _known(kind: int, kinds: Collection[int]) -> int:
    if kind not in kinds:
        raise ValueError(f"it is of kind {kind}")
    return kind


def receive_block(
    sock: socket.socket, kinds: Collection[int] = range(256)
) -> tuple[int, Any, list[memoryview], Arrived]:
    """Receive what `send_block` sent: kind, bytes, buffers, descriptors.

    Each side sends when the other waits: what comes is of one block.

    Args:
        sock: Where it comes from.
        kinds: Those that it may be of.

    Raises:
        EOFError: The other side has gone.
        ConnectionResetError: It has, and did not read what was sent to it.
        OSError: The system refused: too many open files, for one.
        ValueError: What came is no block.
    """
    kind, data, descriptor = _atoll.block_receive(sock.fileno())
    if kind >= 0:
        return _known(kind, kinds), data, [], NOTHING
    return receive_rest(sock, data, descriptor, kinds)


def receive_rest(
    sock: socket.socket,
    first: bytes,
    descriptor: int,
    kinds: Collection[int] = range(256),
) -> tuple[int, Any, list[memoryview], Arrived]:
    """`receive_block` for a block whose first bytes have come, all of a short one.

    Args:
        sock: Where the others come from.
        first: Those that have come.
        descriptor: What has come with them, which is closed here, or -1.
        kinds: Those that it may be of.

    Raises:
        EOFError: The other side has gone.
        OSError: The system refused.
        ValueError: What came is no block.
    """
    try:
        block = bytearray(first)
        _receive_up_to(sock, block, HEAD_BYTES)
        kind, size, count = _atoll.block_head_read(block)
        _known(kind, kinds)
        if count and descriptor < 0:
            raise ValueError("its buffers and descriptors did not come")
        if descriptor >= 0 and not count:
            whole = mmap.mmap(descriptor, size, prot=mmap.PROT_READ, trackfd=False)
            return kind, whole, [], NOTHING
        start = HEAD_BYTES + (count & ~_BUNDLE) * REGION.size
        _receive_up_to(sock, block, start + size)
        data = bytes(memoryview(block)[start:])
        regions = list(REGION.iter_unpack(memoryview(block)[HEAD_BYTES:start]))
        arrived = NOTHING
        if count & _BUNDLE:
            bundle, descriptor = descriptor, -1
            arrived = Arrived(bundle)
            descriptor = arrived.first() if regions else -1
        return (
            kind,
            data,
            views(descriptor, regions) if descriptor >= 0 else [],
            arrived,
        )
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def report(exception: BaseException) -> tuple[bytes, None, Bundle | None]:
    """What is answered when a task raised it."""
    data, things = collect(lambda: _atoll.dumps(worker.report(exception)))
    try:
        return data, None, Bundle.of(things)
    except OSError:  # then the exception arrives as its text
        return data, None, None


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

    def call(
        self, data: Any, buffers: list[memoryview], arrived: Arrived
    ) -> tuple[int, bytes, Memory | None, Bundle | None]:
        outcome = 1
        try:
            # Not in the imports that this may need: they would stay half made.
            with arrived:
                function, args, kwargs = _atoll.loads(data, trusted=True, apart=buffers)
            buffers.clear()  # what is not wanted any more goes with the task
            self.in_task = True
            if self.early:
                self.early = False
                raise worker.TaskInterrupted
            result = function(*args, **kwargs)
            outcome = 4
            answer, memory, things = dump((result,), ("result",))
            bundle = Bundle.of(things, memory)
            self.in_task = False
            return 0, answer, memory, bundle
        except BaseException as exception:
            self.in_task = False
            _descriptor.under_way.leaving = None  # it may have come in dump()
            return outcome, *report(exception)

    def run(self, limit: int) -> None:
        done = 0
        while not limit or done < limit:
            kind, data, buffers, arrived = receive_block(self.sock)
            if kind == STOP:
                return
            if kind == SETTLE:
                worker.settle()
                self.early = False  # it was for the task before
                send_block(self.sock, SETTLE, b"")
                continue
            try:
                answer = self.call(data, buffers, arrived)
            except worker.TaskInterrupted:  # it came in the few steps around the call
                self.in_task = False
                _descriptor.under_way.leaving = None
                answer = 1, _atoll.dumps(None), None, None
            send_block(self.sock, *answer)
            del data, buffers, arrived, answer
            done += 1


def main(descriptor: int) -> None:
    """The main function of a worker process."""
    _remote.reports_leave = True
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)  # a child that outlives this process would hide its end
    try:
        _, start, _, arrived = receive_block(sock)
        limit, initial = _atoll.loads(start, trusted=True)
        process = _Process(sock)
        failure = worker.begin_packed(initial, arrived)
        send_block(sock, 0, _atoll.dumps(failure))
        if failure is None:
            process.run(limit)
    except EOFError:
        pass
    except BaseException:
        traceback.print_exc()
        raise
