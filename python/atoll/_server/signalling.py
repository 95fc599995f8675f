"""Signals of the server as bytes in a socket, so that its loop wakes up for them."""

import contextlib
import signal
from collections.abc import Iterator

#: What the server acts on.
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@contextlib.contextmanager
def signals_into(descriptor: int) -> Iterator[None]:
    """Meanwhile each signal is a byte, its number; only on the main thread.

    Args:
        descriptor: A socket's, that does not block; borrowed.
    """
    before = {number: signal.signal(number, lambda *_: None) for number in NUMBERS}
    wakeup = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
