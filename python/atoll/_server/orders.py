"""What a supervisor's process and the one above it say to each other.

JSON lines over a socket: {"order": NAME} downward, {"event": NAME, ...} upward. The
process above has the only other end, so its death is the end of the stream.
"""

import contextlib
import json
import socket
from typing import Any


class Orders:
    """The lower end.

    Args:
        control: The socket; owned from now on.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pending = b""
        self._taken: list[bytes] = []

    def fileno(self) -> int:
        """Readable when there are orders."""
        return self._control.fileno()

    def has_some(self) -> bool:
        """Have orders come together with the first line?"""
        return bool(self._taken)

    def take(self) -> list[str]:
        """The orders that have come; waits for one. "orphaned": nobody is above."""
        if not self._taken and not self._receive():
            return ["orphaned"]
        lines, self._taken = self._taken, []
        return [json.loads(line)["order"] for line in lines]

    def take_first(self) -> dict[str, Any]:
        """Wait for the first line, which says what to do. Raises EOFError."""
        while not self._taken:
            if not self._receive():
                raise EOFError("the process above is gone")
        first: dict[str, Any] = json.loads(self._taken.pop(0))
        return first

    def report(self, **fields: Any) -> None:
        """Say something to the process above; it may be gone."""
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(fields).encode() + b"\n")

    def close(self) -> None:
        """No more reports."""
        self._control.close()

    def _receive(self) -> bool:
        try:
            data = self._control.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        self._taken += lines
        return True


def send_line(control: socket.socket, **fields: Any) -> None:
    """The upper end: an order, or the first line; the process below may be gone."""
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(fields).encode() + b"\n")
