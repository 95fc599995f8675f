"""Channels between interpreters and threads."""

from __future__ import annotations

from typing import Any

from atoll import _atoll
from atoll._atoll import Channel

__all__ = ["Channel", "select"]


def select(*channels: Channel, timeout: float | None = None) -> tuple[Channel, Any]:
    """Receive from whichever of `channels` has something first.

    Where several have, one is chosen at random, so that a busy channel starves none.
    Channels that are closed and drained are passed over.

    Args:
        *channels: 1 to 256 of them.
        timeout: Seconds to wait; None waits for ever, 0 does not wait.

    Returns:
        The channel, and the object that was received from it.

    Raises:
        ClosedError: All are closed and drained.
        TimeoutError: Nothing came in time.
    """
    return _atoll.select(channels, timeout)
