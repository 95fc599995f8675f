"""Where a coroutine waits, as the log tells it of one that never starts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from atoll._server import suspended


def test_frames_from_a_coroutine_to_what_it_waits_for() -> None:
    async def outer(reached: asyncio.Event) -> None:
        async with context(reached):
            pass

    @contextlib.asynccontextmanager
    async def context(reached: asyncio.Event) -> AsyncIterator[None]:
        await asyncio.create_task(inner(reached))
        yield

    async def inner(reached: asyncio.Event) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def main() -> list[str]:
        reached = asyncio.Event()
        task = asyncio.create_task(outer(reached))
        await reached.wait()
        names = [frame.f_code.co_name for frame in suspended.frames_of(task.get_coro())]
        task.cancel()
        await asyncio.wait([task])
        assert suspended.frames_of(task.get_coro()) == []
        return names

    names = asyncio.run(main())
    assert names == ["outer", "__aenter__", "context", "inner", "wait"]
