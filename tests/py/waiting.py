"""Waiting for the very thing that a test asserts, however slow the machine is."""

import time
from collections.abc import Callable

DEADLINE_S = 120.0


def wait_until(condition: Callable[[], object], what: object = "") -> None:
    """Until it is true; `what` is told where it never is, and called if it can be."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        told = what() if callable(what) else what
        assert time.monotonic() < end, told or "it never happened"
        time.sleep(0.01)
