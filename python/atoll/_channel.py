"""Channels between interpreters and threads."""

from __future__ import annotations

from typing import Any

from atoll import _atoll
from atoll._atoll import Broadcast, Channel, Subscription

__all__ = ["Broadcast", "Channel", "Subscription", "select"]


def select[Receiver: (Channel, Subscription, Channel | Subscription)](
    *channels: Receiver, timeout: float | None = None
) -> tuple[Receiver, Any]:
    """Receive from whichever of `channels` has something first.

    Where several have, one is chosen at random, so that a busy channel starves none.
    Channels that are closed and drained are passed over.

    Args:
        *channels: 1 to 256 of them, subscriptions of broadcasts among them.
        timeout: Seconds to wait; None waits for ever, 0 does not wait.

    Returns:
        The channel, and the object that was received from it.

    Raises:
        ClosedError: All are closed and drained.
        LaggedError: One of them is a subscription that has missed objects.
        TimeoutError: Nothing came in time.
    """
    return _atoll.select(channels, timeout)
