"""Shared memory: transfer of ownership, names, and the way to other processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from atoll import _atoll, _descriptor
from atoll._atoll import SharedArray, SharedBuffer

if TYPE_CHECKING:
    import socket

__all__ = ["SharedArray", "SharedBuffer", "open_shared", "transfer"]

LABEL = "atoll:"


def transfer[Shared: (SharedBuffer, SharedArray)](buffer: Shared) -> Shared:
    """Move `buffer`: what is returned has the memory, `buffer` has it no longer.

    Send the result: `channel.send(transfer(buffer))`. From then on the sender cannot
    write what the receiver reads.

    Args:
        buffer: With no memoryview or array over it in use.

    Returns:
        A new object over the same memory.

    A slice of `buffer` that was made before is a handle of its own and stays.

    Raises:
        BufferError: A view of `buffer` is still in use.
        TypeError: It is another object, or a view of one; the message says what to do.
        ValueError: It was transferred or released before.
    """
    if not isinstance(buffer, SharedBuffer | SharedArray):
        raise TypeError(
            f"transfer() moves a SharedBuffer or SharedArray, {_not(buffer)}"
        )
    return buffer._transfer()


def _not(given: object) -> str:
    """Why `given` cannot be moved, and what can be done."""
    kind = type(given).__qualname__
    below: Any = given
    while below is not None and not isinstance(below, SharedBuffer | SharedArray):
        below = below.obj if type(below) is memoryview else getattr(below, "base", None)
    if below is not None:
        return (
            f"not a {kind} over one: views cannot be told that the memory has gone. Let "
            f"the views go, and transfer the {type(below).__qualname__}"
        )
    try:
        memoryview(given).release()  # type: ignore[arg-type]
    except TypeError:
        return f"not a {kind}: send it as it is"
    return (
        f"not a {kind}, whose memory is its own: send it as it is (it is copied once), "
        "or copy it into a SharedArray first"
    )


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
    found = _descriptor.find(LABEL, name)
    if found is None:
        raise FileNotFoundError(f"no shared buffer is called {name!r}")
    return _adopt(found)


def claim(name: str) -> socket.socket:
    """Look that no buffer is called `name`, and keep others from making one.

    Returns:
        What is to be closed once the memory is there.

    Raises:
        FileExistsError: There is such memory.
        PermissionError: Another user is making memory under this address.
    """
    return _descriptor.claim(LABEL, name)


def _adopt(descriptor: int) -> SharedBuffer:
    try:
        size = os.fstat(descriptor).st_size
        return SharedBuffer._restore(descriptor, 0, "B", (size,), False)
    finally:
        os.close(descriptor)


def _rebuild(kind: str, descriptor: Any, *layout: Any) -> SharedBuffer | SharedArray:
    number = descriptor.detach()
    try:
        made: type[SharedBuffer] | type[SharedArray] = getattr(_atoll, kind)
        return made._restore(number, *layout)
    finally:
        os.close(number)


def reduce(buffer: SharedBuffer | SharedArray) -> tuple[Any, ...]:
    """For pickle: the other process maps the same memory."""
    kept = buffer.__copy__()  # or the descriptor may be closed, and another's, below
    descriptor, *layout = kept._describe()
    passed = _descriptor.passed(descriptor, kept)
    return _rebuild, (type(buffer).__name__, passed, *layout)
