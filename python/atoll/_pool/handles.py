"""Shared things on their way to a worker process and back: by descriptor.

What is sent may be dropped at once: a worker returns a `SharedBuffer`, and its own
handle goes with the call. So their descriptors go with the bytes, in a socket whose
other end is closed and whose descriptor is the one that a block has beside it. The
kernel keeps what lies in it, whoever dies meanwhile, and frees it with the socket.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from typing import TYPE_CHECKING, Self

from atoll import _descriptor
from atoll._descriptor import Things, collect

if TYPE_CHECKING:
    from atoll._pool.memory import Memory

__all__ = ["NOTHING", "Arrived", "Bundle", "Things", "collect"]

# In one message; the kernel takes 253 (SCM_MAX_FD).
_AT_ONCE = 250


class Bundle:
    """Descriptors that lie in a socket, and are its own from now on.

    Args:
        things: Whose they are.
        first: One more, before all others, or -1.

    Raises:
        OSError: The system refused: too many open files, or too many under way.
    """

    def __init__(self, things: Things, first: int = -1) -> None:
        numbers = [first] if first >= 0 else []
        numbers += [number for number, _ in things.values()]
        full, self._socket = socket.socketpair()
        with full:
            full.setblocking(False)  # nobody reads yet
            for start in range(0, len(numbers), _AT_ONCE):
                socket.send_fds(full, [b"\0"], numbers[start : start + _AT_ONCE])

    @classmethod
    def of(cls, things: Things, memory: Memory | None = None) -> Self | None:
        """What goes beside a block with `things`; None: there are none."""
        if not things:
            return None
        return cls(things, -1 if memory is None else memory.descriptor)

    def fileno(self) -> int:
        """The descriptor to send."""
        return self._socket.fileno()

    def close(self) -> None:
        """What was not sent of it is gone."""
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self.close()


class Arrived:
    """The descriptors of a bundle that came: while it is entered, parcels find theirs.

    To enter it is an OSError where they could not be had, for want of room for them.

    Args:
        descriptor: The bundle's, which is taken; -1: nothing came.
    """

    def __init__(self, descriptor: int = -1) -> None:
        self._numbers: list[int] = []
        self._why: tuple[object, ...] | None = None  # of the OSError
        self._before: dict[_descriptor.Identity, int] | None = None
        if descriptor < 0:
            return
        try:
            bundle = socket.socket(fileno=descriptor)
        except OSError as error:
            os.close(descriptor)
            self._why = error.args
            return
        with bundle:
            try:
                self._take(bundle)
            except OSError as error:  # whoever wants them is told
                self._why = error.args
                self.close()

    def _take(self, bundle: socket.socket) -> None:
        item = array.array("i").itemsize
        room = socket.CMSG_LEN(_AT_ONCE * item)
        wanted = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        while True:
            data, parts, flags, _ = bundle.recvmsg(1, room, wanted)
            for level, kind, numbers in parts:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    whole = len(numbers) - len(numbers) % item
                    self._numbers += array.array("i", numbers[:whole])
            if flags & socket.MSG_CTRUNC:
                why = "shared things came, and there is no room for their descriptors"
                raise OSError(errno.EMFILE, why)
            if not data:
                return

    def __bool__(self) -> bool:
        return bool(self._numbers) or self._why is not None

    def first(self) -> int:
        """The first one, which is the caller's from now on; -1: it could not be had."""
        return self._numbers.pop(0) if self._why is None else -1

    def __enter__(self) -> Self:
        if self._why is not None:
            raise OSError(*self._why)
        if self._numbers:
            self._before = _descriptor.under_way.arrived
            _descriptor.under_way.arrived = {
                _descriptor.identity(number): number for number in self._numbers
            }
        return self

    def __exit__(self, *exception: object) -> None:
        if self._numbers:
            _descriptor.under_way.arrived = self._before
        self.close()

    def close(self) -> None:
        """Let them go, but for what parcels took."""
        while self._numbers:
            os.close(self._numbers.pop())

    def __del__(self) -> None:
        self.close()


NOTHING = Arrived()  # what comes beside most blocks
