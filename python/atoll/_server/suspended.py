"""Where a coroutine waits: the frames from it to what it awaits.

While a coroutine is suspended no thread has its frames on its stack, which is all that
`traceback` looks at. Call it on the thread of the coroutine's event loop, where nothing
of it runs meanwhile.
"""

import asyncio
import gc
import types
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SUSPENDED = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)

#: One that awaits itself by a detour has no end.
_DEEPEST = 100


def frames_of(awaited: Any) -> list[FrameType]:
    """The frames of a coroutine, and of all that it waits for, outermost first."""
    frames = []
    for one in _chain(awaited):
        for name in ("cr_frame", "gi_frame", "ag_frame"):
            frame = getattr(one, name, None)
            if frame is not None:
                frames.append(frame)
    return frames


def _chain(awaited: Any) -> Iterator[Any]:
    for _ in range(_DEEPEST):
        if awaited is None:
            return
        yield awaited
        awaited = _next(awaited)


def _next(awaited: Any) -> Any:
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        if hasattr(awaited, name):
            return getattr(awaited, name)
    if isinstance(awaited, asyncio.Task):
        return awaited.get_coro()
    # An awaitable of C: one step of an asynchronous generator, or the wait for a task.
    for one in gc.get_referents(awaited):
        if isinstance(one, (*_SUSPENDED, asyncio.Task)):
            return one
    return None
