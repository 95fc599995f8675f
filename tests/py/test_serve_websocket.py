"""WebSocket through a socket: every ASGI message, the protocol's edges, the limits."""

import base64
import contextlib
import json
import os
import signal
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from serving import DEADLINE_S, Raw, Server, serving, wait_until

websockets = pytest.importorskip("websockets")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

APP = """
import asyncio, json

seen = []

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
        return
    assert scope["type"] == "websocket", scope
    path = scope["path"]
    assert await receive() == {"type": "websocket.connect"}
    accept = {"type": "websocket.accept"}
    if path == "/refuse":
        await send({"type": "websocket.close"})
        return
    if path == "/deny":
        await send({"type": "websocket.http.response.start", "status": 401,
                    "headers": [(b"x-why", b"because")]})
        await send({"type": "websocket.http.response.body", "body": b"who ",
                    "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"are you"})
        return
    if path == "/silent":
        return
    if path == "/raise":
        raise ValueError("before accept")
    if path == "/wait":
        assert (await receive())["type"] == "websocket.disconnect"
        seen.append("waited")
        return
    if path == "/scope":
        await send(accept)
        plain = {k: v for k, v in scope.items() if k not in ("headers", "state")}
        plain["headers"] = [[n.decode(), v.decode()] for n, v in scope["headers"]]
        for key in ("raw_path", "query_string"):
            plain[key] = plain[key].decode()
        await send({"type": "websocket.send", "text": json.dumps(plain)})
    elif path == "/subprotocol":
        await send({**accept, "subprotocol": scope["subprotocols"][-1],
                    "headers": [(b"x-one", b"1"), (b"x-one", b"2")]})
    elif path == "/split":
        try:
            await send({**accept, "headers": [(b"x", b"a\\r\\nb: c")]})
        except ValueError:
            await send(accept)
            await send({"type": "websocket.send", "text": "refused"})
    elif path == "/again":
        await send(accept)
        for message in (accept, {"type": "http.response.start", "status": 200},
                        {"type": "websocket.send"},
                        {"type": "websocket.send", "text": "a", "bytes": b"b"},
                        {"type": "websocket.send", "text": b"a"},
                        {"type": "websocket.close", "code": 5000}):
            try:
                await send(message)
            except (RuntimeError, ValueError, TypeError) as error:
                await send({"type": "websocket.send", "text": type(error).__name__})
        return
    elif path == "/raise-after":
        await send(accept)
        raise ValueError("after accept")
    elif path == "/close":
        await send(accept)
        await send({"type": "websocket.close", "code": 4001, "reason": "enough €"})
        after = await receive()
        try:
            await send({"type": "websocket.send", "text": "late"})
        except OSError as error:
            seen.append([after, type(error).__name__])
        return
    elif path == "/flood":
        await send(accept)
        for i in range(200):
            await send({"type": "websocket.send", "bytes": bytes([i]) * 65536})
        return
    elif path == "/slow":
        await send(accept)
        message = await receive()
        while message["type"] != "websocket.disconnect" and message["text"] != "go":
            message = await receive()
        count = 0
        await asyncio.sleep(0.2)
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "end":
                await send({"type": "websocket.send", "text": str(count)})
            else:
                count += 1
        return
    else:
        await send(accept)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            seen.append([path, message["code"], message["reason"]])
            assert (await receive())["type"] == "websocket.disconnect"
            return
        assert message["type"] == "websocket.receive"
        del message["type"]
        assert len(message) == 1
        await send({"type": "websocket.send", **message})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("websocket")
    options = ("--loop", "asyncio", "--ws-max-size", "100000")
    with serving(folder, APP, *options) as running:
        yield running


def dial(server: Server, path: str, **options: Any) -> Any:
    options.setdefault("open_timeout", DEADLINE_S)
    options.setdefault("close_timeout", DEADLINE_S)
    return connect(f"ws://127.0.0.1:{server.port}{path}", **options)


def seen(server: Server) -> Any:
    with server.connect() as raw:
        return json.loads(raw.get("/")[2])


def wait_seen(server: Server, entry: Any) -> None:
    """Wait until the application has met `entry`."""
    wait_until(lambda: entry in seen(server), lambda: (entry, seen(server)))


HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "{more}\r\n"
)


class RawSocket(Raw):
    """A client that sends frames as they are."""

    def __init__(self, server: Server, path: str = "/echo", more: str = "") -> None:
        super().__init__(server.port)
        self.send(HANDSHAKE.format(path=path, more=more).encode())
        self.head = self.until(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head

    def frame(self, first: int, payload: bytes = b"", masked: bool = True) -> None:
        self.send(frame(first, payload, masked))

    def receive(self) -> tuple[int, bytes]:
        first, length = self.exactly(2)
        assert length < 128, "a server does not mask"
        if length == 126:
            (length,) = struct.unpack(">H", self.exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.exactly(8))
        return first, self.exactly(length)

    def closed(self) -> tuple[int, str]:
        """The server's close frame, and the end of the connection behind it."""
        first, payload = self.receive()
        assert first == 0x88, (first, payload)
        # What was sent behind a refused frame may have come after the end.
        with contextlib.suppress(ConnectionResetError):
            assert self.rest() == b""
        code = struct.unpack(">H", payload[:2])[0] if payload else 1005
        return code, payload[2:].decode()


def frame(first: int, payload: bytes = b"", masked: bool = True) -> bytes:
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", first, bit | size)
    elif size < 65536:
        head = struct.pack(">BBH", first, bit | 126, size)
    else:
        head = struct.pack(">BBQ", first, bit | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(payload))


# ---- the ASGI messages ----


def test_echo_of_text_and_bytes(server: Server) -> None:
    for compression in (None, "deflate"):
        with dial(server, "/echo", compression=compression) as client:
            for message in (
                "hello",
                "",
                "ä€😀",
                b"bytes",
                b"",
                b"\0" * 70000,
                "x" * 999,
            ):
                client.send(message)
                assert client.recv(DEADLINE_S) == message


def test_scope(server: Server) -> None:
    with dial(server, "/scope?a=1", subprotocols=["one", "two"]) as client:
        local = list(client.local_address)
        scope = json.loads(client.recv(DEADLINE_S))
        assert scope["type"] == "websocket"
        assert scope["scheme"] == "ws"
        assert scope["http_version"] == "1.1"
        assert scope["path"] == scope["raw_path"] == "/scope"
        assert scope["query_string"] == "a=1"
        assert scope["root_path"] == ""
        assert scope["subprotocols"] == ["one", "two"]
        assert scope["client"] == local
        assert scope["server"] == ["127.0.0.1", server.port]
        assert "websocket.http.response" in scope["extensions"]
        assert "method" not in scope
        assert ["sec-websocket-version", "13"] in scope["headers"]


def test_accept_with_subprotocol_and_headers(server: Server) -> None:
    with dial(server, "/subprotocol", subprotocols=["one", "two"]) as client:
        assert client.subprotocol == "two"
        assert client.response.headers.get_all("x-one") == ["1", "2"]


def test_accept_key_is_rfc_6455s(server: Server) -> None:
    with RawSocket(server) as raw:
        fields = [line.partition(b": ") for line in raw.head.split(b"\r\n")]
        values = [v for n, _, v in fields if n.lower() == b"sec-websocket-accept"]
        assert values == [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]


def test_headers_cannot_split_the_answer(server: Server) -> None:
    with dial(server, "/split") as client:
        assert client.recv(DEADLINE_S) == "refused"


def test_close_before_accept_is_403(server: Server) -> None:
    with pytest.raises(InvalidStatus) as caught:
        dial(server, "/refuse")
    assert caught.value.response.status_code == 403


def test_denial_response(server: Server) -> None:
    with pytest.raises(InvalidStatus) as caught:
        dial(server, "/deny")
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["x-why"] == "because"
    with server.connect() as raw:
        raw.send(HANDSHAKE.format(path="/deny", more="").encode())
        assert raw.answer()[2] == b"who are you"


@pytest.mark.parametrize("path", ["/silent", "/raise"])
def test_no_answer_is_500(server: Server, path: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        dial(server, path)
    assert caught.value.response.status_code == 500


def test_messages_out_of_order(server: Server) -> None:
    with dial(server, "/again") as client:
        names = [client.recv(DEADLINE_S) for _ in range(6)]
        assert names == [
            "RuntimeError",
            "RuntimeError",
            "ValueError",
            "ValueError",
            "TypeError",
            "ValueError",
        ]


def test_an_exception_closes_with_1011(server: Server) -> None:
    with dial(server, "/raise-after") as client, pytest.raises(ConnectionClosed):
        client.recv(DEADLINE_S)
    assert client.close_code == 1011


def test_a_return_closes_with_1000(server: Server) -> None:
    with dial(server, "/again") as client:
        for _ in range(6):
            client.recv(DEADLINE_S)
        with pytest.raises(ConnectionClosed):
            client.recv(DEADLINE_S)
    assert client.close_code == 1000


def test_close_by_the_application(server: Server) -> None:
    with dial(server, "/close") as client, pytest.raises(ConnectionClosed):
        client.recv(DEADLINE_S)
    assert (client.close_code, client.close_reason) == (4001, "enough €")
    message = {"type": "websocket.disconnect", "code": 4001, "reason": "enough €"}
    wait_seen(server, [message, "ClientDisconnectedError"])


def test_close_by_the_client(server: Server) -> None:
    with dial(server, "/by-client") as client:
        client.close(4002, "bye")
    wait_seen(server, ["/by-client", 4002, "bye"])
    with RawSocket(server, "/without-code") as raw:
        raw.frame(0x88)
        assert raw.closed() == (1005, "")
    wait_seen(server, ["/without-code", 1005, ""])


def test_a_client_that_vanishes(server: Server) -> None:
    with RawSocket(server, "/vanishes") as raw:
        raw.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    wait_seen(server, ["/vanishes", 1006, ""])
    with RawSocket(server, "/shuts"):
        pass
    wait_seen(server, ["/shuts", 1006, ""])


def test_a_client_that_leaves_before_the_answer(server: Server) -> None:
    with server.connect() as raw:
        raw.send(HANDSHAKE.format(path="/wait", more="").encode())
    wait_seen(server, "waited")


# ---- the handshake ----


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("Version: 13", "Version: 8", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: short", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
    ],
)
def test_bad_handshakes(server: Server, old: str, new: str, status: int) -> None:
    with server.connect() as raw:
        request = HANDSHAKE.format(path="/echo", more="")
        assert old in request
        raw.send(request.replace(old, new).encode())
        answered, headers, _ = raw.answer()
        assert answered == status
        assert (headers.get("sec-websocket-version") == "13") == (status == 426)
        assert raw.rest() == b""


def test_frames_behind_the_handshake(server: Server) -> None:
    with server.connect() as raw:
        raw.send(
            HANDSHAKE.format(path="/echo", more="").encode() + frame(0x81, b"early")
        )
        raw.until(b"\r\n\r\n")
        assert raw.exactly(7) == b"\x81\x05early"


# ---- the protocol ----


def test_fragments_with_a_ping_between(server: Server) -> None:
    with RawSocket(server) as raw:
        raw.frame(0x01, b"one ")
        raw.frame(0x89, b"ping")
        raw.frame(0x00, b"two ")
        raw.frame(0x80, b"three")
        assert raw.receive() == (0x8A, b"ping")
        assert raw.receive() == (0x81, b"one two three")


def test_byte_by_byte(server: Server) -> None:
    with RawSocket(server) as raw:
        for byte in frame(0x82, bytes(range(200))) + frame(0x81, b"next"):
            raw.send(bytes([byte]))
        assert raw.receive() == (0x82, bytes(range(200)))
        assert raw.receive() == (0x81, b"next")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x81, b"not masked", masked=False), 1002),
        (frame(0x83), 1002),  # reserved opcode
        (frame(0x8B), 1002),
        (frame(0xC1, b"x"), 1002),  # compressed, though it was not agreed on
        (frame(0xA1, b"x"), 1002),
        (frame(0x80, b"x"), 1002),  # continuation of nothing
        (frame(0x01, b"x") + frame(0x81, b"y"), 1002),
        (frame(0x09, b"x"), 1002),  # control frame in fragments
        (frame(0x89, b"x" * 126), 1002),
        (frame(0x88, b"x"), 1002),  # half a close code
        (frame(0x88, struct.pack(">H", 1005)), 1002),
        (frame(0x88, struct.pack(">H", 999)), 1002),
        (frame(0x88, struct.pack(">H", 1000) + b"\xff"), 1007),
        (frame(0x81, b"\xff"), 1007),
        (frame(0x01, b"\xe2\x82") + frame(0x80, b"x"), 1007),
        (frame(0x82, b"x" * 100001), 1009),
        (frame(0x02, b"x" * 60000) + frame(0x80, b"x" * 60000), 1009),
    ],
)
def test_bad_frames_are_refused(server: Server, data: bytes, code: int) -> None:
    with RawSocket(server) as raw:
        with contextlib.suppress(ConnectionError):  # it ends before that is all sent
            raw.send(data)
        assert raw.closed()[0] == code


def test_a_small_frame_cannot_become_a_large_message(server: Server) -> None:
    import zlib

    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(b"\0" * 5_000_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
    more = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    with RawSocket(server, more=more) as raw:
        assert b"permessage-deflate" in raw.head
        raw.frame(0xC2, bomb[:-4])
        assert raw.closed()[0] == 1009


# ---- backpressure ----


def test_a_slow_reader_gets_everything(server: Server) -> None:
    with dial(server, "/flood", max_size=None) as client:
        for i in range(200):
            assert client.recv(DEADLINE_S) == bytes([i]) * 65536


def test_a_slow_application_gets_everything(server: Server) -> None:
    with dial(server, "/slow", compression=None) as client:
        client.send("go")
        for _ in range(1000):
            client.send("x" * 1000)
        client.send("end")
        assert client.recv(DEADLINE_S) == "1000"


# ---- timeouts and the end ----


def test_a_client_that_answers_pings_stays(tmp_path: Any) -> None:
    options = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", "60")
    with (
        serving(tmp_path, APP, "--loop", "asyncio", *options) as server,
        RawSocket(server) as raw,
    ):
        for _ in range(3):
            first, payload = raw.receive()
            assert first == 0x89
            raw.frame(0x8A, payload)


def test_a_silent_client_is_pinged_and_then_dropped(tmp_path: Any) -> None:
    options = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", "0.5")
    with serving(tmp_path, APP, "--loop", "asyncio", *options) as server:
        with RawSocket(server, "/mute") as raw:
            assert raw.receive()[0] == 0x89
            with pytest.raises((ConnectionResetError, EOFError)):
                raw.receive()
        wait_seen(server, ["/mute", 1006, ""])


def test_without_deflate(tmp_path: Any) -> None:
    options = ("--ws-per-message-deflate", "false", "--loop", "asyncio")
    with serving(tmp_path, APP, *options) as server, dial(server, "/echo") as client:
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        client.send("plain")
        assert client.recv(DEADLINE_S) == "plain"


def test_a_server_that_stops_says_1012(tmp_path: Any) -> None:
    with serving(tmp_path, APP, "--loop", "asyncio") as server:
        with dial(server, "/echo") as client:
            client.send("x")
            assert client.recv(DEADLINE_S) == "x"
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                client.recv(DEADLINE_S)
            assert client.close_code == 1012
        assert server.wait() == 0


def test_starlette_and_fastapi(tmp_path: Any) -> None:
    pytest.importorskip("fastapi")
    source = """
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect

    app = FastAPI()
    left = []

    @app.websocket("/chat/{name}")
    async def chat(socket: WebSocket, name: str):
        await socket.accept()
        try:
            while True:
                data = await socket.receive_json()
                await socket.send_json({"from": name, **data})
        except WebSocketDisconnect as gone:
            left.append([name, gone.code, gone.reason])

    @app.get("/")
    def all_left():
        return left
    """
    with serving(tmp_path, source) as server:
        with dial(server, "/chat/ann") as client:
            client.send('{"say": "hi"}')
            assert json.loads(client.recv(DEADLINE_S)) == {"from": "ann", "say": "hi"}
            client.close(1000, "done")
        wait_seen(server, ["ann", 1000, "done"])
        with pytest.raises(InvalidStatus) as caught:
            dial(server, "/nowhere")
        assert caught.value.response.status_code == 403


def test_many_at_once(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(dial(server, "/echo")) for _ in range(50)]
        for number, client in enumerate(clients):
            client.send(str(number))
        for number, client in enumerate(clients):
            assert client.recv(DEADLINE_S) == str(number)


def test_the_key_is_sixteen_bytes(server: Server) -> None:
    key = base64.b64encode(b"x" * 15).decode()
    with server.connect() as raw:
        request = HANDSHAKE.format(path="/echo", more="")
        raw.send(request.replace("dGhlIHNhbXBsZSBub25jZQ==", key).encode())
        assert raw.answer()[0] == 400
