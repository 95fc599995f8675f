"""ASGI's extensions of HTTP responses, each through sockets."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server, serving

APP = """
import asyncio, json, os, tempfile

FILE = os.path.join(tempfile.mkdtemp(), "file")
DATA = bytes(range(256)) * 8192
with open(FILE, "wb") as out:
    out.write(DATA)
EMPTY = FILE + "-empty"
open(EMPTY, "wb").close()

async def app(scope, receive, send):
    path = scope["path"]
    async def start(status=200, headers=(), **more):
        await send({"type": "http.response.start", "status": status,
                    "headers": headers, **more})
    async def body(data=b"", more=False):
        await send({"type": "http.response.body", "body": data, "more_body": more})
    async def refused(message):
        try:
            await send(message)
        except (RuntimeError, ValueError, KeyError, OSError, TypeError) as error:
            return type(error).__name__
        return "sent"
    if path == "/extensions":
        await start()
        await body(json.dumps(sorted(scope["extensions"])).encode())
    elif path == "/hints":
        for link in (b"</a.css>; rel=preload", b"</b.js>; rel=preload"):
            await send({"type": "http.response.early_hint", "links": [link]})
        await start()
        await body(b"page")
    elif path == "/bad-hint":
        answers = [await refused({"type": "http.response.early_hint",
                                  "links": [b"x\\r\\ny: z"]}),
                   await refused({"type": "http.response.early_hint"})]
        await start()
        answers.append(await refused({"type": "http.response.early_hint",
                                      "links": [b"</a>"]}))
        await body(json.dumps(answers).encode())
    elif path == "/trailers":
        await start(trailers=True)
        await body(b"one ", True)
        await body(b"two")
        await send({"type": "http.response.trailers", "headers": [(b"x-a", b"1")],
                    "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-b", b"2")]})
    elif path == "/no-trailers":
        await start()
        answers = [await refused({"type": "http.response.trailers", "headers": []})]
        await body(json.dumps(answers).encode())
    elif path == "/path":
        await start()
        await send({"type": "http.response.pathsend", "path": FILE})
    elif path == "/empty":
        await start()
        await send({"type": "http.response.pathsend", "path": EMPTY})
    elif path == "/absent":
        await start()
        await send({"type": "http.response.pathsend", "path": "/nowhere/at/all"})
    elif path == "/descriptor":
        await start()
        with open(FILE, "rb") as file:
            await send({"type": "http.response.zerocopysend", "file": file.fileno()})
    elif path == "/parts":
        await start()
        await body(b"begin ", True)
        with open(FILE, "rb") as file:
            await send({"type": "http.response.zerocopysend", "file": file.fileno(),
                        "offset": 65, "count": 3, "more_body": True})
        await body(b" end")
"""

DATA = bytes(range(256)) * 8192


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("extensions")
    with serving(folder, APP, "--loop", "asyncio") as running:
        yield running


def test_what_is_offered(server: Server) -> None:
    with server.connect() as raw:
        assert json.loads(raw.get("/extensions")[2]) == [
            "http.response.early_hint",
            "http.response.pathsend",
            "http.response.trailers",
            "http.response.zerocopysend",
        ]


def test_early_hints(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"GET /hints HTTP/1.1\r\nHost: x\r\n\r\n")
        links = []
        while True:
            status, headers, body = raw.answer()
            if status != 103:
                break
            links.append(headers["link"])
        assert links == ["</a.css>; rel=preload", "</b.js>; rel=preload"]
        assert (status, body) == (200, b"page")
        raw.send(b"GET /hints HTTP/1.0\r\n\r\n")  # knows no 103
        assert raw.answer()[:1] == (200,)


def test_hints_that_cannot_be(server: Server) -> None:
    with server.connect() as raw:
        answers = json.loads(raw.get("/bad-hint")[2])
        assert answers == ["ValueError", "KeyError", "RuntimeError"]


def test_trailers(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"GET /trailers HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n")
        head = raw.until(b"\r\n\r\n").lower()
        assert b"transfer-encoding: chunked" in head
        rest = raw.until(b"0\r\nx-a: 1\r\nx-b: 2\r\n\r\n")
        assert rest.startswith(b"4\r\none \r\n3\r\ntwo\r\n")
        assert json.loads(raw.get("/no-trailers")[2]) == ["RuntimeError"]


def test_trailers_over_h2(server: Server) -> None:
    pytest.importorskip("h2")
    import h2.events
    from h2_client import Client

    with Client(server) as client:
        stream = client.request("/trailers")
        assert client.answer(stream)[2] == b"one two"
        trailers = client.wait(lambda e: isinstance(e, h2.events.TrailersReceived))
        assert dict(trailers.headers) == {"x-a": "1", "x-b": "2"}
        assert client.answer(client.request("/path"))[2] == DATA


def test_files(server: Server) -> None:
    with server.connect() as raw:
        for path in ("/path", "/descriptor", "/path"):
            status, headers, body = raw.get(path)
            assert status == 200
            assert headers["content-length"] == str(len(DATA))
            assert body == DATA
        assert raw.get("/empty")[1]["content-length"] == "0"
        assert raw.get("/parts")[2] == b"begin ABC end"
        raw.send(b"HEAD /path HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.answer(head=True)[1]["content-length"] == str(len(DATA))
        assert raw.get("/absent")[0] == 500


def test_a_slow_reader_of_a_file(server: Server) -> None:
    import socket

    with server.connect() as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        raw.send(b"GET /path HTTP/1.1\r\nHost: x\r\n\r\n")
        with server.connect() as other:
            assert other.get("/extensions")[0] == 200
        assert raw.answer()[2] == DATA


def test_debug_is_for_who_asked_to_be_told_everything(tmp_path: Path) -> None:
    source = """
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        try:
            if scope["path"] == "/none":
                await send({"type": "http.response.debug"})
            else:
                info = {"template": "page.html"}
                await send({"type": "http.response.debug", "info": info})
            result = "sent"
        except (KeyError, RuntimeError) as error:
            result = type(error).__name__
        offered = "http.response.debug" in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = f"{result} {offered}".encode()
        await send({"type": "http.response.body", "body": body})
    """
    with serving(tmp_path, source, "--log-level", "debug") as server:
        with server.connect() as raw:
            assert raw.get("/page")[2] == b"sent True"
            assert raw.get("/none")[2] == b"KeyError True"
        server.wait_for(r"GET /page: debug: \{'template': 'page.html'\}")
    with serving(tmp_path, source) as server, server.connect() as raw:
        assert raw.get("/page")[2] == b"RuntimeError False"
