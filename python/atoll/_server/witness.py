"""A worker's witness: a thread that can say what the others do when they are stuck.

The supervisor cannot see into another interpreter. So each worker has a thread that
waits for its questions, without the GIL, and answers with the Python stack of a thread
that serves, or raises an exception in it. Where C code keeps the GIL the witness keeps
silent, and that is an answer too.

The questions are JSON lines: {"ask": "stack" or "interrupt", "thread": native id}, or
`THE_FIRST` for the thread that imports the application. With "end" instead the worker
is told that it is to end, whether there are threads that serve or not. The answers:
{"event": "stack", "thread": the same, "text": the stack, most recent call last}, as
`traceback` writes it, without the server's own frames. `THE_FIRST` stands also for the
threads on which an application's own start runs; one whose event loop waits meanwhile
has its loop tell what for.
"""

import contextlib
import itertools
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

#: Stands for the thread that made the witness, and for those that start.
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
        "selectors",
        "threading",
    }
)


#: Has its argument called, on any thread, with the frames of what waits.
Where = Callable[[Callable[[Iterable[FrameType]], None]], object]


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
        self._serving: dict[int, _Serving] = {}
        self._first = threading.get_ident()
        self._starting: dict[int, Where] = {}  # by ident
        self._thread = threading.Thread(
            target=self._answer, name="atoll-witness", daemon=True
        )
        self._thread.start()

    @contextlib.contextmanager
    def starting(self, where: Where) -> Iterator[None]:
        """Meanwhile the application's own start runs on the calling thread.

        Args:
            where: Asks the event loop what it waits for. It may raise RuntimeError.
        """
        ident = threading.get_ident()
        with self._lock:
            self._starting[ident] = where
        try:
            yield
        finally:
            with self._lock:
                del self._starting[ident]

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
        if native_id == THE_FIRST:
            with self._lock:
                starting = dict(self._starting)
            idents: tuple[int, ...] = (self._first, *starting.keys() - {self._first})
        else:
            idents, starting = self._who(native_id).idents, {}
        texts = [text for ident in idents if (text := _format(_frames(ident)))]
        if texts or not starting:
            self._report(event="stack", thread=native_id, text="\n".join(texts))
            return
        for where in starting.values():
            with contextlib.suppress(RuntimeError):  # its loop is closed
                where(self._tell_frames)

    def _tell_frames(self, frames: Iterable[FrameType]) -> None:
        self._report(event="stack", thread=THE_FIRST, text=_format(_theirs(frames)))

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
    return _theirs(reversed(frames))


def _theirs(frames: Iterable[FrameType]) -> list[FrameType]:
    return list(itertools.dropwhile(_is_own, frames))


def _format(frames: Iterable[FrameType]) -> str:
    lines = ((frame, frame.f_lineno) for frame in frames)
    return "".join(traceback.StackSummary.extract(lines).format())


def _is_own(frame: FrameType) -> bool:
    return (
        frame.f_code.co_filename.startswith((_OWN_FOLDER, "<frozen "))
        or frame.f_globals.get("__name__") in _LOOP_MODULES
    )
