"""What type checkers see of the package: each of them reads this file, nobody runs it."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any, assert_type

import atoll


def text(number: int, *, sign: bool = False) -> str:
    return str(number)


async def pools(executor: Executor) -> None:
    with atoll.Pool(2, "threads") as pool:
        executor = pool
        future = pool.submit(text, 1, sign=True)
        plain: Future[str] = future
        assert_type(future.result(), str)
        assert_type(future.cancel(running=True), bool)
        assert_type(pool.submit_with(text, (1,), timeout=0.5).result(), str)
        assert_type(pool.map(text, [1, 2], progress=True), Iterator[str])
        assert_type(pool.imap_unordered(text, [1]), Iterator[str])
        assert_type(await pool.run(text, 1, timeout=1.5), str)
        pool.submit(text, "no number")  # type: ignore[arg-type]  # pyright: ignore
        pool.submit(text)  # type: ignore[call-arg]  # pyright: ignore
        del plain, executor


async def interpreters() -> None:
    with atoll.Interpreter() as interpreter:
        assert_type(interpreter.call(text, 1), str)
        assert_type(interpreter.submit(text, 1), Future[str])
        assert_type(await interpreter.run(text, 1), str)
        interpreter.call(text, sign=1)  # type: ignore  # pyright: ignore


async def sharing() -> None:
    channel = atoll.Channel(capacity=3)
    assert_type(channel.recv(timeout=0.5), Any)
    assert_type(atoll.select(channel, timeout=1), tuple[atoll.Channel, Any])
    async for item in channel:
        assert_type(item, Any)
    with atoll.Lock() as held:
        assert_type(held, bool)
    assert_type(atoll.AtomicInt(3).load(), int)


def servers() -> None:
    with atoll.Server("main:app", workers=2) as server:
        assert_type(server.stats(), atoll.ServerStats)
        assert_type(server.url, str)
