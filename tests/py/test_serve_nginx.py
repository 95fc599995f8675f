"""Behind a real nginx: kept-alive connections over TCP and a Unix socket, uploads,
server-sent events, WebSockets, and reloads under load."""

import collections
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import DEADLINE_S, Server, serving, wait_until

pytest.importorskip("websockets")
from websockets.sync.client import connect

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="there is no nginx")

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] + "!"})
        return
    size = 0
    while True:
        message = await receive()
        size += len(message["body"])
        if not message.get("more_body"):
            break
    kind = b"text/event-stream" if scope["path"] == "/events" else b"text/plain"
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", kind), (b"x-accel-buffering", b"no")]})
    if scope["path"] == "/events":
        for i in range(3):
            body = f"data: {i}\\n\\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body"})
        return
    body = f"{scope['client'][0]} {scope['scheme']} {size}".encode()
    await send({"type": "http.response.body", "body": body})
"""

#: As docs/guide/deployment.md has it, with what lets it run from any folder.
CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream app {{ server {upstream}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 50m;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For 203.0.113.7;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[int]:
    """nginx before that upstream; its port, which another may take before it does."""
    listens = folder / "nginx.pid"  # is written once it does
    while True:
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, upstream=upstream, port=port))
        process = subprocess.Popen(
            ["nginx", "-c", str(config), "-e", str(folder / "error.log")]
        )
        try:
            wait_until(lambda p=process: p.poll() is not None or listens.exists())
            if process.poll() is None:
                yield port
                return
        finally:
            process.terminate()
            process.wait(DEADLINE_S)
        assert "in use" in (folder / "error.log").read_text()


def check(port: int) -> None:
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S
    ) as client:
        for _ in range(3):
            assert client.get("/").text == "203.0.113.7 https 0"
        sent = client.post("/", content=b"x" * 5_000_000)
        assert sent.text == "203.0.113.7 https 5000000"
        assert client.get("/events").text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    url = f"ws://127.0.0.1:{port}/"
    with connect(url, open_timeout=DEADLINE_S) as client:
        client.send("hello")
        assert client.recv(DEADLINE_S) == "hello!"


def test_over_tcp_with_reloads(tmp_path: Path) -> None:
    with (
        serving(
            tmp_path,
            APP,
            *("--workers", "2", "--model", "interpreters"),
            *("--timeout-keep-alive", "75"),
        ) as server,
        nginx(tmp_path, f"127.0.0.1:{server.port}") as port,
    ):
        check(port)
        server.wait_for("all 2 workers serve")
        seen: collections.Counter[int] = collections.Counter()
        over = threading.Event()

        def load() -> None:
            with httpx.Client(timeout=DEADLINE_S) as client:
                while not over.is_set():
                    seen[client.get(f"http://127.0.0.1:{port}/").status_code] += 1

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(1, 3):
                server.process.send_signal(signal.SIGHUP)
                server.wait_for_count("a new one serves", 2 * turn)
        finally:
            over.set()
            for thread in threads:
                thread.join(DEADLINE_S)
        assert set(seen) == {200}, seen


def test_over_a_unix_socket() -> None:
    # A socket's path is short, where pytest's folders are not.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "main.py").write_text(APP)
        server = Server(folder, "--uds", str(folder / "app.sock"))
        try:
            server.wait_for("listening on unix:")
            with nginx(folder, f"unix:{folder}/app.sock") as port:
                check(port)
            assert server.stop() == 0, server.log
        finally:
            server.kill()
