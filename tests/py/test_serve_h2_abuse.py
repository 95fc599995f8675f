"""HTTP/2 clients that break the protocol or make too much of it, through a socket."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import DEADLINE_S, Server, serving

pytest.importorskip("h2")
import h2.events
import h2.settings
from h2_app import APP, serving_h2
from h2_client import HEAD, Client, frame


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_h2(tmp_path_factory.mktemp("h2")) as running:
        yield running


def goaway_of(server: Server, data: bytes) -> int | None:
    """Send bytes behind the preface; the GOAWAY's code, or None without one."""
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as raw:
        answer = b""
        ended = contextlib.suppress(ConnectionResetError, BrokenPipeError)
        with ended:  # it may be refused before all of it was sent
            raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
            raw.sendall(data)
        with ended:
            while piece := raw.recv(65536):
                answer += piece
    while len(answer) >= 9:
        size = int.from_bytes(answer[:3], "big")
        if answer[3] == 7:
            return int.from_bytes(answer[13:17], "big")
        answer = answer[9 + size :]
    return None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0, 0, 0, b"x"), 1),  # DATA of no stream
        (frame(1, 5, 2, HEAD), 1),  # a client's streams are odd
        (frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff"), 9),  # no HPACK
        (frame(4, 0, 1), 1),  # SETTINGS of a stream
        (frame(4, 0, 0, b"x"), 6),
        (frame(4, 1, 0, b"x" * 6), 6),  # an ACK with a payload
        (frame(6, 0, 0, b"x"), 6),  # a PING of one byte
        (frame(8, 0, 0, b"\0\0\0\0"), 1),  # a window opened by nothing
        (frame(9, 4, 1, HEAD), 1),  # CONTINUATION of nothing
        (frame(1, 1, 1, HEAD) + frame(6, 0, 0, b"x" * 8), 1),  # a head cut in two
        (b"\0\xff\xff" + frame(0, 0, 1)[3:] + b"x" * 65535, 6),  # too large a frame
        (frame(5, 4, 1, b"\0\0\0\2" + HEAD), 1),  # PUSH_PROMISE by a client
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "frames",
)
def test_broken_protocol_is_told(server: Server, data: bytes, code: int) -> None:
    told = goaway_of(server, data)
    assert told is not None
    # RFC 9113 leaves the choice between PROTOCOL_ERROR and STREAM_CLOSED.
    assert told == code or {told, code} == {1, 5}


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(
            b"".join(
                frame(1, 5, 2 * i + 1, HEAD) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08")
                for i in range(2000)
            ),
            id="rapid-reset",
        ),
        pytest.param(frame(6, 0, 0, b"x" * 8) * 20000, id="ping"),
        pytest.param(frame(4, 0, 0) * 20000, id="settings"),
        pytest.param(
            frame(1, 1, 1, HEAD) + frame(9, 0, 1, b"\0\x01a\x01b" * 3000) * 400,
            id="continuation",
        ),
        pytest.param(frame(1, 1, 1, HEAD) + frame(9, 0, 1) * 20000, id="empty"),
    ],
)
def test_floods_end_the_connection(server: Server, flood: bytes) -> None:
    goaway_of(server, flood)  # returns: the connection was ended
    with Client(server) as client:
        assert client.answer(client.request("/hello"))[2] == b"hello"


def test_limits_are_options(tmp_path: Path) -> None:
    options = (
        *("--h2-streams", "7", "--h2-stream-window", "100000"),
        *("--h2-connection-window", "200000", "--h2-resets", "3"),
    )
    with serving(tmp_path, APP, "--loop", "asyncio", *options) as server:
        with Client(server) as client:
            client.wait(lambda e: isinstance(e, h2.events.RemoteSettingsChanged))
            codes = h2.settings.SettingCodes
            assert client.h2.remote_settings[codes.MAX_CONCURRENT_STREAMS] == 7
            assert client.h2.remote_settings[codes.INITIAL_WINDOW_SIZE] == 100000
        resets = b"".join(
            frame(1, 5, 2 * i + 1, HEAD) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08")
            for i in range(10)
        )
        goaway_of(server, resets)  # returns: the connection was ended


def test_too_many_requests_at_a_time(tmp_path: Path) -> None:
    """The streams of one connection are counted each."""
    with (
        serving(
            tmp_path, APP, "--loop", "asyncio", "--limit-concurrency", "2"
        ) as server,
        Client(server) as client,
    ):
        client.request("/slow-echo", method="POST", end=False)
        client.request("/slow-echo", method="POST", end=False)
        status, headers, _ = client.answer(client.request("/hello"))
        assert (int(status), dict(headers)["retry-after"]) == (503, "1")


def test_a_preface_later_on_is_refused(server: Server) -> None:
    with server.connect() as raw:
        assert raw.get("/hello")[0] == 200
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert raw.answer()[0] == 505
