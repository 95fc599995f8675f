"""Threads whose start a signal handler may have cut off.

`Thread.start` waits for the thread, and what a handler raises there leaves nobody who
knows whether there is one. So the thread says itself that it begins, unless it was
called off by then. No step here takes a lock of Python's: from CPython 3.14 on a handler
may raise after one was taken and before `with` guards it.
"""

import contextlib
from collections.abc import Iterable, Iterator

from atoll._atoll import Event

__all__ = ["Claims"]


class Claims:
    """Who has begun, by number, and who is not to.

    Args:
        count: How many there are: 0, 1, ...
    """

    def __init__(self, count: int) -> None:
        # Whether each begins; who comes first says it (`setdefault` is one step).
        self._begins: dict[int, bool] = {}
        self._done = [Event() for _ in range(count)]

    @contextlib.contextmanager
    def claim(self, number: int) -> Iterator[bool]:
        """Begin; False where it was called off."""
        try:
            yield self._begins.setdefault(number, True)
        finally:
            self._done[number].set()

    def call_off(self) -> list[int]:
        """From now on nobody begins; those who have."""
        numbers = range(len(self._done))
        return [number for number in numbers if self._begins.setdefault(number, False)]

    def wait(self, numbers: Iterable[int]) -> None:
        """Wait until these are done."""
        for number in numbers:
            self._done[number].wait()
