"""A worker's witness: a thread that can say what the others do when they are stuck.

The supervisor cannot see into another interpreter. So each worker has a thread that
waits for its questions, without the GIL, and answers with the Python stack of a thread
that serves, or raises an exception in it. Where C code keeps the GIL the witness keeps
silent, and that is an answer too.

The questions are JSON lines: {"ask": "stack" or "interrupt", "thread": native id}, or
`THE_FIRST` for the thread that imports the application. With "end" instead the worker
is told that it is to end, whether there are threads that serve or not. The answers:
{"event": "stack", "thread": the same, "text": the stack, most recent call last}, as
`traceback` writes it, without the server's own frames.
"""

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

#: Stands for the thread that made the witness, before any serves.
THE_FIRST = 0
#: Seconds for an event loop to show that it gets on.
GLANCE_S = 0.1
#: Frames of these are the server's and the loop's, where they stand outermost.
_OWN_FOLDER = str(Path(__file__).parent.parent)
_LOOP_MODULES = frozenset(
    {
        "asyncio.base_events",
        "asyncio.events",
        "asyncio.runners",
        "importlib",
        "threading",
    }
)


class _Serving(NamedTuple):
    """Threads that serve as one, and how they are interrupted."""

    idents: tuple[int, ...]
    interrupt: Callable[[], object] | None


class Witness:
    """Answers questions about threads that have entered.

    Args:
        control: Descriptor of the socket to the supervisor; borrowed.
        report: Sends an answer.
    """

    def __init__(self, control: int, report: Callable[..., None]) -> None:
        self._control = control
        self._report = report
        self._end: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._serving = {THE_FIRST: _Serving((threading.get_ident(),), None)}
        self._thread = threading.Thread(
            target=self._answer, name="atoll-witness", daemon=True
        )
        self._thread.start()

    def enter(
        self,
        interrupt: Callable[[], object] | None = None,
        idents: Sequence[int] = (),
    ) -> None:
        """The calling thread serves from now on.

        Args:
            interrupt: Raises `RequestTimeout` in what it runs, if that does not end.
                None: it is not interrupted.
            idents: Threads that serve in its place (`threading.get_ident()`).
        """
        idents = tuple(idents) or (threading.get_ident(),)
        with self._lock:
            self._serving[threading.get_native_id()] = _Serving(idents, interrupt)

    def leave(self) -> None:
        """The calling thread serves no more."""
        with self._lock:
            self._serving.pop(threading.get_native_id(), None)

    def when_asked(self, end: Callable[[], None]) -> None:
        """Have `end` called, on the witness' thread, when the worker is to end."""
        self._end = end

    def close(self) -> None:
        """Answer no more questions."""
        # Which ends the wait. A copy of the descriptor might not be had, and the thread
        # must not be left to read from whatever gets the number next.
        control = socket.socket(fileno=self._control)
        try:
            control.shutdown(socket.SHUT_RD)
        finally:
            control.detach()
        self._thread.join()

    def _answer(self) -> None:
        pending = b""
        while data := os.read(self._control, 4096):
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                question = json.loads(line)
                if question["ask"] == "stack":
                    self._tell_stack(question["thread"])
                elif question["ask"] == "end":
                    if self._end is not None:
                        self._end()
                else:
                    self._interrupt(question["thread"])

    def _who(self, native_id: int) -> "_Serving":
        with self._lock:
            return self._serving.get(native_id, _Serving((), None))

    def _tell_stack(self, native_id: int) -> None:
        texts = []
        for ident in self._who(native_id).idents:
            summary = traceback.StackSummary.extract(
                (frame, frame.f_lineno) for frame in _frames(ident)
            )
            if text := "".join(summary.format()):
                texts.append(text)
        self._report(event="stack", thread=native_id, text="\n".join(texts))

    def _interrupt(self, native_id: int) -> None:
        serving = self._who(native_id)
        if serving.interrupt is not None:
            serving.interrupt()


def interrupt_stuck(worker: Any, ident: int) -> None:
    """Raise `RequestTimeout` in what an event loop's thread runs, if it is stuck.

    The question that led here may have waited for the GIL, and the loop may have moved
    on. So it is asked once more; what it does between two batches is let be.

    Args:
        worker: The `_atoll.Worker`.
        ident: `threading.get_ident()` of the loop's thread.
    """
    try:
        batches = worker.ask()
    except RuntimeError:  # it is closed
        return
    time.sleep(GLANCE_S)
    if _frames(ident):
        worker.interrupt(batches)


def _frames(ident: int) -> list[FrameType]:
    """Of that thread, outermost first, without the server's own."""
    frame = sys._current_frames().get(ident)
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    while frames and _is_own(frames[-1]):
        frames.pop()
    return frames[::-1]


def _is_own(frame: FrameType) -> bool:
    return (
        frame.f_code.co_filename.startswith((_OWN_FOLDER, "<frozen "))
        or frame.f_globals.get("__name__") in _LOOP_MODULES
    )
