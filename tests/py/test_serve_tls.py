"""TLS through a socket: handshakes good and bad, clients' certificates, reload."""

import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import DEADLINE_S, Raw, Server, serving

pytest.importorskip("cryptography")
from certificates import Authority

APP = """
import json

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["scheme"]})
        await receive()
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    if scope["path"] == "/scope":
        body = json.dumps({"scheme": scope["scheme"],
                           "version": scope["http_version"],
                           "tls": scope["extensions"].get("tls")}).encode()
    elif scope["path"] == "/big":
        body = bytes(range(256)) * 16384
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/pieces":
        for i in range(100):
            await send({"type": "http.response.body", "body": bytes([i]) * 30000,
                        "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})
"""


class RawTls(Raw):
    """A client that speaks HTTP/1.1 inside TLS."""

    def __init__(self, server: Server, context: ssl.SSLContext, host: str = "") -> None:
        super().__init__(server.port)
        self.socket: Any = context.wrap_socket(
            self.socket, server_hostname=host or "localhost"
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> tuple[str, ...]:
    certificate, key = authority.issue("server", "localhost", "127.0.0.1")
    return ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))


@pytest.fixture(scope="module")
def server(
    files: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    options = ("--loop", "asyncio", "--timeout-handshake", "60", *files)
    with serving(folder, APP, *options) as running:
        yield running


def trusting(authority: Authority, *client: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    if client:
        context.load_cert_chain(*client)
    return context


def test_requests(server: Server, authority: Authority) -> None:
    with RawTls(server, trusting(authority)) as raw:
        for _ in range(3):
            assert raw.get("/")[0] == 200
        raw.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
        raw.send(b"x" * 300000)
        assert raw.answer()[2] == b"x" * 300000
        assert raw.get("/big")[2] == bytes(range(256)) * 16384
        pieces = b"".join(bytes([i]) * 30000 for i in range(100))
        assert raw.get("/pieces")[2] == pieces


def test_httpx(server: Server, authority: Authority) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(verify=trusting(authority), timeout=DEADLINE_S) as client:
        url = f"https://localhost:{server.port}"
        assert client.get(url + "/scope").json()["scheme"] == "https"
        assert client.post(url + "/", content=b"y" * 99999).content == b"y" * 99999


def test_scope_says_what_is_spoken(server: Server, authority: Authority) -> None:
    for version, number in ((ssl.TLSVersion.TLSv1_2, 0x303), (None, 0x304)):
        context = trusting(authority)
        if version is not None:
            context.maximum_version = version
        with RawTls(server, context) as raw:
            scope = json.loads(raw.get("/scope")[2])
            assert scope["scheme"] == "https"
            tls = scope["tls"]
            assert tls["tls_version"] == number
            ours = raw.socket.cipher()[0]
            ids = {c["name"]: c["id"] & 0xFFFF for c in context.get_ciphers()}
            assert tls["cipher_suite"] == ids[ours]
            der = raw.socket.getpeercert(binary_form=True)
            assert ssl.PEM_cert_to_DER_cert(tls["server_cert"]) == der
            assert tls["client_cert_chain"] == []
            assert tls["client_cert_name"] is None
            assert tls["client_cert_error"] is None


def test_websocket(server: Server, authority: Authority) -> None:
    pytest.importorskip("websockets")
    from websockets.sync.client import connect

    url = f"wss://localhost:{server.port}/"
    with connect(url, ssl=trusting(authority), open_timeout=DEADLINE_S) as client:
        assert client.recv(DEADLINE_S) == "wss"


def test_alpn(server: Server, authority: Authority) -> None:
    context = trusting(authority)
    context.set_alpn_protocols(["http/1.1"])
    with RawTls(server, context) as raw:
        assert raw.socket.selected_alpn_protocol() == "http/1.1"
        assert raw.get("/")[0] == 200
    context.set_alpn_protocols(["spdy/3"])
    with pytest.raises(ssl.SSLError):
        RawTls(server, context)


def test_old_versions_are_refused(server: Server, authority: Authority) -> None:
    context = trusting(authority)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        RawTls(server, context)


def test_session_tickets(server: Server, authority: Authority) -> None:
    context = trusting(authority)
    with RawTls(server, context) as raw:
        assert raw.get("/")[0] == 200
        session = raw.socket.session
        assert not raw.socket.session_reused
    plain = socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
    with context.wrap_socket(
        plain, server_hostname="localhost", session=session
    ) as again:
        assert again.session_reused


def test_close_is_said(server: Server, authority: Authority) -> None:
    context = trusting(authority)
    with RawTls(server, context) as raw:
        raw.socket.suppress_ragged_eofs = False  # then an EOF without a word raises
        raw.get("/", "Connection: close")
        assert raw.rest() == b""


def test_plain_http_is_told(server: Server) -> None:
    with server.connect() as raw:
        status, _, body = raw.get("/")
        assert status == 400
        assert b"HTTPS" in body
        assert raw.rest() == b""


def test_garbage_and_truncated_handshakes(server: Server, authority: Authority) -> None:
    hello = ssl.MemoryBIO()
    client = trusting(authority).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    first = hello.read()
    for end in (1, 5, 50, len(first)):
        with server.connect() as raw:
            raw.send(first[:end])
            raw.socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                raw.rest()
    with server.connect() as raw:
        raw.send(b"\x16\x03\x01\x00\x10" + b"\xff" * 16)
        with contextlib.suppress(ConnectionResetError):
            raw.rest()
    with server.connect() as raw:
        raw.send(b"\0" * 600)
        with contextlib.suppress(ConnectionResetError):
            raw.rest()
    server.wait_for("a TLS handshake failed")
    with RawTls(server, trusting(authority)) as good:
        assert good.get("/")[0] == 200


def test_handshake_byte_by_byte(server: Server, authority: Authority) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(authority).wrap_bio(
        incoming, outgoing, server_hostname="localhost"
    )
    with server.connect() as raw:
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def give() -> None:
            for byte in outgoing.read():
                raw.send(bytes([byte]))

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                give()
                incoming.write(raw.socket.recv(65536))
        client.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        give()
        while True:
            try:
                assert client.read(100).startswith(b"HTTP/1.1 200 ")
                break
            except ssl.SSLWantReadError:
                incoming.write(raw.socket.recv(65536))


def test_slow_handshake_times_out(tmp_path: Path, files: tuple[str, ...]) -> None:
    options = ("--loop", "asyncio", "--timeout-handshake", "0.3", *files)
    with (
        serving(tmp_path, APP, *options) as server,
        server.connect() as raw,
        contextlib.suppress(ConnectionError),  # it was over before that was sent
    ):
        raw.send(b"\x16\x03\x01")
        assert raw.rest() == b""


def test_s_client(server: Server, authority: Authority) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command")
    done = subprocess.run(
        [
            *(openssl, "s_client", "-connect", f"127.0.0.1:{server.port}", "-quiet"),
            *("-servername", "localhost", "-verify_return_error"),
            *("-verify_hostname", "localhost", "-CAfile", str(authority.path)),
        ],
        input=b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout.startswith(b"HTTP/1.1 200 "), done


# ---- several certificates, clients' certificates, other files ----


def test_sni(tmp_path: Path, authority: Authority) -> None:
    options: list[str] = []
    for name, host in (("one", "one.test"), ("wild", "*.wild.test")):
        certificate, key = authority.issue(name, host)
        options += ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    with serving(tmp_path, APP, "--loop", "asyncio", *options) as server:
        for host in ("one.test", "a.wild.test", "b.wild.test"):
            with RawTls(server, trusting(authority), host) as raw:
                assert raw.get("/")[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            RawTls(server, trusting(authority), "other.test")


def test_client_certificates(
    tmp_path: Path, authority: Authority, files: tuple[str, ...]
) -> None:
    good = authority.issue("Ann Client", file="ann")
    stranger = Authority(tmp_path, "stranger").issue("Bob", file="bob")
    base = ("--loop", "asyncio", *files, "--ssl-ca-certs", str(authority.path))
    with serving(tmp_path, APP, *base, "--ssl-cert-reqs", "2") as server:
        with RawTls(server, trusting(authority, *good)) as raw:
            tls = json.loads(raw.get("/scope")[2])["tls"]
            assert tls["client_cert_name"] == "CN=Ann Client"
            # The client sends its authority's certificate along.
            expected = [good[0].read_text(), authority.path.read_text()]
            assert tls["client_cert_chain"] == expected
        for context in (trusting(authority), trusting(authority, *stranger)):
            # TLS 1.3: the client has finished before the server has looked.
            with (
                pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
                RawTls(server, context) as raw,
            ):
                raw.get("/")
    with serving(tmp_path, APP, *base, "--ssl-cert-reqs", "1") as server:
        with RawTls(server, trusting(authority)) as raw:
            assert json.loads(raw.get("/scope")[2])["tls"]["client_cert_chain"] == []
        with (
            pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
            RawTls(server, trusting(authority, *stranger)) as raw,
        ):
            raw.get("/")


def test_key_with_password_and_in_one_file(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("locked", "localhost", password=b"open sesame")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    options = ("--ssl-certfile", str(both), "--ssl-keyfile-password", "open sesame")
    with (
        serving(tmp_path, APP, "--loop", "asyncio", *options) as server,
        RawTls(server, trusting(authority)) as raw,
    ):
        assert raw.get("/")[0] == 200


CERT_AND_KEY = ("--ssl-certfile", "CERT", "--ssl-keyfile", "KEY")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ssl-certfile", "absent.pem"), "cannot use the certificate absent.pem"),
        (("--ssl-certfile", "CERT", "--ssl-keyfile", "absent"), "private key absent"),
        (("--ssl-certfile", "CERT", "--ssl-keyfile", "OTHER"), "private key"),
        (("--ssl-keyfile", "OTHER"), "--ssl-certfile"),
        (("--ssl-certfile", "LOCKED"), "private key"),
        (
            (*CERT_AND_KEY, "--ssl-cert-reqs", "2"),
            "sign",
        ),
        (
            (*CERT_AND_KEY, "--ssl-ciphers", "x"),
            "ciphers",
        ),
    ],
)
def test_bad_files_are_named(
    tmp_path: Path, authority: Authority, options: tuple[str, ...], words: str
) -> None:
    certificate, key = authority.issue("named", "localhost")
    other = authority.issue("another", "localhost")[1]
    locked = authority.issue("shut", "localhost", password=b"secret")
    both = tmp_path / "locked.pem"
    both.write_bytes(locked[0].read_bytes() + locked[1].read_bytes())
    names = {
        "CERT": str(certificate),
        "KEY": str(key),
        "OTHER": str(other),
        "LOCKED": str(both),
    }
    (tmp_path / "main.py").write_text(APP)
    server = Server(tmp_path, *(names.get(option, option) for option in options))
    try:
        assert server.wait() == 1
        assert words in server.log
    finally:
        server.kill()


def test_reload_of_certificates(tmp_path: Path, authority: Authority) -> None:
    options: list[str] = []
    certificate, key = authority.issue("first", "localhost", file="live")
    options = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    with serving(tmp_path, APP, "--loop", "asyncio", *options) as server:

        def name() -> str:
            with RawTls(server, trusting(authority)) as raw:
                assert raw.get("/")[0] == 200
                return str(raw.socket.getpeercert()["subject"][0][0][1])

        with RawTls(server, trusting(authority)) as before:
            assert before.get("/")[0] == 200
            assert name() == "first"
            authority.issue("second", "localhost", file="live")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("certificates were read again")
            assert name() == "second"
            key.write_text("broken")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("certificates stay as they were")
            assert name() == "second"
            assert before.get("/")[0] == 200  # its connection was left alone


def test_many_clients_and_workers(
    tmp_path: Path, authority: Authority, files: tuple[str, ...]
) -> None:
    context = trusting(authority)
    with serving(tmp_path, APP, "--workers", "2", *files) as server:
        server.wait_for("all 2 workers serve")
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(10):
                    with RawTls(server, context) as raw:
                        for _ in range(5):
                            assert raw.get("/")[0] == 200
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


def test_a_stuck_worker_is_given_up_in_tls(
    files: tuple[str, ...], authority: Authority, tmp_path: Path
) -> None:
    source = """
        async def app(scope, receive, send):
            while scope["path"] == "/spin":
                pass
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
    """
    options = ("--stuck-after", "0.5", "--replace-stuck-after", "3", *files)
    with (
        serving(tmp_path, source, *options) as server,
        RawTls(server, trusting(authority)) as stuck,
    ):
        stuck.send(b"GET /spin HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, _ = stuck.answer()
        assert status == 503
        assert headers["connection"] == "close"
        assert stuck.rest() == b""
        server.wait_for("1 requests were answered 503")
        server.wait_for("RequestTimeout")  # the old worker comes back, to its end
