"""HTTP/2 through a socket: with httpx, with the h2 package, with nghttp's tools."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import DEADLINE_S, Server, serving, wait_until

pytest.importorskip("h2")
pytest.importorskip("cryptography")
import h2.events
import h2.settings
from certificates import Authority
from h2_app import APP, serving_h2
from h2_client import Client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_h2(tmp_path_factory.mktemp("h2")) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def lost(server: Server) -> Any:
    with Client(server) as client:
        return json.loads(client.answer(client.request("/lost"))[2])


def wait_lost(server: Server, entry: Any) -> None:
    wait_until(lambda: entry in lost(server)[0], lambda: (entry, lost(server)))


# ---- requests ----


def test_httpx_over_tls_and_plain(tmp_path: Path, authority: Authority) -> None:
    httpx = pytest.importorskip("httpx")
    certificate, key = authority.issue("server", "localhost")
    files = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    with serving(tmp_path, APP, "--loop", "asyncio", *files) as server:
        trust = ssl.create_default_context(cafile=str(authority.path))
        url = f"https://localhost:{server.port}"
        with httpx.Client(http2=True, verify=trust, timeout=DEADLINE_S) as client:
            answer = client.get(url + "/scope?a=1", headers={"cookie": "a=1; b=2"})
            assert answer.http_version == "HTTP/2"
            scope = answer.json()
            assert scope["http_version"] == "2"
            assert scope["scheme"] == "https"
            assert scope["extensions"]["tls"]["tls_version"] == 0x304
            assert scope["query_string"] == "a=1"
            assert ["host", f"localhost:{server.port}"] in scope["headers"]
            assert ["cookie", "a=1; b=2"] in scope["headers"]
            body = bytes(range(256)) * 8000
            assert client.post(url + "/echo", content=body).content == body
        with httpx.Client(http2=False, verify=trust, timeout=DEADLINE_S) as client:
            assert client.get(url + "/scope").json()["http_version"] == "1.1"


def test_no_http2(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("server", "localhost")
    files = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    with serving(tmp_path, APP, "--loop", "asyncio", "--no-http2", *files) as server:
        context = ssl.create_default_context(cafile=str(authority.path))
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
        with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
            assert wrapped.selected_alpn_protocol() == "http/1.1"


def test_answers(server: Server) -> None:
    with Client(server) as client:
        status, fields, body = client.answer(client.request("/hello"))
        assert (status, body) == (200, b"hello")
        assert fields["content-length"] == "5"
        assert "date" in fields
        status, fields, body = client.answer(client.request("/hello", method="HEAD"))
        assert (status, fields["content-length"], body) == (200, "5", b"")
        status, fields, body = client.answer(client.request("/empty"))
        assert (status, body) == (204, b"")
        assert "content-length" not in fields
        status, fields, body = client.answer(client.request("/length"))
        assert body == b"abc"
        assert "connection" not in fields
        assert client.answer(client.request("/raise"))[0] == 500
        # Whole by its Content-Length before the application failed.
        for _ in range(2):
            assert client.answer(client.request("/whole"))[2] == bytes(500000)
        scope = json.loads(client.answer(client.request("/scope?q=%20"))[2])
        assert scope["scheme"] == "http"
        assert scope["query_string"] == "q=%20"
        assert scope["method"] == "GET"


def test_many_streams_at_once(server: Server) -> None:
    with Client(server) as client:
        streams = [client.request("/sleep") for _ in range(50)]
        fast = client.request("/hello")
        assert client.answer(fast)[2] == b"hello"
        for stream in streams:
            assert client.answer(stream)[2] == b"slept"


def test_bodies_both_ways(server: Server) -> None:
    with Client(server) as client:
        for path in ("/echo", "/slow-echo"):
            stream = client.request(path, method="POST", end=False)
            body = bytes(range(256)) * 10000
            client.send_body(stream, body)
            assert client.answer(stream)[2] == body


def test_too_large_bodies(server: Server) -> None:
    with Client(server) as client:
        length = ("content-length", "3000001")
        stream = client.request("/echo", length, method="POST", end=False)
        head = client.wait(lambda e: isinstance(e, h2.events.ResponseReceived))
        assert (head.stream_id, dict(head.headers)[":status"]) == (stream, "413")
    with Client(server) as client:
        stream = client.request("/echo", method="POST", end=False)
        sent = 0
        while not any(isinstance(e, h2.events.ResponseReceived) for e in client.events):
            room = client.h2.local_flow_control_window(stream)
            size = min(room, client.h2.max_outbound_frame_size)
            if size == 0:
                client.read()
                continue
            client.h2.send_data(stream, b"x" * size)
            client.flush()
            sent += size
        assert sent >= 3000000
        head = client.wait(lambda e: isinstance(e, h2.events.ResponseReceived))
        assert dict(head.headers)[":status"] == "413"


# ---- flow control ----


def test_a_client_that_opens_no_window_blocks_itself_alone(server: Server) -> None:
    with Client(server) as client:
        client.auto_window = False
        before = lost(server)[1]["pieces"]
        blocked = client.request("/stream")

        def received() -> int:
            return sum(
                e.flow_controlled_length
                for e in client.events
                if isinstance(e, h2.events.DataReceived) and e.stream_id == blocked
            )

        while received() < 65535:
            client.read()
        client.h2.increment_flow_control_window(1 << 20)  # the connection's alone
        client.flush()
        assert client.answer(client.request("/hello"))[2] == b"hello"
        # The application waits in send(): it is ahead by the high-water mark at most.
        ahead = lost(server)[1]["pieces"] - before
        assert 0 < ahead * 40000 <= 65535 + (256 << 10) + 2 * 40000
        client.auto_window = True
        client.h2.increment_flow_control_window(1 << 24, blocked)
        client.h2.increment_flow_control_window(1 << 24)
        client.flush()
        expected = b"".join(bytes([i]) * 40000 for i in range(100))
        assert client.answer(blocked)[2] == expected


def test_a_body_that_is_not_read_stops_at_the_window(server: Server) -> None:
    with Client(server) as client:
        stream = client.request("/sleep", method="POST", end=False)
        client.wait(lambda e: isinstance(e, h2.events.RemoteSettingsChanged))
        while (room := client.h2.local_flow_control_window(stream)) > 0:
            size = min(room, client.h2.max_outbound_frame_size)
            client.h2.send_data(stream, b"x" * size)
            client.flush()
        assert client.answer(stream)[2] == b"slept"


# ---- ends ----


def test_a_reset_is_a_disconnect(server: Server) -> None:
    with Client(server) as client:
        stream = client.request("/wait")
        other = client.request("/hello")
        assert client.answer(other)[2] == b"hello"
        client.h2.reset_stream(stream, 8)
        client.flush()
        wait_lost(server, "/wait")
        assert client.answer(client.request("/hello"))[2] == b"hello"


def test_a_closed_connection_is_a_disconnect(server: Server) -> None:
    count = lost(server)[0].count("/slow-echo")
    with Client(server) as client:
        client.request("/slow-echo", method="POST", end=False)
        client.answer(client.request("/hello"))
    wait_until(lambda: lost(server)[0].count("/slow-echo") == count + 1)


def test_half_an_answer_is_reset(server: Server) -> None:
    with Client(server) as client:
        stream = client.request("/half")
        reset = client.wait(lambda e: isinstance(e, h2.events.StreamReset))
        assert reset.stream_id == stream
        assert client.answer(client.request("/hello"))[2] == b"hello"


def is_reset(client: Client, stream: int) -> bool:
    reset = h2.events.StreamReset
    return any(isinstance(e, reset) and e.stream_id == stream for e in client.events)


def whole_then_reset(client: Client, stream: int) -> int:
    """The error of the reset that follows the end of a response."""
    reset = client.wait(
        lambda e: isinstance(e, h2.events.StreamReset) and e.stream_id == stream
    )
    assert client.answer(stream)[2] == b""  # it came before the reset
    return int(reset.error_code)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204)])
def test_no_error_behind_a_response_without_a_body(
    server: Server, method: str, status: int
) -> None:
    """The head was all of it, whatever the application does then: RFC 9113, 8.1."""
    with Client(server) as client:
        path = f"/half-of-nothing?{status}"
        stream = client.request(path, method=method, end=False)
        assert whole_then_reset(client, stream) == 0
        stream = client.request(path, method=method)
        assert client.answer(stream)[0] == status
        resets = [e for e in client.events if isinstance(e, h2.events.StreamReset)]
        assert len(resets) == 1
        # The limit of a body (--limit-body) is met while the application reads on.
        stream = client.request(path, ("x-then", "read"), method=method, end=False)
        left = 4_000_000
        while left and not is_reset(client, stream):
            size = min(client.h2.local_flow_control_window(stream), 16384, left)
            left -= size
            if size:
                client.h2.send_data(stream, b"x" * size)
                client.flush()
            else:
                client.read()
        assert whole_then_reset(client, stream) == 0


def test_a_server_that_stops_says_goaway(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--loop", "asyncio") as server:
        with Client(server) as client:
            client.request("/until-told")
            client.answer(client.request("/hello"))
            server.process.send_signal(signal.SIGTERM)
            first = client.wait(lambda e: isinstance(e, h2.events.ConnectionTerminated))
            assert first.error_code == 0
            (tmp_path / "go").touch()
            # The h2 package reads no stream after a GOAWAY: look at the frames.
            data = b""
            while b"was told" not in data:
                raw = client.socket.recv(65536)
                assert raw, "closed before the answer"
                data += raw
        assert server.wait() == 0


# ---- WebSocket in a stream (RFC 8441) ----


def mask(first: int, payload: bytes) -> bytes:
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def open_websocket(client: Client, path: str, *more: tuple[str, str]) -> int:
    client.wait(lambda e: isinstance(e, h2.events.RemoteSettingsChanged))
    setting = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
    assert client.h2.remote_settings[setting] == 1
    stream: int = client.h2.get_next_available_stream_id()
    client.h2.send_headers(
        stream,
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "x"),
            ("sec-websocket-version", "13"),
            *more,
        ],
    )
    client.flush()
    return stream


def received(client: Client, stream: int, size: int) -> bytes:
    def data() -> bytes:
        return b"".join(
            e.data
            for e in client.events
            if isinstance(e, h2.events.DataReceived) and e.stream_id == stream
        )

    while len(data()) < size:
        assert not client.ended
        client.read()
    return data()


def test_websocket(server: Server) -> None:
    with Client(server) as client:
        stream = open_websocket(
            client, "/chat", ("sec-websocket-protocol", "echo, other")
        )
        head = client.wait(lambda e: isinstance(e, h2.events.ResponseReceived))
        fields = dict(head.headers)
        assert fields[":status"] == "200"
        assert fields["sec-websocket-protocol"] == "echo"
        assert "sec-websocket-accept" not in fields
        client.h2.send_data(stream, mask(0x81, b"hello") + mask(0x89, b"p"))
        client.flush()
        # The ping's answer does not wait for the application's.
        data = received(client, stream, 10)
        assert sorted([data.find(b"\x81\x05hello"), data.find(b"\x8a\x01p")])[0] == 0
        client.h2.send_data(stream, mask(0x88, b"\x03\xe8"))
        client.flush()
        assert received(client, stream, 14)[10:] == b"\x88\x02\x03\xe8"
        client.wait(
            lambda e: isinstance(e, h2.events.StreamEnded) and e.stream_id == stream
        )
        wait_lost(server, ["/chat", 1000])
        assert client.answer(client.request("/hello"))[2] == b"hello"


def test_websocket_refused_and_cut_off(server: Server) -> None:
    with Client(server) as client:
        stream = open_websocket(client, "/deny")
        head = client.wait(lambda e: isinstance(e, h2.events.ResponseReceived))
        assert (head.stream_id, dict(head.headers)[":status"]) == (stream, "403")
        stream = open_websocket(client, "/cut")
        client.wait(
            lambda e: (
                isinstance(e, h2.events.ResponseReceived) and e.stream_id == stream
            )
        )
        client.h2.reset_stream(stream, 8)
        client.flush()
        wait_lost(server, ["/cut", 1006])


# ---- nghttp's tools ----


def test_h2load(server: Server) -> None:
    h2load = shutil.which("h2load")
    if h2load is None:
        pytest.skip("no h2load command")
    done = subprocess.run(
        [h2load, "-n", "2000", "-c", "4", "-m", "20", server.url + "/hello"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert "2000 succeeded, 0 failed" in done.stdout, done.stdout


def test_nghttp(server: Server, tmp_path: Path) -> None:
    nghttp = shutil.which("nghttp")
    if nghttp is None:
        pytest.skip("no nghttp command")
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 1000)
    done = subprocess.run(
        [nghttp, "-d", str(body), server.url + "/echo"],
        capture_output=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert done.stdout == body.read_bytes()


@pytest.mark.parametrize("ends", [True, False], ids=["whole", "begun"])
def test_a_body_that_comes_with_its_head(server: Server, ends: bool) -> None:
    """It is there for the first receive(), as over HTTP/1.1."""
    with Client(server) as client:
        assert client.answer(client.request("/"))[2] == b"hello"
        streams = []
        for i in range(3):  # in one read
            stream: int = client.h2.get_next_available_stream_id()
            fields = [(":method", "POST"), (":scheme", "http"), (":authority", "x")]
            client.h2.send_headers(stream, [*fields, (":path", "/at-once")])
            client.h2.send_data(stream, f"body {i}".encode(), end_stream=ends)
            streams.append(stream)
        client.flush()
        for i, stream in enumerate(streams):
            status, _, body = client.answer(stream)
            assert (status, body) == (200, f"body {i}".encode())


def test_bodies_that_never_reach_the_application(server: Server) -> None:
    """Reset, or too large, in the read that brought them; the connection goes on."""
    with Client(server) as client:
        stream = client.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "x")]
        client.h2.send_headers(stream, [*fields, (":path", "/echo")])
        client.h2.send_data(stream, b"body")
        client.h2.reset_stream(stream)
        client.flush()
        assert client.answer(client.request("/"))[2] == b"hello"
