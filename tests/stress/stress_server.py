"""A server under mixed load, while its workers are reloaded, killed and stuck.

    python tests/stress/stress_server.py --minutes 60 [--every 60] [--seed 1]

Clients send uneven requests over kept connections, bodies, streams that they read
slowly, heads that come byte by byte, and WebSocket messages. Every `--every` seconds the
server is sent SIGHUP, and some time later one worker dies or gets stuck: its loop is
stopped, or Python code, C code that keeps the GIL, or a sleep keeps it.

Every request that was sent whole must be answered: as it should be, or with 503 and
Retry-After while a worker is stuck or has died. An answer that has begun, and a
WebSocket, may be cut only then. Memory, descriptors and threads must not grow; the
server must end with 0. (With `--quick`, for tests, growth is not looked at, since the
last trouble needs its time.) It prints a line each `--every` seconds, and what went wrong.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PATIENCE_S = 60.0  # for an answer; nothing here takes that long
TROUBLE_S, TROUBLE_QUICK_S = 30.0, 600.0  # after a worker was made to die or get stuck
COMMAND = "from atoll.cli import main; main(prog_name='atoll')"
TROUBLES = ("/die", "/spin", "/later", "/gil?4000", "/block?4000")


class Lost(Exception):
    """An answer that did not come, or is not what it should be."""


class Cut(Exception):
    """The connection ended in the middle of an answer, or of a request."""


class Run:
    """What all clients share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.seed = options.seed
        self.trouble_s = TROUBLE_QUICK_S if options.quick else TROUBLE_S
        self.over = threading.Event()
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self.lock = threading.Lock()
        # Before the first trouble is made nothing is allowed; but in a quick run, which
        # is a test, the machine itself may be trouble enough.
        self.trouble_at = time.monotonic() if options.quick else -self.trouble_s
        self.port = 0

    def count(self, what: str) -> None:
        """One more."""
        with self.lock:
            self.counts[what] += 1

    def fail(self, what: str) -> None:
        """Something that must not be."""
        with self.lock:
            self.counts["FAILED"] += 1
            self.failures.append(f"{time.strftime('%H:%M:%S')} {what}")

    def in_trouble(self) -> bool:
        """May a worker be stuck or dead just now?"""
        return time.monotonic() - self.trouble_at < self.trouble_s


class Connection:
    """HTTP/1.1 as it should be; raises Lost and Cut."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.socket = socket.create_connection(("127.0.0.1", run.port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.ended = False

    def close(self) -> None:
        """End it."""
        self.socket.close()
        self.ended = True

    def send(self, data: bytes) -> None:
        """All of it; the other end may have answered and gone before."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self, pause: float = 0.0) -> bool:
        """Some more."""
        if pause:
            time.sleep(pause)
        try:
            data = self.socket.recv(16384)
        except ConnectionResetError:
            data = b""
        except TimeoutError:
            raise Lost(f"nothing came for {PATIENCE_S:g} s") from None
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`."""
        while mark not in self.buffer:
            if not self.receive():
                raise Cut(f"after {self.buffer[:60]!r}")
        at = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:at], self.buffer[at:]
        return taken

    def exactly(self, size: int, pause: float = 0.0) -> bytes:
        """So many bytes."""
        while len(self.buffer) < size:
            if not self.receive(pause):
                raise Cut("in a body")
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def answer(self, pause: float = 0.0) -> tuple[int, bytes]:
        """Status and body. Without a byte of it: Lost."""
        if not self.buffer and not self.receive():
            raise Lost("no answer")
        head = self.until(b"\r\n\r\n").lower()
        status = int(head.split(b" ", 2)[1])
        if status == 503 and b"retry-after" not in head:
            raise Lost("503 without Retry-After")
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(self.until(b"\r\n"), 16):
                body += self.exactly(size + 2, pause)[:-2]
            self.exactly(2)
        else:
            found = re.search(rb"content-length: (\d+)", head)
            body = self.exactly(int(found[1])) if found else b""
        if b"connection: close" in head:
            self.close()
        return status, body


def get(target: str) -> bytes:
    """A request's head."""
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


EMPTY = hashlib.sha256(b"").hexdigest().encode()


class Client(threading.Thread):
    """Does its kind of thing until the run is over."""

    kind = ""
    pause_s = 0.05

    def __init__(self, run: Run, number: int) -> None:
        super().__init__(name=f"{self.kind}-{number}", daemon=True)
        self.shared = run
        self.choose = random.Random(run.seed * 1000 + number)
        self.connection: Connection | None = None
        self.doing = ""

    def run(self) -> None:
        """The loop, and who is to blame."""
        while not self.shared.over.is_set():
            try:
                if self.connection is None or self.connection.ended:
                    self.connection = Connection(self.shared)
                    self.begin(self.connection)
                self.turn(self.connection)
            except Cut as error:
                if self.shared.in_trouble():
                    self.shared.count("cut")
                else:
                    self.shared.fail(f"{self.name} {self.doing}: cut {error}")
                self.drop()
            except Lost as error:
                self.shared.fail(f"{self.name} {self.doing}: {error}")
                self.drop()
            except Exception as error:
                self.shared.fail(f"{self.name} {self.doing}: {error!r}")
                self.drop()
            time.sleep(self.pause_s * self.choose.uniform(0.2, 1.8))
        self.drop()

    def drop(self) -> None:
        """The next turn begins with a new connection."""
        if self.connection is not None:
            self.connection.close()

    def begin(self, connection: Connection) -> None:
        """The connection is new."""

    def turn(self, connection: Connection) -> None:
        """One request or message."""
        raise NotImplementedError

    def expect(self, connection: Connection, body: bytes, pause: float = 0.0) -> None:
        """The next answer is 200 with that body, or 503 where there is trouble."""
        status, got = connection.answer(pause)
        if status == 200 and got == body:
            self.shared.count(self.kind)
        elif status == 503 and self.shared.in_trouble():
            self.shared.count("503")
        else:
            raise Lost(f"answered {status}, {len(got)} bytes")


class Uneven(Client):
    """Short requests, and now and then a longer one."""

    kind = "uneven"

    def turn(self, connection: Connection) -> None:
        """One of them, or two in one packet."""
        targets = ["/", "/", "/", "/", "/wait?40", "/burn?20", "/block?30"]
        self.doing = self.choose.choice(targets)
        count = self.choose.choice([1, 1, 1, 2])
        connection.send(get(self.doing) * count)
        for _ in range(count):
            self.expect(connection, EMPTY)
            if connection.ended:
                return  # what followed in the packet was not taken


class Bodies(Client):
    """Requests with bodies, in pieces."""

    kind = "bodies"
    pause_s = 0.1

    def turn(self, connection: Connection) -> None:
        """One of them."""
        body = self.choose.randbytes(self.choose.randrange(200_000))
        self.doing = f"POST of {len(body)}"
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.send(head.encode())
        for start in range(0, len(body), 65536):
            connection.send(body[start : start + 65536])
            time.sleep(0.005)
        self.expect(connection, hashlib.sha256(body).hexdigest().encode())


class Slow(Client):
    """Reads streams slowly, and sends heads byte by byte."""

    kind = "slow"
    pause_s = 0.3

    def turn(self, connection: Connection) -> None:
        """One of either."""
        if self.choose.random() < 0.5:
            count = self.choose.randrange(60)
            self.doing = f"/stream?{count}"
            connection.send(get(self.doing))
            body = b"".join(bytes([number % 251]) * 16384 for number in range(count))
            self.expect(connection, body, pause=0.005)
            return
        self.doing = "a slow head"
        head = get("/")
        for at in range(len(head) - 1):
            connection.send(head[at : at + 1])
            time.sleep(0.02)
        connection.send(head[-1:])
        try:
            self.expect(connection, EMPTY)
        except Lost:
            # It was on its way when its worker was given up.
            if not self.shared.in_trouble():
                raise
            raise Cut("a head") from None


class Messages(Client):
    """A WebSocket that checks its echo."""

    kind = "messages"

    def begin(self, connection: Connection) -> None:
        """Open it."""
        self.doing = "WebSocket"
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        connection.send(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            + f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        if not connection.receive():
            raise Lost("no answer")
        head = connection.until(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101 "):
            return
        connection.close()
        if not (head.startswith(b"HTTP/1.1 503 ") and self.shared.in_trouble()):
            raise Lost(f"answered {head[:12]!r}")
        self.shared.count("503")

    def turn(self, connection: Connection) -> None:
        """One message there and back."""
        if connection.ended:
            return
        data = self.choose.randbytes(self.choose.randrange(1, 120))
        connection.send(bytes([0x82, 0x80 | len(data), 0, 0, 0, 0]) + data)
        while True:
            first, size = connection.exactly(2)
            got = connection.exactly(size)
            if first == 0x88 and got[:2] == (1012).to_bytes(2, "big"):
                self.shared.count("restarted")
                connection.close()
                return
            if first == 0x89:  # a ping
                connection.send(bytes([0x8A, 0x80 | size, 0, 0, 0, 0]) + got)
                continue
            if first != 0x82 or got != data:
                raise Lost(f"frame {first:#x} of {size} bytes")
            self.shared.count(self.kind)
            return


class Server:
    """The process, its log and what it has."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", COMMAND, "serve", "server_app:app"),
                *("--port", "0", "--workers", str(options.workers)),
                *("--stuck-after", "0.8", "--replace-stuck-after", "1.6"),
                *("--timeout-drain", "10", "--timeout-head", "30"),
            ],
            cwd=Path(__file__).parent,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.lines: list[str] = []
        self.port = 0
        self.listens = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"listening on http://127.0.0.1:(\d+)", line):
                self.port = int(found[1])
                self.listens.set()
        self.listens.set()

    def usage(self) -> tuple[float, int, int]:
        """Resident megabytes, descriptors, threads."""
        folder = Path(f"/proc/{self.process.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        return (
            megabytes,
            len(list((folder / "fd").iterdir())),
            len(list((folder / "task").iterdir())),
        )


def trouble(run: Run, target: str) -> None:
    """Ask for it; whatever the answer, if there is one."""
    run.trouble_at = time.monotonic()
    run.count(target.partition("?")[0])

    def ask() -> None:
        try:
            connection = Connection(run)
            connection.send(get(target))
            connection.receive()
            connection.close()
        except (OSError, Lost):
            pass

    threading.Thread(target=ask, daemon=True).start()


def settle(run: Run, server: Server, every: float) -> tuple[float, int, int]:
    """What the server has when no trouble is left."""
    while run.in_trouble():
        time.sleep(0.1)
    time.sleep(min(every, 1))
    return server.usage()


def report(
    run: Run, begun: float, usage: tuple[float, int, int], failures: int
) -> None:
    """One line, and what is new of what went wrong."""
    with run.lock:
        counts = " ".join(f"{k} {v}" for k, v in sorted(run.counts.items()))
        fresh = run.failures[failures:]
    print(
        f"{time.monotonic() - begun:6.0f} s  {usage[0]:6.1f} MB  {usage[1]} fds  "
        f"{usage[2]} threads  {counts}",
        flush=True,
    )
    for failure in fresh:
        print("   ", failure, flush=True)


def disturb(run: Run, server: Server, options: argparse.Namespace) -> list[str]:
    """The run itself; what grew."""
    begun = time.monotonic()
    end = begun + options.minutes * 60
    choose = random.Random(options.seed)
    troubles: list[str] = []
    first = server.usage()
    turn = 0
    while time.monotonic() < end and server.process.poll() is None:
        seen = len(run.failures)
        server.process.send_signal(signal.SIGHUP)
        run.count("reloads")
        time.sleep(options.every / 2)
        if not troubles:
            troubles = list(TROUBLES)
            choose.shuffle(troubles)
        trouble(run, troubles.pop())
        time.sleep(options.every / 2)
        usage = server.usage()
        turn += 1
        if turn == 3:
            first = usage  # every kind of thing has been loaded once
        report(run, begun, usage, seen)
    if server.process.poll() is not None:
        return ["the server has ended by itself"]
    if options.quick:
        return []
    last = settle(run, server, options.every)
    print(f"at first {first}, at last {last}", flush=True)
    grown = []
    if last[0] > first[0] * 1.25 + 20 + options.minutes:
        grown.append(f"memory grew from {first[0]:.0f} to {last[0]:.0f} MB")
    if last[1] > first[1] + 8:
        grown.append(f"descriptors grew from {first[1]} to {last[1]}")
    if last[2] > first[2] + 8:
        grown.append(f"threads grew from {first[2]} to {last[2]}")
    return grown


def main() -> int:
    """Returns the exit code: 0, or 1 with everything that is wrong printed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help="do not wait for what the server has"
    )
    parser.add_argument("--log", type=Path, help="file for the server's log")
    options = parser.parse_args()
    server = Server(options)
    run = Run(options)
    server.listens.wait(PATIENCE_S)
    run.port = server.port
    kinds = [Uneven] * 4 + [Bodies, Slow, Slow, Messages, Messages]
    clients = [kind(run, number) for number, kind in enumerate(kinds)]
    try:
        for client in clients:
            client.start()
        wrong = disturb(run, server, options)
        run.over.set()
        for client in clients:
            client.join(PATIENCE_S)
            if client.is_alive():
                wrong.append(f"{client.name} does not end: {client.doing}")
        server.process.send_signal(signal.SIGINT)
        code = server.process.wait(PATIENCE_S)
        if code != 0:
            wrong.append(f"the server ended with {code}")
    finally:
        server.process.kill()
        server.process.wait()
    for kind in {client.kind for client in clients}:
        if run.counts[kind] == 0:
            wrong.append(f"nothing of the kind {kind} was answered")
    wrong += run.failures
    if options.log:
        options.log.write_text("".join(server.lines))
    elif wrong:
        print("".join(server.lines[-400:]))
    for text in wrong:
        print("WRONG:", text)
    print("ok" if not wrong else "FAILED")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
