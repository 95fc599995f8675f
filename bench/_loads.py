"""Loads for a server: HTTP/1.1 by wrk, HTTP/2 by h2load, WebSockets by a client here.

Each gives requests, requests/s, latency in ms at the median and the 99th percentile, and
how many failed.
"""

import os
import re
import selectors
import socket
import subprocess
import tempfile
import time
from pathlib import Path

UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}
CONNECTIONS = 32
STREAMS = 8  # of an HTTP/2 connection, of which there are a quarter as many


def milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(\w+)", text)
    assert match is not None, text
    return float(match[1]) * UNITS[match[2]]


def wrk(port: int, target: str, script: Path | None, seconds: int) -> dict[str, float]:
    """One run of wrk."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    if script is not None:
        command += ["-s", str(script)]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{target}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {
        "requests": re.search(r"(\d+) requests in", out),
        "rate": re.search(r"Requests/sec:\s+([\d.]+)", out),
        "p50": re.search(r"^ +50%\s+(\S+)", out, re.M),
        "p99": re.search(r"^ +99%\s+(\S+)", out, re.M),
    }
    if not all(found.values()):
        raise SystemExit(f"wrk said:\n{out}")
    errors = sum(
        int(number)
        for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", out)
    )
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", out):
        errors += int(bad[1])
    text = {name: match[1] for name, match in found.items() if match}
    return {
        "requests": float(text["requests"]),
        "rate": float(text["rate"]),
        "p50": milliseconds(text["p50"]),
        "p99": milliseconds(text["p99"]),
        "errors": errors,
    }


def h2load(port: int, target: str, seconds: int) -> dict[str, float]:
    """One run of h2load: HTTP/2 without TLS, by prior knowledge."""
    with tempfile.NamedTemporaryFile() as log:
        out = subprocess.run(
            [
                "h2load",
                "-t1",
                f"-c{CONNECTIONS // 4}",
                f"-m{STREAMS}",
                f"-D{seconds}",
                f"--log-file={log.name}",
                f"http://127.0.0.1:{port}{target}",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        # When it began, the status, and microseconds.
        lines = [line.split() for line in Path(log.name).read_text().splitlines()]
    rate = re.search(r"([\d.]+) req/s", out)
    if not lines or rate is None:
        raise SystemExit(f"h2load said:\n{out}")
    good = sorted(int(line[2]) / 1000 for line in lines if line[1] == "200")
    return summary(good, float(rate[1]), len(lines) - len(good))


def websocket(port: int, seconds: int) -> dict[str, float]:
    """Messages to an application that sends each back, one at a time for a socket."""
    mask = b"\1\2\3\4"
    text = b"a message of a chat, not long"
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
    frame = bytes([0x81, 0x80 | len(text)]) + mask + masked
    answer = bytes([0x81, len(text)]) + text
    selector = selectors.DefaultSelector()
    for _ in range(CONNECTIONS):
        selector.register(shake_hands(port), selectors.EVENT_READ, [0.0, b""])
    times: list[float] = []
    begin = now = time.perf_counter()
    for key in list(selector.get_map().values()):
        key.fileobj.send(frame)
        key.data[0] = now
    while now < begin + seconds:
        for key, _ in selector.select(1):
            key.data[1] += key.fileobj.recv(4096)
            if len(key.data[1]) < len(answer):
                continue
            if key.data[1] != answer:
                raise SystemExit(f"not what was sent: {key.data[1]!r}")
            now = time.perf_counter()
            times.append((now - key.data[0]) * 1000)
            key.data[:] = now, b""
            key.fileobj.send(frame)
        now = time.perf_counter()
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    return summary(sorted(times), len(times) / (now - begin), 0)


def shake_hands(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    client.sendall(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            raise SystemExit(f"no WebSocket: {head!r}")
        head += byte
    return client


def summary(times: list[float], rate: float, errors: int) -> dict[str, float]:
    """Of latencies in order, in ms."""
    return {
        "requests": float(len(times)),
        "rate": rate,
        "p50": times[len(times) // 2] if times else 0.0,
        "p99": times[len(times) * 99 // 100] if times else 0.0,
        "errors": errors,
    }


def write_file(folder: Path, size_bytes: int) -> None:
    """What the static case serves."""
    (folder / "files").mkdir()
    (folder / "files" / "file.bin").write_bytes(os.urandom(size_bytes))
