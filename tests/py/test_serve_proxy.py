"""What stands in front of a server: proxies, Unix sockets, inherited sockets."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import COMMAND, DEADLINE_S, Raw, Server, serving

APP = """
import json

async def app(scope, receive, send):
    body = json.dumps({k: scope[k] for k in ("client", "server", "scheme")}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def ends(raw: Raw, *fields: str) -> dict[str, object]:
    status, _, body = raw.get("/", *fields)
    assert status == 200
    result: dict[str, object] = json.loads(body)
    return result


# ---- headers ----


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("trusting")
    with serving(folder, APP, "--loop", "asyncio") as running:
        yield running


@pytest.mark.parametrize(
    ("fields", "client", "scheme"),
    [
        (
            ("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"),
            "203.0.113.7",
            "https",
        ),
        (("X-Forwarded-For: 198.51.100.1, 203.0.113.7",), "203.0.113.7", "http"),
        (("X-Forwarded-For: 203.0.113.7, 127.0.0.1",), "203.0.113.7", "http"),
        (('Forwarded: for="[2001:db8::1]:99";proto=https',), "2001:db8::1", "https"),
    ],
)
def test_trusted_proxies_are_believed(
    trusting: Server, fields: tuple[str, ...], client: str, scheme: str
) -> None:
    with trusting.connect() as raw:
        told = ends(raw, *fields)
        assert isinstance(told["client"], list)
        assert told["client"][0] == client
        assert told["scheme"] == scheme
        assert ends(raw)["client"] == list(raw.socket.getsockname())


def test_wsgi_is_told_too(tmp_path: Path) -> None:
    source = """
    import json

    def app(environ, start_response):
        start_response("200 OK", [])
        names = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme")
        return [json.dumps([environ[name] for name in names]).encode()]
    """
    with serving(tmp_path, source) as server, server.connect() as raw:
        fields = ('Forwarded: for="203.0.113.7:99";proto=https',)
        assert json.loads(raw.get("/", *fields)[2]) == ["203.0.113.7", "99", "https"]
        _, port = raw.socket.getsockname()
        assert json.loads(raw.get()[2]) == ["127.0.0.1", str(port), "http"]


@pytest.mark.parametrize(
    "options", [("--forwarded-allow-ips", "10.0.0.0/8"), ("--no-proxy-headers",)]
)
def test_others_are_not(tmp_path: Path, options: tuple[str, ...]) -> None:
    with (
        serving(tmp_path, APP, "--loop", "asyncio", *options) as server,
        server.connect() as raw,
    ):
        fields = ("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https")
        told = ends(raw, *fields)
        assert told["client"] == list(raw.socket.getsockname())
        assert told["scheme"] == "http"


def test_a_list_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(APP)
    server = Server(tmp_path, "--forwarded-allow-ips", "not-an-address")
    try:
        assert server.wait() == 1
        assert "not-an-address" in server.log
    finally:
        server.kill()


# ---- the PROXY protocol ----

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def version_2(command: int, family: int, payload: bytes) -> bytes:
    return V2 + struct.pack(">BBH", command, family, len(payload)) + payload


ADDRESSES = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("proxied")
    options = ("--loop", "asyncio", "--proxy-protocol", "--timeout-handshake", "60")
    with serving(folder, APP, *options) as running:
        yield running


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 203.0.113.7 192.0.2.1 5678 443\r\n",
        version_2(0x21, 0x11, ADDRESSES + struct.pack(">HH", 5678, 443)),
    ],
)
def test_proxy_header(proxied: Server, header: bytes) -> None:
    for cut in (len(header), 1, 20):
        with proxied.connect() as raw:
            raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.send(header[:cut])
            raw.send(header[cut:])
            for _ in range(2):
                told = ends(raw)
                assert told["client"] == ["203.0.113.7", 5678]
                assert told["server"] == ["192.0.2.1", 443]
            # The client that is told of is not a trusted proxy.
            assert ends(raw, "X-Forwarded-For: 10.1.1.1")["client"] == told["client"]


def test_proxy_header_without_addresses(proxied: Server) -> None:
    for header in (b"PROXY UNKNOWN\r\n", version_2(0x20, 0, b"")):
        with proxied.connect() as raw:
            raw.send(header)
            assert ends(raw)["client"] == list(raw.socket.getsockname())


def closed(raw: Raw) -> bool:
    try:
        return raw.rest() == b""
    except ConnectionResetError:
        return True


def test_what_has_no_proxy_header_is_refused(proxied: Server) -> None:
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY TCP4 a b c d\r\n"):
        with proxied.connect() as raw:
            raw.send(data)
            assert closed(raw)
    proxied.wait_for("a PROXY header was refused")


def test_half_a_proxy_header_times_out(tmp_path: Path) -> None:
    options = ("--loop", "asyncio", "--proxy-protocol", "--timeout-handshake", "0.5")
    with serving(tmp_path, APP, *options) as server, server.connect() as raw:
        raw.send(b"PROXY ")  # and nothing more
        assert closed(raw)


def test_proxy_headers_of_strangers_are_refused(tmp_path: Path) -> None:
    options = ("--proxy-protocol", "--forwarded-allow-ips", "10.0.0.1")
    with (
        serving(tmp_path, APP, "--loop", "asyncio", *options) as server,
        server.connect() as raw,
    ):
        raw.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 5678 443\r\n")
        assert closed(raw)
        server.wait_for("not trusted: 127.0.0.1")


# ---- sockets of other kinds ----


class UnixRaw(Raw):
    """A client of a Unix socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(str(path))
        self.buffer = b""


def test_unix_socket() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "main.py").write_text(APP)
        path = folder / "server.sock"
        for _ in range(2):
            server = Server(folder, "--uds", str(path), "--loop", "asyncio")
            try:
                server.wait_for("listening on unix:")
                with UnixRaw(path) as raw:
                    told = ends(raw, "X-Forwarded-For: 203.0.113.7")
                    assert told["client"] == ["203.0.113.7", 0]
                    assert told["server"] == [str(path), None]
                    assert ends(raw)["client"] is None
                second = Server(folder, "--uds", str(path))
                assert second.wait() == 1  # in use
                assert "cannot listen" in second.log
                with UnixRaw(path) as raw:
                    ends(raw)
                assert server.stop() == 0
                assert not path.exists()
            finally:
                server.kill()
            # One that was left behind by a server that was killed is replaced.
            left = socket.socket(socket.AF_UNIX)
            left.bind(str(path))
            left.close()


def test_inherited_socket(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", COMMAND, "serve", "main:app"),
                *("--loop", "asyncio", "--fd", str(listener.fileno())),
            ],
            cwd=tmp_path,
            pass_fds=[listener.fileno()],
        )
        try:
            with Raw(port) as raw:  # waits in the backlog until the server is there
                assert ends(raw)["server"] == ["127.0.0.1", port]
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
            process.wait(DEADLINE_S)


def test_systemd_sockets(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(APP)
    # As systemd does it: the sockets are descriptors from 3 on, LISTEN_PID is the
    # process itself.
    starter = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[2], 'serve',"
        " 'main:app', '--loop', 'asyncio'])"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", starter, str(listener.fileno()), COMMAND],
            cwd=tmp_path,
            pass_fds=[listener.fileno()],
            env={**os.environ},
        )
        try:
            with Raw(port) as raw:
                assert ends(raw)["server"] == ["127.0.0.1", port]
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
            process.wait(DEADLINE_S)


def test_a_descriptor_that_does_not_listen_is_told(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(APP)
    server = Server(tmp_path, "--fd", "0")
    try:
        assert server.wait() == 1
        assert "descriptor 0" in server.log
    finally:
        server.kill()
