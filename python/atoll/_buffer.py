"""Shared memory: transfer of ownership, names, and the way to other processes."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll import _atoll
from atoll._atoll import SharedArray, SharedBuffer

if TYPE_CHECKING:
    import socket

__all__ = ["SharedArray", "SharedBuffer", "open_shared", "transfer"]

# The kernel cuts the label of the memory, of which the name is a part.
NAME_BYTES = 180


def transfer[Shared: (SharedBuffer, SharedArray)](buffer: Shared) -> Shared:
    """Move `buffer`: what is returned has the memory, `buffer` has it no longer.

    Send the result: `channel.send(transfer(buffer))`. From then on the sender cannot
    write what the receiver reads.

    Args:
        buffer: With no memoryview or array over it in use.

    Returns:
        A new object over the same memory.

    Raises:
        BufferError: A view of `buffer` is still in use.
        ValueError: It was transferred or released before.
    """
    return buffer._transfer()


def open_shared(name: str) -> SharedBuffer:
    """The whole memory of a named buffer or array, of this or another process.

    The memory has no name in any file system: it is found through `/proc`, in the
    processes of the same user that have it open, and is gone with the last of them.

    Args:
        name: What was given as `name=`.

    Returns:
        A buffer over the same memory.

    Raises:
        FileNotFoundError: No process that may be looked into has such a buffer.
    """
    found = _find(name)
    if found is None:
        raise FileNotFoundError(f"no shared buffer is called {name!r}")
    return _adopt(found)


def _find(name: str) -> int | None:
    """A new descriptor for the memory called `name`, if there is such."""
    wanted = f"/memfd:atoll:{name} (deleted)"
    if not name:
        return None  # what has no name is not found by it
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


def claim(name: str) -> socket.socket:
    """Look that no memory is called `name`, and keep others from making it.

    Two who make the same name at once must not both succeed. The claim is a socket
    with an address of the name's, which only one can have and which goes when it is
    closed, or its process ends. It lasts while the memory is made; from then on the
    memory itself is what others find.

    Returns:
        What is to be closed once the memory is there.

    Raises:
        FileExistsError: There is such memory.
        PermissionError: Another user is making memory under this address.
    """
    import socket  # slow to import, and rarely needed

    if len(os.fsencode(name)) > NAME_BYTES:
        raise ValueError(f"a name has at most {NAME_BYTES} bytes: {name!r}")
    # Names that share a number wait for each other, and no more than that.
    address = f"\0atoll:{os.getuid()}:{zlib.crc32(os.fsencode(name))}"
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
        found = _find(name)
    except BaseException:
        held.close()
        raise
    if found is not None:
        os.close(found)
        held.close()
        raise FileExistsError(f"there is a shared buffer called {name!r}")
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


def _adopt(descriptor: int) -> SharedBuffer:
    try:
        size = os.fstat(descriptor).st_size
        return SharedBuffer._restore(descriptor, 0, "B", (size,), False)
    except BaseException:
        os.close(descriptor)
        raise


def _rebuild(kind: str, descriptor: Any, *layout: Any) -> SharedBuffer | SharedArray:
    number = descriptor.detach()
    try:
        made: type[SharedBuffer] | type[SharedArray] = getattr(_atoll, kind)
        return made._restore(number, *layout)
    except BaseException:
        os.close(number)
        raise


def reduce(buffer: SharedBuffer | SharedArray) -> tuple[Any, ...]:
    """For pickle: the descriptor goes the way multiprocessing passes descriptors."""
    from multiprocessing import reduction  # slow to import, and rarely needed

    descriptor, *layout = buffer._describe()
    passed = reduction.DupFd(descriptor)
    return _rebuild, (type(buffer).__name__, passed, *layout)
