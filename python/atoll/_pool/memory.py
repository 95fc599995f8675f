"""Large buffers on their way to a process and back: written once, into shared memory.

A file of memory (memfd) for each call or result that has any. The receiver maps it, and
its objects stand on the mapping: they may write to it, since nobody else looks at it any
more. It goes with the last of them.
"""

import mmap
import os
from collections.abc import Iterable
from typing import Any

from atoll import _atoll
from atoll._pool.handles import Things, collect

__all__ = ["Memory", "dump", "views"]

# From here on making, mapping and freeing a file costs less than the copies it saves.
APART_BYTES = 256 << 10
_PAGE = mmap.PAGESIZE

# Where a buffer lies: offset, bytes, whether it is read-only.
type Region = tuple[int, int, bool]


class Memory:
    """A file of memory that buffers were written to."""

    def __init__(self, buffers: Iterable[Any]) -> None:
        self.descriptor = os.memfd_create("atoll-task", os.MFD_CLOEXEC)
        self.regions: list[Region] = []
        offset = 0
        for buffer in buffers:
            with memoryview(buffer) as view, view.cast("B") as left:
                size = len(left)
                self.regions.append((offset, size, view.readonly))
                done = 0
                while done < size:  # a write takes 2 GiB at most
                    with left[done:] as part:
                        done += os.pwrite(self.descriptor, part, offset + done)
            offset = -(-(offset + size) // _PAGE) * _PAGE

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def dump(
    value: Any, name: str | tuple[str, ...], apart: bool = True
) -> tuple[bytes, Memory | None, Things]:
    """The parcel of `value`, its large buffers, and the shared things in it.

    Args:
        value: What is sent.
        name: As `_atoll.dumps` takes it.
        apart: False: the buffers too are written into the bytes. So they are where no
            memory is to be had.
    """
    buffers: list[Any] = []
    if apart:
        data, things = collect(
            lambda: _atoll.dumps(value, name, apart=buffers, apart_bytes=APART_BYTES)
        )
        if not buffers:
            return data, None, things
        try:
            views = (b if isinstance(b, bytes) else b.raw() for b in buffers)
            return data, Memory(views), things
        except OSError:
            pass
    data, things = collect(lambda: _atoll.dumps(value, name))
    return data, None, things


def views(descriptor: int, regions: list[Region]) -> list[memoryview]:
    """The buffers of a `Memory` that came from another process."""
    offset, size, _ = regions[-1]
    whole = memoryview(mmap.mmap(descriptor, offset + size, trackfd=False))
    return [
        whole[begin : begin + length].toreadonly()
        if readonly
        else whole[begin : begin + length]
        for begin, length, readonly in regions
    ]
