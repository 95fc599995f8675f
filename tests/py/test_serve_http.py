"""HTTP/1.1 through a socket: framing, connections, limits, bad input."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from serving import Server, serving

APP = """
import asyncio, json

async def body_of(receive):
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            return body

async def app(scope, receive, send):
    assert scope["type"] == "http"
    path = scope["path"]
    headers = [(b"content-type", b"text/plain")]
    async def start(status=200, extra=()):
        await send({"type": "http.response.start", "status": status,
                    "headers": [*headers, *extra]})
    async def part(body, more=False):
        await send({"type": "http.response.body", "body": body, "more_body": more})
    if path == "/hello":
        await start(); await part(b"Hello")
    elif path == "/wait":
        await asyncio.sleep(0.01); await start(); await part(b"waited")
    elif path == "/echo":
        body = await body_of(receive)
        await start(); await part(body)
    elif path == "/at-hand":
        try:
            receive().send(None)
        except StopIteration as done:
            await start(); await part(done.value["body"])
    elif path == "/stream":
        await start()
        for i in range(5):
            await part(b"piece %d," % i, True)
            await asyncio.sleep(0)
        await part(b"end")
    elif path == "/big":
        await start()
        for i in range(64):
            await part(bytes([i]) * 65536, True)
        await part(b"")
    elif path == "/scope":
        plain = {k: v.decode("latin-1") if isinstance(v, bytes) else v
                 for k, v in scope.items() if k not in ("headers", "state")}
        plain["headers"] = [[n.decode(), v.decode()] for n, v in scope["headers"]]
        await start(); await part(json.dumps(plain).encode())
    elif path == "/empty":
        await start(204); await part(b"")
    elif path == "/length":
        await start(200, [(b"content-length", b"3")]); await part(b"abc")
    elif path == "/ignore":
        await start(); await part(b"ignored")
    elif path == "/close":
        await start(200, [(b"connection", b"close")]); await part(b"bye")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("http")
    options = ("--loop", "asyncio", "--limit-body", "1000000", "--limit-head", "8192")
    options += ("--timeout-head", "60")
    with serving(folder, APP, *options) as running:
        yield running


def test_keep_alive(server: Server) -> None:
    with server.connect() as raw:
        for target in ("/hello", "/wait", "/hello"):
            status, headers, body = raw.get(target)
            assert status == 200
            assert body in (b"Hello", b"waited")
            assert headers["content-length"] == str(len(body))
            assert "date" in headers


def test_connection_close_is_honoured(server: Server) -> None:
    with server.connect() as raw:
        status, headers, body = raw.get("/hello", "Connection: close")
        assert (status, body) == (200, b"Hello")
        assert headers["connection"] == "close"
        assert raw.rest() == b""
    with server.connect() as raw:
        assert raw.get("/close")[2] == b"bye"
        assert raw.rest() == b""


def test_http_1_0(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"GET /stream HTTP/1.0\r\n\r\n")
        data = raw.rest()
        assert b"chunked" not in data
        assert data.endswith(b"piece 4,end")
    with server.connect() as raw:
        raw.send(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert raw.answer()[1]["connection"] == "keep-alive"
        raw.send(b"GET /hello HTTP/1.0\r\n\r\n")
        assert raw.answer()[2] == b"Hello"
        assert raw.rest() == b""


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    targets = ["/hello", "/wait", "/stream", "/hello", "/length"] * 20
    expected = {
        "/hello": b"Hello",
        "/wait": b"waited",
        "/stream": b"piece 0,piece 1,piece 2,piece 3,piece 4,end",
        "/length": b"abc",
    }
    with server.connect() as raw:
        raw.send(
            "".join(f"GET {t} HTTP/1.1\r\nHost: x\r\n\r\n" for t in targets).encode()
        )
        for target in targets:
            assert raw.answer()[2] == expected[target]


def test_pipeline_before_the_end_of_input(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        raw.socket.shutdown(socket.SHUT_WR)
        for _ in range(3):
            assert raw.answer()[2] == b"waited"
        assert raw.rest() == b""


def test_a_request_byte_by_byte(server: Server) -> None:
    with server.connect() as raw:
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd"
        for byte in request * 2:
            raw.send(bytes([byte]))
        assert raw.answer()[2] == b"abcd"
        assert raw.answer()[2] == b"abcd"


def test_chunked_request(server: Server) -> None:
    with server.connect() as raw:
        raw.send(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: x\r\n\r\n"
            b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert raw.answer()[2] == b"Wikipedia"
        assert raw.answer()[2] == b"Hello"


def test_a_body_that_came_with_the_head_is_at_hand(server: Server) -> None:
    """The first receive() waits for nothing, and so the request for no loop."""
    with server.connect() as raw:
        for framing in (
            b"Content-Length: 4\r\n\r\nbody",
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        ):
            raw.send(b"POST /at-hand HTTP/1.1\r\nHost: x\r\n" + framing)
            assert raw.answer()[::2] == (200, b"body")


def test_chunked_response(server: Server) -> None:
    with server.connect() as raw:
        _, headers, body = raw.get("/stream")
        assert headers["transfer-encoding"] == "chunked"
        assert body == b"piece 0,piece 1,piece 2,piece 3,piece 4,end"


def test_expect_continue(server: Server) -> None:
    with server.connect() as raw:
        head = b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        raw.send(head % b"/echo" + b"Content-Length: 5\r\n\r\n")
        assert raw.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.send(b"12345")
        assert raw.answer()[2] == b"12345"
        # An application that does not ask for the body answers at once, and the
        # connection ends, since the client may or may not send it.
        raw.send(head % b"/ignore" + b"Content-Length: 5\r\n\r\n")
        status, headers, body = raw.answer()
        assert (status, body) == (200, b"ignored")
        assert headers["connection"] == "close"
        assert raw.rest() == b""


def test_head_has_no_body(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, _ = raw.answer(head=True)
        assert status == 200
        assert headers["content-length"] == "5"
        assert raw.get("/hello")[2] == b"Hello"


def test_204_has_no_body_and_no_length(server: Server) -> None:
    with server.connect() as raw:
        status, headers, _ = raw.get("/empty")
        assert status == 204
        assert "content-length" not in headers
        assert "transfer-encoding" not in headers
        assert raw.get("/hello")[2] == b"Hello"


def test_a_body_that_nobody_reads_is_passed_over(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n")
        raw.send(b"x" * 70000)
        assert raw.answer()[2] == b"ignored"
        assert raw.get("/hello")[2] == b"Hello"


def test_slow_reader_gets_everything(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        _, _, body = raw.answer()
        assert body == b"".join(bytes([i]) * 65536 for i in range(64))


def test_scope(server: Server) -> None:
    import json

    with server.connect() as raw:
        _, _, body = raw.get("/scope?a=1&b=%20", "X-One: 1", "X-One: 2")
        scope = json.loads(body)
        assert scope["path"] == "/scope"
        assert scope["raw_path"] == "/scope"
        assert scope["query_string"] == "a=1&b=%20"
        assert scope["http_version"] == "1.1"
        assert scope["method"] == "GET"
        assert scope["scheme"] == "http"
        assert scope["root_path"] == ""
        assert scope["asgi"]["version"] == "3.0"
        assert scope["server"] == ["127.0.0.1", server.port]
        assert scope["client"] == list(raw.socket.getsockname())
        assert scope["headers"] == [["host", "x"], ["x-one", "1"], ["x-one", "2"]]


def test_path_is_decoded(server: Server) -> None:
    with server.connect() as raw:
        assert raw.get("/%68ello")[2] == b"Hello"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
        ),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n", 413),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
            400,
        ),
    ],
)
def test_bad_input_is_refused(server: Server, request_: bytes, status: int) -> None:
    with server.connect() as raw:
        raw.send(request_)
        answered, headers, _ = raw.answer()
        assert answered == status
        assert headers["connection"] == "close"
        assert raw.rest() == b""


def test_too_large_chunked_body_is_refused(server: Server) -> None:
    with server.connect() as raw:
        raw.send(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):  # it ends before that is all sent
            raw.send((b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17)
        status, _, _ = raw.answer()
        assert status == 413
