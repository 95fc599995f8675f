"""Health, readiness, metrics and overload: answered in C, also while Python is stuck."""

import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import DEADLINE_S, Raw, Server, serving, wait_until

#: /stuck keeps its worker, with the GIL of its interpreter, until a file appears.
SOURCE = """
import asyncio
import os
import time

HERE = os.path.dirname(os.path.abspath(__file__))


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/stuck":
        open(HERE + "/is-stuck", "w").close()
        while not os.path.exists(HERE + "/go"):
            time.sleep(0.005)
    if scope["path"] == "/waits":
        os.close(os.open(HERE + "/waits-" + scope["query_string"].decode(), os.O_CREAT))
        while not os.path.exists(HERE + "/go"):
            await asyncio.sleep(0.005)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})
"""

WSGI = """
import os
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def app(environ, start_response):
    if environ["PATH_INFO"] == "/stuck":
        open(HERE + "/is-stuck", "w").close()
        while not os.path.exists(HERE + "/go"):
            time.sleep(0.005)
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode()]
"""


def control(server: Server) -> int:
    return int(server.wait_for(r"control on http://127\.0\.0\.1:(\d+)")[1])


def fetch(port: int, path: str) -> tuple[int, str]:
    with Raw(port) as client:
        status, _, body = client.get(path, "Connection: close")
        return status, body.decode()


def ask_until_served(raw: Raw, target: str) -> bytes:
    """A worker that gets no time for long enough is overloaded, and says so."""
    end = time.monotonic() + DEADLINE_S
    while (answer := raw.get(target))[0] != 200:
        assert answer[0] == 503, answer
        assert time.monotonic() < end, answer
        time.sleep(0.01)
    return answer[2]


def make_stuck(server: Server, folder: Path) -> Raw:
    """Have one more worker stuck; the connection that waits for it."""
    file = folder / "is-stuck"
    file.unlink(missing_ok=True)
    client = Raw(server.port)
    end = time.monotonic() + DEADLINE_S
    while not file.exists():
        client.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        # Refused, where the worker had no time; otherwise there is no answer.
        while not file.exists() and not select.select([client.socket], [], [], 0.01)[0]:
            assert time.monotonic() < end
        if not file.exists():
            assert client.answer()[0] == 503
    return client


def wait_ready(port: int) -> None:
    end = time.monotonic() + DEADLINE_S
    while (answer := fetch(port, "/ready"))[0] != 200:
        assert answer[0] == 503, answer
        assert time.monotonic() < end, answer
        time.sleep(0.01)


def parse(text: str) -> dict[str, float]:
    """The samples of a text in Prometheus's format, which must be well-formed."""
    samples: dict[str, float] = {}
    kinds: dict[str, str] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert family not in kinds, f"{family} comes in two places"
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family
            kinds[name] = kind
        else:
            match = re.fullmatch(r'(\w+)(\{(?:\w+="[^"]*",?)*\})? (\S+)', line)
            assert match, line
            assert match[1].startswith(family), line
            if kinds[family] == "counter":
                assert match[1].endswith("_total"), line
            samples[match[1] + (match[2] or "")] = float(match[3])
    return samples


def test_paths_on_the_main_listener(tmp_path: Path) -> None:
    with serving(
        tmp_path,
        SOURCE,
        *("--health-path", "/-/health", "--ready-path", "/-/ready"),
        *("--metrics-path", "/-/metrics"),
    ) as server:
        assert fetch(server.port, "/-/health") == (200, "ok\n")
        assert fetch(server.port, "/-/ready") == (200, "ok\n")
        assert fetch(server.port, "/health") == (200, "/health")
        status, text = fetch(server.port, "/-/metrics")
        assert status == 200
        assert parse(text)['atoll_requests_total{worker="0"}'] == 4
        with Raw(server.port) as client:
            client.send(b"HEAD /-/health HTTP/1.1\r\nHost: x\r\n\r\n")
            status, headers, _ = client.answer(head=True)
            assert status == 200
            assert headers["content-length"] == "3"
            assert headers["cache-control"] == "no-store"
            client.send(
                b"POST /-/health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            )
            assert client.answer()[2] == b"/-/health"  # the application's


def test_no_path_is_the_servers_by_default(tmp_path: Path) -> None:
    with serving(tmp_path, SOURCE) as server:
        for path in ("/metrics", "/health", "/ready"):
            assert fetch(server.port, path) == (200, path)


def test_a_listener_of_its_own(tmp_path: Path) -> None:
    with serving(
        tmp_path, SOURCE, "--control-bind", "127.0.0.1:0", "--workers", "2"
    ) as server:
        port = control(server)
        wait_ready(port)
        assert fetch(server.port, "/health") == (200, "/health")
        assert fetch(port, "/health") == (200, "ok\n")
        assert fetch(port, "/other")[0] == 404
        samples = parse(fetch(port, "/metrics")[1])
        assert samples["atoll_ready"] == 1
        workers = [f'{{worker="{i}"}}' for i in range(2)]
        assert [samples["atoll_worker_up" + one] for one in workers] == [1, 1]
        assert sum(samples["atoll_requests_total" + one] for one in workers) == 1
        assert samples['atoll_requests_total{worker="control"}'] >= 3
        for one in workers:
            if "t" not in sys.abiflags:  # threads of one interpreter have one heap
                assert samples["atoll_worker_memory_bytes" + one] > 1 << 20
            last = f'{one[:-1]},le="+Inf"}}'
            count = samples["atoll_latency_seconds_count" + one]
            assert samples["atoll_latency_seconds_bucket" + last] == count


def test_a_unix_socket_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with serving(tmp_path, SOURCE, "--control-bind", f"unix:{path}") as server:
        server.wait_for("control on unix:")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_S)
            client.connect(str(path))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    assert not path.exists()


@pytest.mark.parametrize("source", [SOURCE, WSGI], ids=["asgi", "wsgi"])
def test_stuck_workers_do_not_keep_health_from_being_answered(
    tmp_path: Path, source: str
) -> None:
    options = ["--control-bind", "127.0.0.1:0", "--workers", "2", "--threads", "1"]
    with serving(tmp_path, source, *options) as server:
        port = control(server)
        wait_ready(port)
        stuck = [make_stuck(server, tmp_path) for _ in range(2)]
        assert fetch(port, "/health") == (200, "ok\n")
        samples = parse(fetch(port, "/metrics")[1])
        running = [samples[f'atoll_running_requests{{worker="{i}"}}'] for i in range(2)]
        assert running == [1, 1]
        (tmp_path / "go").touch()
        for client in stuck:
            assert client.answer()[2] == b"/stuck"
            client.socket.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_requests_that_wait_for_stuck_workers_are_answered_503(
    tmp_path: Path, workers: str
) -> None:
    """From C, over connections that are kept and over new ones; then all goes on."""
    options = ("--max-queue-delay", "0.2", "--control-bind", "127.0.0.1:0")
    with serving(tmp_path, SOURCE, *options, "--workers", workers) as server:
        port = control(server)
        wait_ready(port)
        kept = [Raw(server.port) for _ in range(4)]
        for client in kept:
            ask_until_served(client, "/before")
        stuck = [make_stuck(server, tmp_path) for _ in range(int(workers))]
        refused = 'atoll_overload_total{worker="control"}'
        before = parse(fetch(port, "/metrics")[1])[refused]
        for client in kept:
            status, headers, body = client.get("/x")
            assert (status, headers["retry-after"]) == (503, "1")
            assert b"overloaded" in body
            assert headers.get("connection") != "close"
        with Raw(server.port) as fresh:
            assert fresh.get("/x")[0] == 503
            assert fresh.get("/x")[0] == 503
        assert fetch(port, "/ready") == (503, "requests wait too long\n")
        assert fetch(port, "/health")[0] == 200
        assert parse(fetch(port, "/metrics")[1])[refused] == before + 6
        (tmp_path / "go").touch()
        for client in stuck:
            assert client.answer()[2] == b"/stuck"
            client.socket.close()
        wait_ready(port)
        for client in kept:
            assert ask_until_served(client, "/after") == b"/after"
            client.socket.close()


def test_a_queue_that_stays_too_long_is_refused_and_a_burst_is_not(
    tmp_path: Path,
) -> None:
    """Each request takes 100 ms: some ten are served in time, and the rest is not.

    The first takes as long as the clients need to send the others.
    """
    source = """
    import os, time

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        if scope["path"] == "/works":
            open("begun", "w").close()
            time.sleep(0.1)
            while not os.path.exists("all-are-sent"):
                time.sleep(0.005)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
    """
    with serving(tmp_path, source, "--max-queue-delay", "1") as server:
        clients = [Raw(server.port) for _ in range(40)]
        for client in clients:
            ask_until_served(client, "/")
        request = b"GET /works HTTP/1.1\r\nHost: x\r\n\r\n"
        first = clients[0]
        first.send(request)
        while not (tmp_path / "begun").exists():
            if select.select([first.socket], [], [], 0.01)[0]:
                assert first.answer()[0] == 503  # the worker had no time
                first.send(request)
        for client in clients[1:]:
            client.send(request)
        (tmp_path / "all-are-sent").touch()
        answers = [client.answer() for client in clients]
        refused = [headers for status, headers, _ in answers if status == 503]
        served = [body for status, _, body in answers if status == 200]
        assert len(refused) + len(served) == 40
        # A second and an interval of 0.1 s hold eleven; all 40 would take four seconds.
        assert len(served) >= 1
        assert len(refused) >= 5
        assert all(headers["retry-after"] == "1" for headers in refused)
        # Until the balancer looks again, the control thread may go on for the worker.
        ask_until_served(first, "/")
        for client in clients:
            client.socket.close()


def test_requests_at_a_time(tmp_path: Path) -> None:
    with serving(tmp_path, SOURCE, "--limit-concurrency", "2") as server:
        running = [Raw(server.port) for _ in range(2)]
        for number, client in enumerate(running):
            request = f"GET /waits?{number} HTTP/1.1\r\nHost: x\r\n\r\n"
            client.send(request.encode())
            wait_until((tmp_path / f"waits-{number}").exists)
        with Raw(server.port) as client:
            status, headers, _ = client.get("/")
            assert (status, headers["retry-after"]) == (503, "1")
            # A body that comes with it is no harm, and the connection is kept.
            client.send(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            assert client.answer()[0] == 503
            assert client.answer()[0] == 503
            (tmp_path / "go").touch()
            for one in running:
                assert one.answer()[0] == 200
                one.socket.close()
            ask_until_served(client, "/")  # the last may still be in its account


def test_a_websocket_is_refused_with_503_too(tmp_path: Path) -> None:
    with (
        serving(tmp_path, SOURCE, "--limit-concurrency", "1") as server,
        Raw(server.port) as running,
        Raw(server.port) as client,
    ):
        running.send(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until((tmp_path / "waits-").exists)
        client.send(
            b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert client.answer()[0] == 503
        (tmp_path / "go").touch()
        assert running.answer()[0] == 200


@pytest.fixture
def crowd() -> Iterator[list[Raw]]:
    clients: list[Raw] = []
    yield clients
    for client in clients:
        client.socket.close()


def test_too_many_connections(tmp_path: Path, crowd: list[Raw]) -> None:
    """Connections that rest make room; where none does, the client is told."""
    options = ("--max-connections", "4", "--control-bind", "127.0.0.1:0")
    with serving(tmp_path, SOURCE, *options) as server:
        port = control(server)
        for _ in range(4):
            crowd.append(Raw(server.port))
            assert crowd[-1].get("/")[0] == 200
        crowd.append(Raw(server.port))
        assert crowd[-1].get("/fifth")[2] == b"/fifth"
        assert crowd[0].rest() == b""  # the one that had rested longest
        for client in crowd[1:5]:
            client.send(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        metric = 'atoll_running_requests{worker="0"}'
        wait_until(lambda: parse(fetch(port, "/metrics")[1])[metric] == 4)
        crowd.append(Raw(server.port))
        status, headers, body = crowd[-1].get("/")
        assert (status, headers["connection"]) == (503, "close")
        assert b"too many connections" in body
        assert crowd[-1].rest() == b""
        # A flood: beyond those that are told, connections are closed at once.
        for _ in range(40):
            crowd.append(Raw(server.port))
        closed = sum(client_is_closed(client) for client in crowd[6:])
        assert 40 - (4 + 4 // 16 + 16) <= closed <= 40
        refused = parse(fetch(port, "/metrics")[1])['atoll_refused_total{worker="0"}']
        assert refused == 41
        (tmp_path / "go").touch()
        for client in crowd[1:5]:
            assert client.answer()[2] == b"/waits"


def client_is_closed(client: Raw) -> bool:
    """Closed without a word; otherwise there is an answer for who asks."""
    try:
        return client.get("/")[0] != 503
    except (EOFError, ConnectionError):
        return True


def test_a_bad_address_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SOURCE)
    server = Server(tmp_path, "--control-bind", "nonsense")
    assert server.wait() == 1
    assert "'nonsense' is neither host:port nor unix:path" in server.log
