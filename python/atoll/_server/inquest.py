"""The stack of a thread whose GIL cannot be had: taken by a signal, from outside.

While C code keeps an interpreter's GIL, nothing of Python can run in it. But CPython's
`faulthandler` walks the stack of the thread that a signal interrupts, without the GIL:
the thread stands still meanwhile, being the one that walks.
"""

import faulthandler
import importlib
import linecache
import os
import re
import select
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

#: One that nothing else uses: glibc has the first ones for itself.
SIGNAL = signal.SIGRTMAX - 3
#: What a main thread writes last that began with `python -c`.
OUTERMOST = b'  File "<string>", line 1 in <module>\n'
#: Seconds for the thread to write its stack: one in an uninterruptible wait cannot.
PATIENCE_S = 0.3

# Ours, and the importer's: a thread's outermost frames, which say nothing.
_OWN = (str(Path(__file__).parent.parent), importlib.__file__, "<")
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')


class _Pipe:
    """What the threads write into. Once there it stays: a thread may write late."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        faulthandler.register(SIGNAL, file=self.writer, all_threads=False)


def read(source: "socket.socket | int", patience_s: float, last: bytes = b"") -> bytes:
    """What comes until nothing has come for so long, or the other end is closed.

    Or until it ends with `last`, if that says something.
    """
    text = b""
    descriptor = source if isinstance(source, int) else source.fileno()
    poll = select.poll()  # select() takes no number above 1023
    poll.register(descriptor, select.POLLIN)
    while poll.poll(patience_s * 1000):
        try:
            more = os.read(descriptor, 65536)
        except ConnectionResetError:
            break
        if not more:
            break
        text += more
        if last and text.endswith(last):
            break
    return text


_lock = threading.Lock()
_pipe: _Pipe | None = None


def take_stack(send: Callable[[int], bool]) -> str:
    """Have a thread of this process write its Python stack.

    Args:
        send: Sends the signal of that number to the thread; False: it has gone.

    Returns:
        The frames, most recent call last, as `traceback` writes them; "" where there
        was no answer.
    """
    global _pipe
    with _lock:
        try:
            _pipe = _pipe or _Pipe()
        except OSError:  # no descriptors are left
            return ""
        read(_pipe.reader, 0)
        if not send(SIGNAL):
            return ""
        return frames_of(read(_pipe.reader, PATIENCE_S))


def frames_of(said: bytes) -> str:
    """What `faulthandler` wrote, as `traceback` does: most recent call last."""
    lines = []
    found = _FRAME.findall(said.decode(errors="replace"))
    theirs = len(found)
    while theirs and found[theirs - 1][0].startswith(_OWN):
        theirs -= 1
    for name, number, function in reversed(found[: theirs or None]):
        lines.append(f'  File "{name}", line {number}, in {function}\n')
        if source := linecache.getline(name, int(number)).strip():
            lines.append(f"    {source}\n")
    return "".join(lines)
