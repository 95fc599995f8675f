"""Channels on an event loop: the coroutines behind `Channel.send_async` and its kin.

Each loop has one `_Station`: a descriptor that the loop reads only while a coroutine
waits, and the futures of those that do. Works on any loop with `add_reader`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from atoll import _atoll
from atoll._errors import ClosedError, Empty, Full

type _Waitable = _atoll.Channel | _atoll.Subscription | _atoll.Broadcast


class _Station:
    """Where the coroutines of one loop wait for channels."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._wakeups = _atoll.Wakeups()
        self._futures: dict[int, asyncio.Future[None]] = {}
        self._last_number = 0

    def arm(
        self, channel: _Waitable, sends: bool, future: asyncio.Future[None]
    ) -> tuple[object, int]:
        """From now on a change of `channel` resolves `future`, once."""
        if not self._futures:
            loop = future.get_loop()
            loop.add_reader(self._wakeups.fileno(), self._wake)
        self._last_number += 1
        number = self._last_number
        self._futures[number] = future
        return self._wakeups.arm(channel, sends, number), number

    def disarm(self, armed: object, number: int, used: bool) -> None:
        """Undo `arm`; what was told and not `used` goes to the next who waits."""
        _atoll.disarm(armed, used)
        del self._futures[number]
        loop = self._loop()
        if not self._futures and loop is not None and not loop.is_closed():
            loop.remove_reader(self._wakeups.fileno())

    def _wake(self) -> None:
        for number in self._wakeups.collect():
            future = self._futures.get(number)
            if future is not None and not future.done():
                future.set_result(None)


_stations: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Station] = (
    weakref.WeakKeyDictionary()
)


async def _attempt[Result](
    channel: _Waitable,
    sends: bool,
    attempt: Callable[[], Result],
    timeout: float | None,
) -> Result:
    """Call `attempt` until it raises neither `Full` nor `Empty`."""
    timeout = _atoll.seconds(timeout)
    try:
        return attempt()
    except (Full, Empty):
        pass
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    station = _stations.get(loop)
    if station is None:
        station = _stations.setdefault(loop, _Station(loop))
    while True:
        future: asyncio.Future[None] = loop.create_future()
        armed, number = station.arm(channel, sends, future)
        used = False
        try:
            try:
                # What changed before arming was not told.
                result = attempt()
                used = future.done()
                return result
            except (Full, Empty):
                pass
            try:
                async with asyncio.timeout_at(deadline):
                    await future
            except TimeoutError:
                late = "there was no room in time" if sends else "nothing came in time"
                raise TimeoutError(late) from None
            try:
                result = attempt()
                used = True
                return result
            except (Full, Empty):
                used = True  # somebody else was faster: nothing is left to pass on
        finally:
            station.disarm(armed, number, used)


async def send(
    channel: _atoll.Channel | _atoll.Broadcast,
    obj: object,
    timeout: float | None = None,
) -> Any:
    """See `Channel.send_async` and `Broadcast.send_async`."""
    packed = _atoll.pack_item(obj)  # once, however often it has to be tried

    def attempt() -> Any:
        return channel._try_send_packed(packed)

    return await _attempt(channel, True, attempt, timeout)


async def recv(
    channel: _atoll.Channel | _atoll.Subscription, timeout: float | None = None
) -> Any:
    """See `Channel.recv_async`."""
    return await _attempt(channel, False, channel.try_recv, timeout)


async def next_item(channel: _atoll.Channel | _atoll.Subscription) -> Any:
    """The `__anext__` of a channel: ends when it is closed and drained."""
    try:
        return await _attempt(channel, False, channel.try_recv, None)
    except ClosedError:
        raise StopAsyncIteration from None
