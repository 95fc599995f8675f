"""The web row of `atoll bench`: requests a second of an application that computes.

The application burns about a millisecond of Python for each request, as a page of a
framework does, so that what is compared is how a server spreads that over its workers.
The client is a process of its own, with some keep-alive connections for each worker.
"""

import contextlib
import http.client
import importlib.util
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["app", "measure_web", "servers"]

STEPS = 20_000
CONNECTIONS = 4  # for each worker


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application."""
    if scope["type"] != "http":
        return
    total = 0
    for i in range(STEPS):
        total += i * i
    body = b"%d" % total
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


def servers(workers: int, port: int, python: str) -> dict[str, list[str]]:
    """Command lines by contender: what runs the application with so many workers."""
    name = "atoll.cli.bench_web:app"
    main = "from atoll.cli import main; main()"
    atoll = [python, "-c", main, "serve", name]
    atoll += ["--port", str(port), "--workers", str(workers), "--log-level", "error"]
    atoll += ["--no-access-log"]
    found = {
        f"atoll {model}": [*atoll, "--model", model]
        for model in ("interpreters", "threads", "processes")
    }
    if importlib.util.find_spec("uvicorn") is not None:
        found["multiprocessing"] = [
            *(python, "-m", "uvicorn", name, "--port", str(port)),
            *("--workers", str(workers), "--log-level", "error", "--no-access-log"),
        ]
    return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _ask_for(port: int, until: float, counts: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    count = 0
    while time.perf_counter() < until:
        connection.request("GET", "/")
        connection.getresponse().read()
        count += 1
    connection.close()
    counts.append(count)


def load(port: int, connections: int, seconds: float) -> float:
    """Requests a second that are answered on so many connections."""
    began = time.perf_counter()
    counts: list[int] = []
    threads = [
        threading.Thread(target=_ask_for, args=(port, began + seconds, counts))
        for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def measure_web(
    name: str, workers: int, quick: bool, python: str = sys.executable
) -> float | None:
    """Requests a second of a contender; None: it has no server here.

    Args:
        name: The contender.
        workers: How many workers it has.
        quick: For half a second only.
        python: The Python that it runs on, which has atoll installed if it is one of
            atoll's.
    """
    for _ in range(3):  # another program may take the port before the server does
        port = _free_port()
        command = servers(workers, port, python).get(name)
        if command is None:
            return None
        with _running(command) as server:
            until = time.monotonic() + 120
            while not _answers(port) and server.poll() is None:
                if time.monotonic() > until:
                    return None
                time.sleep(0.05)
            if server.poll() is None:
                return _measure_load(port, CONNECTIONS * workers, 0.5 if quick else 4)
    return None


def _measure_load(port: int, connections: int, seconds: float) -> float | None:
    """Requests a second, asked for by a process of its own; None: it broke off."""
    arguments = [str(port), str(connections), str(seconds)]
    try:
        done = subprocess.run(
            [sys.executable, str(Path(__file__)), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError:  # a connection broke, or stood still
        return None
    return float(done.stdout)


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The program meanwhile."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            yield server
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


if __name__ == "__main__":
    print(load(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
