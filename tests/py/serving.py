"""Servers as child processes, and clients that speak raw bytes, for the tests."""

import collections
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

from waiting import DEADLINE_S as DEADLINE_S
from waiting import wait_until as wait_until

COMMAND = "from atoll.cli import main; main(prog_name='atoll')"
LISTENING = re.compile(r"listening on https?://(\S+):(\d+) ")


class Server:
    """`atoll serve` in a child process, its log collected."""

    def __init__(self, folder: Path, *options: str, app: str = "main:app") -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "serve", app, "--port", "0", *options],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._port: int | None = None

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def log(self) -> str:
        with self._changed:
            return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until a line of the log matches."""
        found = re.compile(pattern)
        end = time.monotonic() + DEADLINE_S
        with self._changed:
            while True:
                for line in self.lines:
                    if match := found.search(line):
                        return match
                left = end - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    log = "".join(self.lines)
                    raise AssertionError(f"{pattern!r} never came in the log:\n{log}")
                self._changed.wait(min(left, 0.2))

    def wait_for_count(self, text: str, count: int) -> None:
        """Wait until the log has had that text so often."""
        self.wait_for_any_count((text,), count)

    def wait_for_any_count(self, texts: tuple[str, ...], count: int) -> None:
        """Wait until the log has had those texts so often, all together."""
        end = time.monotonic() + DEADLINE_S
        with self._changed:
            while sum("".join(self.lines).count(text) for text in texts) < count:
                left = end - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    log = "".join(self.lines)
                    raise AssertionError(f"{texts!r} came less often:\n{log}")
                self._changed.wait(min(left, 0.2))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Its process stands still meanwhile: what clients send comes in one go."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @property
    def port(self) -> int:
        if self._port is None:
            self._port = int(self.wait_for(LISTENING.pattern)[2])
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> "Raw":
        return Raw(self.port)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send the signal; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)


@contextlib.contextmanager
def serving(
    folder: Path, source: str, *options: str, check: bool = True
) -> Iterator[Server]:
    """Serve the application of `source`, which defines `app`; it must end with 0."""
    (folder / "main.py").write_text(textwrap.dedent(source))
    server = Server(folder, *options)
    try:
        _ = server.port
        yield server
        if check:
            assert server.stop() == 0, server.log
    finally:
        server.kill()


class Raw:
    """A client that sends bytes as they are and reads HTTP/1.1 answers."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.buffer = b""

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`."""
        while mark not in self.buffer:
            if not self._more():
                raise EOFError(f"{mark!r} never came: {self.buffer!r}")
        end = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:end], self.buffer[end:]
        return taken

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self._more():
                raise EOFError(f"{size} bytes never came: {self.buffer!r}")
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def rest(self) -> bytes:
        """Everything to the end of the connection."""
        while self._more():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def answer(self, head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """One response: status, headers, body with its framing undone."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status = lines[0].split(" ")[:2]
        assert version == "HTTP/1.1", lines
        headers = {}
        for line in filter(None, lines[1:]):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        code = int(status)
        if head or code in (204, 304) or code < 200:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        else:
            body = self.rest()
        return code, headers, body

    def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int(self.until(b"\r\n")[:-2], 16)
            chunk = self.exactly(size + 2)
            assert chunk.endswith(b"\r\n")
            if size == 0:
                return body
            body += chunk[:-2]

    def get(self, target: str = "/", *fields: str) -> tuple[int, dict[str, str], bytes]:
        head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *fields, "", ""])
        self.send(head.encode())
        return self.answer()


def different[T: Hashable](
    connect: Callable[[], Raw], ask: Callable[[Raw], T], count: int
) -> set[T]:
    """What `ask` gives over ever new connections, until so much of it is different.

    The last few stay open, since a new one goes to the worker that has fewest.
    """
    seen: set[T] = set()
    kept: collections.deque[Raw] = collections.deque()
    end = time.monotonic() + DEADLINE_S
    try:
        while len(seen) < count:
            assert time.monotonic() < end, seen
            if len(kept) == 32:
                kept.popleft().socket.close()
                time.sleep(0.01)
            kept.append(connect())
            seen.add(ask(kept[-1]))
    finally:
        for raw in kept:
            raw.socket.close()
    return seen
