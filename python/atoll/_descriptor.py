"""Descriptors of shared memory, on their way to other processes.

A descriptor goes to a process that `multiprocessing` starts the way that package passes
descriptors, and stays open on its way. So it does to a worker of a pool, and back: the
pool sends it beside the bytes (`atoll._pool.handles`). To any other process it goes as a
place in `/proc`, which the receiver opens while the sender has it: so the sender keeps
what it has sent until it has arrived, as with multiprocessing's own locks.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

__all__ = [
    "Identity",
    "Passed",
    "Things",
    "claim",
    "collect",
    "find",
    "identity",
    "passed",
    "under_way",
]

type Identity = tuple[int, int]

# The shared things of what was packed: descriptors, by the memory that they are of, and
# what keeps each of them open.
type Things = dict[Identity, tuple[int, object]]

# The kernel cuts the label of the memory, of which the name is a part.
NAME_BYTES = 180


class _UnderWay(threading.local):
    """What goes beside the bytes that this thread packs or unpacks.

    Attributes:
        leaving: Where `passed` notes descriptors, each with what keeps it open.
        arrived: Those that have come for the bytes.
    """

    leaving: Things | None = None
    arrived: dict[Identity, int] | None = None


under_way = _UnderWay()


def collect(pack: Callable[[], bytes]) -> tuple[bytes, Things]:
    """What `pack` packs, and the shared things of it."""
    things: Things = {}
    before, under_way.leaving = under_way.leaving, things
    try:
        return pack(), things
    finally:
        under_way.leaving = before


class Passed:
    """A descriptor of another process, by its place in `/proc`."""

    def __init__(self, process: int, number: int, identity: Identity) -> None:
        self._place = process, number, identity

    def __reduce__(self) -> tuple[Any, ...]:
        return Passed, self._place

    def detach(self) -> int:
        """A descriptor of this process for the same memory; the caller closes it.

        Raises:
            FileNotFoundError: The sender has ended, or has let go of it.
        """
        process, number, wanted = self._place
        if under_way.arrived is not None and wanted in under_way.arrived:
            return os.dup(under_way.arrived[wanted])
        gone = (
            f"process {process} has let go of the shared memory that it sent: it must "
            f"keep it until it has arrived"
        )
        try:
            descriptor = os.open(
                f"/proc/{process}/fd/{number}", os.O_RDWR | os.O_CLOEXEC
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(gone) from error
        if identity(descriptor) != wanted:
            os.close(descriptor)
            raise FileNotFoundError(gone)
        return descriptor


def identity(descriptor: int) -> Identity:
    """What is the same for all descriptors of one memory, and for no other's."""
    facts = os.fstat(descriptor)
    return facts.st_dev, facts.st_ino


def passed(descriptor: int, owner: object) -> Any:
    """What stands for `descriptor` in a pickle; its `detach()` gives one there.

    Args:
        descriptor: Of shared memory.
        owner: What keeps it open.
    """
    known = identity(descriptor)
    if under_way.leaving is not None:
        under_way.leaving[known] = descriptor, owner
        return Passed(os.getpid(), descriptor, known)
    from multiprocessing import context  # slow to import, and rarely needed

    if context.get_spawning_popen() is not None:
        from multiprocessing import reduction

        return reduction.DupFd(descriptor)
    return Passed(os.getpid(), descriptor, known)


def find(prefix: str, name: str) -> int | None:
    """A new descriptor for the memory that was made with that name, if there is such.

    The memory has no name in any file system: it is found through `/proc`, in the
    processes of the same user that have it open, and is gone with the last of them.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not name:
        return None
    from pathlib import Path  # as socket below: every interpreter imports this module

    wanted = f"/memfd:{prefix}{name} (deleted)"
    for process in sorted(Path("/proc").iterdir(), key=lambda entry: entry.name):
        if not process.name.isdecimal():
            continue
        try:
            entries = list((process / "fd").iterdir())
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
        for entry in entries:
            try:
                if str(entry.readlink()) == wanted:
                    return os.open(entry, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue  # closed meanwhile, as is the descriptor that listed them
    return None


def claim(prefix: str, name: str) -> socket.socket:
    """Look that no memory is called `name`, and keep others from making it.

    Two who make the same name at once must not both succeed. The claim is a socket
    with an address of the name's, which only one can have and which goes when it is
    closed, or its process ends. It lasts while the memory is made; from then on the
    memory itself is what others find.

    Args:
        prefix: What stands before the name in the label of the memory.
        name: At most 180 bytes.

    Returns:
        What is to be closed once the memory is there.

    Raises:
        FileExistsError: There is such memory.
        ValueError: The name is too long.
        PermissionError: Another user is making memory under this address.
    """
    import socket  # slow to import, and rarely needed
    import zlib

    size = len(os.fsencode(name))
    if size > NAME_BYTES:
        raise ValueError(f"name must have at most {NAME_BYTES} bytes, not {size}")
    label = prefix + name
    # Names that share a number wait for each other, and no more than that.
    address = f"\0atoll:{os.getuid()}:{zlib.crc32(os.fsencode(label))}"
    while True:
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            held.bind(address)
            held.listen()
            break
        except OSError as error:
            held.close()
            if error.errno != errno.EADDRINUSE:
                raise
        _wait_for_end(address)
    try:
        found = find(prefix, name)
    except BaseException:
        held.close()
        raise
    if found is not None:
        os.close(found)
        held.close()
        raise FileExistsError(f"there is shared memory called {name!r}")
    return held


def _wait_for_end(address: str) -> None:
    """Until whoever listens at `address` closes it or ends."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as watch:
        try:
            watch.connect(address)
        except OSError:
            os.sched_yield()  # it has just gone, or does not listen yet
            return
        holder = watch.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", holder)[1] != os.getuid():
            raise PermissionError("another user holds the address of this name")
        try:
            watch.recv(1)
        except ConnectionError:
            pass
