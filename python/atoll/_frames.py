"""`sys._current_frames` and its like see one interpreter, as their callers expect."""

import sys

from atoll import _atoll

__all__ = ["install"]


def install() -> None:
    """Replace the two functions in this interpreter; src/bind/frames.c says why.

    Not on a free-threaded build: without a GIL, CPython alone can stop the threads.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return
    if "current-frames" in _atoll.left_out():
        return
    sys._current_frames = _atoll.current_frames
    sys._current_exceptions = _atoll.current_exceptions
