"""`wsgi.file_wrapper`: what is sent is what would have been read, however it is sent."""

import gzip
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Raw, Server, serving, wait_until

SOURCE = """
import gzip, io, os

given, closed = [], []

def app(environ, start_response):
    path = environ["PATH_INFO"]
    wrapper = environ["wsgi.file_wrapper"]
    headers = []
    if path == "/closed":
        start_response("200 OK", [])
        return [b"%d %d" % (len(given), len(closed))]
    if path == "/pipe":
        reading, writing = os.pipe()
        os.write(writing, b"from a pipe")
        os.close(writing)
        file = open(reading, "rb")
    elif path == "/gzip":
        file = gzip.open("big.gz")
    elif path == "/bytes":
        file = io.BytesIO(b"in memory")
    elif path == "/proc":
        file = open("/proc/version", "rb")
    elif path == "/unbuffered":
        file = open("big", "rb", buffering=0)
    elif path == "/changed":
        file = open("copy", "r+b")
        file.write(b"changed")
        file.seek(3)
    elif path == "/empty":
        file = open("empty", "rb")
    elif path == "/end":
        file = open("big", "rb")
        file.seek(0, 2)
    else:
        file = open("big", "rb")
        if path in ("/rest", "/some"):
            file.read(1000)  # and the file itself is farther than that
        if path == "/some":
            headers = [("Content-Length", "5000")]
        elif path == "/short":
            headers = [("Content-Length", str(1 << 30))]
        elif path == "/early":
            start_response("200 OK", [])(b"before ")
    given.append(path)
    result = wrapper(file, 1000)
    result.close = lambda: (closed.append(path), file.close())
    if path != "/early":
        start_response("200 OK", headers)
    return result
"""
BIG = bytes(range(256)) * 8192


def write_files(folder: Path) -> None:
    (folder / "big").write_bytes(BIG)
    (folder / "copy").write_bytes(BIG)
    (folder / "empty").write_bytes(b"")
    (folder / "big.gz").write_bytes(gzip.compress(BIG))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("file")
    write_files(folder)
    with serving(folder, SOURCE) as running:
        yield running


def files(server: Server) -> tuple[int, int]:
    """How many were given to the wrapper, and how many of them were closed."""
    with server.connect() as raw:
        given, closed = raw.get("/closed")[2].split()
        return int(given), int(closed)


def wait_closed(server: Server, more: int, before: int) -> None:
    """So many more were given, and all are closed.

    A file is closed after the last byte of it has gone: later than its client may see.
    """
    wait_until(lambda: len(set(files(server))) == 1, lambda: files(server))
    assert files(server)[1] == before + more


@pytest.mark.parametrize(
    ("path", "body", "length"),
    [
        ("/", BIG, True),
        ("/unbuffered", BIG, True),
        ("/rest", BIG[1000:], True),
        ("/some", BIG[1000:6000], True),
        ("/changed", b"nged" + BIG[7:], True),
        ("/gzip", BIG, False),
        ("/bytes", b"in memory", False),
        ("/pipe", b"from a pipe", False),
        ("/proc", Path("/proc/version").read_bytes(), False),
        ("/early", b"before " + BIG, False),
        ("/empty", b"", False),
        ("/end", b"", False),
    ],
)
def test_what_is_sent(server: Server, path: str, body: bytes, length: bool) -> None:
    before, _ = files(server)
    with server.connect() as raw:
        status, headers, got = raw.get(path)
        assert status == 200
        assert got == body
        if length:
            assert headers["content-length"] == str(len(body))
        assert raw.get(path)[2] == body  # the connection goes on
    wait_closed(server, 2, before)


def test_head_and_http_1_0(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.answer(head=True)[0] == 200
        assert raw.get("/closed")[0] == 200  # and no byte of a body is before it
    with server.connect() as raw:
        raw.send(b"GET /rest HTTP/1.0\r\n\r\n")
        assert raw.answer()[2] == BIG[1000:]


def test_less_than_was_promised(server: Server) -> None:
    with server.connect() as raw:
        raw.send(b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((EOFError, ConnectionResetError)):
            raw.answer()
    server.wait_for("the response is shorter than its Content-Length")


def test_a_client_that_reads_nothing(tmp_path: Path) -> None:
    """It keeps a thread, and no other client waiting; it gets all in the end."""
    big = tmp_path / "huge"
    big.write_bytes(BIG * 8)
    source = SOURCE.replace('"big"', repr(str(big)))
    with serving(tmp_path, source) as running, Raw(running.port) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.until(b"\r\n\r\n")
        assert files(running) == (1, 0)
        assert slow.exactly(len(BIG) * 8) == BIG * 8
        with running.connect() as gone:
            gone.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            gone.until(b"\r\n\r\n")
        wait_closed(running, 2, 0)  # its thread gives the file back


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_byte_comes_through_python(tmp_path: Path) -> None:
    write_files(tmp_path)
    with serving(tmp_path, SOURCE) as running:
        trace = tmp_path / "trace"
        pid = str(running.process.pid)
        strace = subprocess.Popen(
            ["strace", "-f", "-e", "trace=sendfile", "-o", str(trace), "-p", pid],
            stderr=subprocess.PIPE,
        )
        assert strace.stderr is not None
        if b"attached" not in strace.stderr.readline():
            pytest.skip("strace may not attach here")
        with running.connect() as raw:
            assert raw.get("/rest")[2] == BIG[1000:]
        strace.terminate()
        strace.wait()
        assert "sendfile(" in trace.read_text()
