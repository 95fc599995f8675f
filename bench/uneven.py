"""Requests of uneven length: what the others feel of the few that are slow.

16 keep-alive connections, 800 requests a second (open loop: each is due at its moment,
whatever became of those before it), two workers. Every hundredth request burns 50 ms of
its worker's CPU. What counts is the latency of the other 99 %, from the moment a request
was due. A server that splits connections between its workers once and for all keeps half
of them waiting behind each slow one.

The slow ones are due every 125 ms, so that two never run at once, and with perfect
dispatch nobody waits for a worker. What is left is the processor: with two of them, one
of which burns, server and client share the other. "bound" measures that: the same server
and the same load, but the slow requests go to a process of their own, which burns as
long. No dispatch can do better on the machine as it is at that moment.

(Slow requests that come by chance would meet: 8 a second of 50 ms keep both workers busy
for 5.4 % of the time, by Erlang's formula for two servers and a load of 0.4, and then
p99 is 28 ms with perfect dispatch: (1 - t / 50 ms)^2 of those 5.4 % wait longer than t.)

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

from _needs import need

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
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""

BURNER = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        with listener.accept()[0] as client:
            while client.recv(4096):
                end = time.thread_time() + 0.05
                while time.thread_time() < end:
                    pass
                client.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\nok")
"""

COMMANDS = {
    "atoll": ["-c", "from atoll.cli import main; main()", "serve", "main:app",
              "--workers", "2", "--port", "{port}", "--log-level", "warning"],
    "uvicorn": ["-m", "uvicorn", "main:app", "--workers", "2", "--port", "{port}",
                "--log-level", "warning", "--no-access-log", "--timeout-keep-alive", "60"],
    "granian": ["-m", "granian", "--interface", "asgi", "--workers", "2",
                "--port", "{port}", "--log-level", "warning", "main:app"],
}  # fmt: skip
COMMANDS["bound"] = COMMANDS["atoll"]
CONNECTIONS, RATE, SLOW_EVERY = 16, 800, 100


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def connect(port: int) -> socket.socket:
    end = time.monotonic() + 30
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), 1)
            client.sendall(request("/"))
            answer = b""
            while not answer.endswith(b"ok") and (data := client.recv(4096)):
                answer += data
            if answer.startswith(b"HTTP/1.1 200"):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.setblocking(False)
                return client
        except OSError:
            pass
        if time.monotonic() > end:
            raise RuntimeError("the server does not answer")
        time.sleep(0.1)


def drive(port: int, seconds: float, burner: int = 0) -> dict[str, float]:
    """Latencies in ms of the requests that do not burn.

    Args:
        port: Of the server.
        seconds: How long.
        burner: Port of a process that serves the requests that do; 0: the server.
    """
    apart = connect(burner) if burner else None
    clients = [connect(port) for _ in range(CONNECTIONS)]
    selector = selectors.DefaultSelector()
    for client in [*clients, apart] if apart else clients:
        selector.register(client, selectors.EVENT_READ)
    free = collections.deque(clients)
    running: dict[socket.socket, tuple[float, bool]] = {}
    waiting: collections.deque[tuple[float, bool]] = collections.deque()
    parts: dict[socket.socket, bytes] = {}
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
            if slow and apart in running:
                waiting.append((due, slow))
                break
            client = apart if slow and apart else free.popleft()
            running[client] = due, slow
            client.sendall(request("/burn" if slow else "/"))
        timeout = max(0.0, begin + sent / RATE - time.perf_counter())
        for key, _ in selector.select(timeout if sent < total else 5):
            client = key.fileobj  # type: ignore[assignment]
            answer = parts.pop(client, b"") + client.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not answered with 200: {answer!r}")
            if not answer.endswith(b"ok"):
                parts[client] = answer  # some send head and body one by one
                continue
            due, slow = running.pop(client)
            answered += 1
            if not slow:
                latencies.append((time.perf_counter() - due) * 1000)
            if client is not apart:
                free.append(client)
    if apart is not None:
        apart.close()
    for client in clients:
        client.close()
    latencies.sort()

    def at(share: float) -> float:
        return round(latencies[int(share * (len(latencies) - 1))], 3)

    return {"p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def measure(name: str, folder: str, seconds: float) -> dict[str, float]:
    port, burner = free_port(), free_port() if name == "bound" else 0
    command = [part.format(port=port) for part in COMMANDS[name]]
    processes = [subprocess.Popen([sys.executable, *command], cwd=folder)]
    if burner:
        processes.append(subprocess.Popen([sys.executable, "-c", BURNER, str(burner)]))
    try:
        connect(port).close()
        drive(port, 1, burner)
        return drive(port, seconds, burner)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--servers", default=",".join(COMMANDS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    need(set(options.servers.split(",")) & {"uvicorn", "granian"})
    results: dict[str, list[dict[str, float]]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.py").write_text(APP)
        for _ in range(options.rounds):
            for name in options.servers.split(","):
                result = measure(name, folder, options.seconds)
                results[name].append(result)
                print(f"{name:10}", *(f"{k} {v:8.2f}" for k, v in result.items()))
    print()
    for name, rounds in results.items():
        best = min(result["p99_ms"] for result in rounds)
        line = f"{name:10} p99 {best:8.2f} ms"
        if "bound" in results:
            bound = min(result["p99_ms"] for result in results["bound"])
            line += f", {best / bound:5.1f} times the bound"
        print(line)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
