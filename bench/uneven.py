"""Requests of uneven length: what the others feel of the few that are slow.

16 keep-alive connections, 800 requests a second (open loop: each is due at its moment,
whatever became of those before it), two workers. Every hundredth request keeps its
worker busy for 50 ms of wall-clock time. What counts is the latency of the other 99 %,
from the moment a request was due. A server that splits connections between its workers
once and for all keeps half of them waiting behind each slow one.

    python bench/uneven.py [--seconds 20] [--rounds 2] [--json FILE]
"""

import argparse
import collections
import json
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

APP = """
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/burn":
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""

COMMANDS = {
    "atoll": ["-c", "from atoll.cli import main; main()", "serve", "main:app",
              "--workers", "2", "--port", "{port}", "--log-level", "warning"],
    "uvicorn": ["-m", "uvicorn", "main:app", "--workers", "2", "--port", "{port}",
                "--log-level", "warning", "--no-access-log", "--timeout-keep-alive", "60"],
    "granian": ["-m", "granian", "--interface", "asgi", "--workers", "2",
                "--port", "{port}", "--log-level", "warning", "main:app"],
}  # fmt: skip
CONNECTIONS, RATE, SLOW_EVERY = 16, 800, 100


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def connect(port: int) -> socket.socket:
    end = time.monotonic() + 30
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), 1)
            client.sendall(request("/"))
            if client.recv(4096).startswith(b"HTTP/1.1 200"):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.setblocking(False)
                return client
        except OSError:
            pass
        if time.monotonic() > end:
            raise RuntimeError("the server does not answer")
        time.sleep(0.1)


def drive(port: int, seconds: float) -> dict[str, float]:
    """Latencies in ms of the requests that do not burn."""
    clients = [connect(port) for _ in range(CONNECTIONS)]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client, selectors.EVENT_READ)
    free = collections.deque(clients)
    running: dict[socket.socket, tuple[float, bool]] = {}
    waiting: collections.deque[tuple[float, bool]] = collections.deque()
    latencies: list[float] = []
    total = int(seconds * RATE)
    begin = time.perf_counter()
    sent = answered = 0
    while answered < total:
        now = time.perf_counter()
        while sent < total and begin + sent / RATE <= now:
            waiting.append((begin + sent / RATE, sent % SLOW_EVERY == SLOW_EVERY // 2))
            sent += 1
        while waiting and free:
            due, slow = waiting.popleft()
            client = free.popleft()
            running[client] = due, slow
            client.sendall(request("/burn" if slow else "/"))
        timeout = max(0.0, begin + sent / RATE - time.perf_counter())
        for key, _ in selector.select(timeout if sent < total else 5):
            client = key.fileobj  # type: ignore[assignment]
            if not client.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("not answered with 200")
            due, slow = running.pop(client)
            answered += 1
            if not slow:
                latencies.append((time.perf_counter() - due) * 1000)
            free.append(client)
    for client in clients:
        client.close()
    latencies.sort()

    def at(share: float) -> float:
        return round(latencies[int(share * (len(latencies) - 1))], 3)

    return {"p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1)}


def measure(name: str, folder: str, seconds: float) -> dict[str, float]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [part.format(port=port) for part in COMMANDS[name]]
    server = subprocess.Popen([sys.executable, *command], cwd=folder)
    try:
        connect(port).close()
        drive(port, 1)
        return drive(port, seconds)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--servers", default=",".join(COMMANDS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.py").write_text(APP)
        for _ in range(options.rounds):
            for name in options.servers.split(","):
                result = measure(name, folder, options.seconds)
                results[name].append(result)
                print(f"{name:10}", *(f"{k} {v:8.2f}" for k, v in result.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
