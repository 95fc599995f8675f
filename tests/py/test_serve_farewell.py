"""What clients are told whose worker does not come back: between two frames, or not at
all; over TLS too."""

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import DEADLINE_S, Server, serving

pytest.importorskip("h2")
pytest.importorskip("cryptography")
pytest.importorskip("websockets")
import h2.events
from certificates import Authority
from h2_client import Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

APP = """
import asyncio, os

SIZE = 32 << 20
started = []

def block():
    os.close(os.open("fifo", os.O_RDONLY))  # until somebody writes to it

def begin(awaitable):
    # What it does at once, as a task of its own would later.
    iterator = awaitable.__await__()
    next(iterator)
    started.append(iterator)

async def gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "block":
                block()
            elif message["text"] == "block in a frame":
                begin(send({"type": "websocket.send", "bytes": b"x" * SIZE}))
                block()
            await send({"type": "websocket.send", "text": message["text"]})
        return
    path = scope["path"]
    if path == "/wait":
        await gone(receive)
    head = {"type": "http.response.start", "status": 200, "headers": []}
    piece = {"type": "http.response.body", "body": b"begun", "more_body": True}
    if path == "/all":  # it is, of a HEAD
        await send(head)
        await send(piece)
        while (await receive())["type"] != "http.disconnect":
            pass
    if path == "/begin":
        await send(head)
        await send(piece)
        await gone(receive)
    elif path == "/block":
        block()
    elif path == "/block-with-body":
        await receive()
        block()
    elif path == "/block-in-a-frame":
        await asyncio.sleep(0.01)  # what is said during a read waits for its end
        await send(head)
        begin(send({**piece, "body": b"x" * SIZE}))
        block()
    await send(head)
    await send({"type": "http.response.body", "body": b"done"})
"""
QUICK = ("--stuck-after", "0.5", "--replace-stuck-after", "3", "--ws-max-size", "99")
INTERNAL_ERROR = 2


@contextlib.contextmanager
def blocking(folder: Path, *options: str) -> Iterator[Server]:
    """A server with one worker, which can block; it comes back at the end."""
    os.mkfifo(folder / "fifo")
    with serving(folder, APP, *QUICK, *options) as server:
        yield server
        (folder / "fifo").write_bytes(b"")  # returns when the other end was open


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def secure(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[tuple[str, ...], ssl.SSLContext | None]:
    """Options of the server and what a client needs."""
    if not request.param:
        return (), None
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "localhost", "127.0.0.1")
    options = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    return options, ssl.create_default_context(cafile=str(authority.path))


def end_of(client: Client, stream: int) -> Any:
    """How the server ended it: its status, or a reset's error."""
    ended = (h2.events.StreamEnded, h2.events.StreamReset)
    last = client.wait(lambda e: isinstance(e, ended) and e.stream_id == stream)
    if isinstance(last, h2.events.StreamReset):
        return f"error {last.error_code:d}"
    return client.answer(stream)[0]


def read_to_end(client: Client) -> None:
    """A missing close_notify would be an SSLEOFError."""
    while not client.ended:
        client.read()


@pytest.mark.parametrize("path", ["/block", "/block-with-body"])
def test_h2(tmp_path: Path, secure: Any, path: str) -> None:
    """Each request is answered 503, or broken off where its answer had begun."""
    options, context = secure
    with blocking(tmp_path, *options) as server, Client(server, context) as client:
        waiting = client.request("/wait")
        begun = client.request("/begin")
        is_begun = h2.events.DataReceived
        client.wait(lambda e: isinstance(e, is_begun) and e.stream_id == begun)
        if path == "/block":
            stuck = client.request(path)
        else:
            stuck = client.request(path, method="POST", end=False)
            client.send_body(stuck, b"body")
        assert end_of(client, stuck) == 503
        assert end_of(client, waiting) == 503
        assert client.answer(waiting)[1]["retry-after"] == "1"
        assert end_of(client, begun) == f"error {INTERNAL_ERROR}"
        is_goaway = h2.events.ConnectionTerminated
        goaway = client.wait(lambda e: isinstance(e, is_goaway))
        assert goaway.error_code == INTERNAL_ERROR
        assert goaway.last_stream_id == stuck
        read_to_end(client)
        server.wait_for("2 more requests were answered 503, 1 connections were cut")


def test_h2_whole_response(tmp_path: Path, secure: Any) -> None:
    """One whose request alone is not at its end is ended without an error."""
    options, context = secure
    with blocking(tmp_path, *options) as server, Client(server, context) as client:
        whole = client.request("/all", method="HEAD", end=False)
        assert client.answer(whole)[0] == 200
        client.request("/block")
        reset = client.wait(lambda e: isinstance(e, h2.events.StreamReset))
        assert (reset.stream_id, reset.error_code) == (whole, 0)
        read_to_end(client)


def test_h2_first_request(tmp_path: Path, secure: Any) -> None:
    """The client may not have had as much as the server's SETTINGS."""
    options, context = secure
    with blocking(tmp_path, *options) as server, Client(server, context) as client:
        assert end_of(client, client.request("/block")) == 503
        settings = h2.events.RemoteSettingsChanged
        assert isinstance(client.events[0], settings)
        read_to_end(client)


def test_websocket(tmp_path: Path, secure: Any) -> None:
    """Closed with 1012, also those beside the one that blocks."""
    options, context = secure
    with blocking(tmp_path, *options) as server:
        url = f"ws{'s' if context else ''}://localhost:{server.port}/"
        with contextlib.ExitStack() as stack:
            first, second = (
                stack.enter_context(connect(url, ssl=context, open_timeout=DEADLINE_S))
                for _ in range(2)
            )
            for client in (first, second):
                client.send("hello")
                assert client.recv(DEADLINE_S) == "hello"
            first.send("block")
            for client in (first, second):
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(DEADLINE_S)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
        server.wait_for("2 connections were cut")


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def test_a_websocket_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    """Nothing is said there: it would be the message's."""
    text = b"block in a frame"
    with blocking(tmp_path) as server, server.connect() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(HANDSHAKE)
        client.until(b"\r\n\r\n")
        client.send(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        server.wait_for("1 connections were cut")
        received = client.rest()
    assert received[:10] == b"\x82\x7f" + (32 << 20).to_bytes(8, "big")
    assert 10 < len(received) < (32 << 20)
    assert set(received[10:]) == {ord("x")}


def test_h2_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    with blocking(tmp_path) as server, Client(server) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.h2.update_settings({4: (1 << 31) - 1})  # INITIAL_WINDOW_SIZE
        client.h2.increment_flow_control_window((1 << 31) - 1 - 65535)
        client.flush()
        client.request("/block-in-a-frame")
        server.wait_for("1 connections were cut")
        received = b""
        while data := client.socket.recv(1 << 20):
            received += data
    kinds = []
    at = 0
    while at + 9 <= len(received):
        size = int.from_bytes(received[at : at + 3], "big")
        kinds.append(received[at + 3])
        payload = received[at + 9 : at + 9 + size]
        if kinds[-1] == 0:
            assert set(payload) == {ord("x")}
        at += 9 + size
    assert 0 in kinds
    assert 7 not in kinds
    assert at > len(received)  # the last was not whole
