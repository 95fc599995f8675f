"""WSGI (PEP 3333) through sockets: `atoll serve` with applications of every kind."""

import concurrent.futures
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest
from serving import DEADLINE_S, serving, wait_until

from atoll._server.interface import find_interface

# The validator checks both sides of every call, and raises where either is wrong.
VALIDATED = """
from wsgiref.validate import validator
seen = []
def inner(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    path = environ["PATH_INFO"]
    if path == "/lines":
        body = repr(list(environ["wsgi.input"])).encode()
    write = start_response("200 OK", [("Content-Type", "text/plain"),
                                      ("X-Closed", str(len(seen)))])
    if path == "/write":
        write(b"written ")
    print("to the log", file=environ["wsgi.errors"])
    class Body:
        def __iter__(self):
            yield b"[" + environ["REQUEST_METHOD"].encode() + b" "
            yield body
            yield b"]"
        def close(self):
            seen.append(1)
    return Body()
app = validator(inner)
"""


def test_the_validator_passes(tmp_path: Path) -> None:
    with (
        serving(tmp_path, VALIDATED, "--interface", "wsgi") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        assert client.get("/").text == "[GET ]"
        assert client.get("/write?a=b").text == "written [GET ]"
        assert client.post("/", content=b"x" * 300_000).text == (
            "[POST " + "x" * 300_000 + "]"
        )
        assert client.put("/", content=b"").text == "[PUT ]"
        assert client.delete("/a%20b%C3%A9").text == "[DELETE ]"
        assert client.head("/").content == b""
        assert client.get("/lines").text == "[GET []]"
        # Every iterable was closed, a little later than its client had all of it.
        asked = 7
        end = time.monotonic() + DEADLINE_S
        while int(client.get("/").headers["x-closed"]) != asked:
            asked += 1
            assert time.monotonic() < end
            time.sleep(0.01)
        server.wait_for("to the log")
        assert "Traceback" not in server.log


ENVIRON = """
import json
def app(environ, start_response):
    body = json.dumps({key: value if isinstance(value, (str, bool, list, tuple))
                       else type(value).__name__
                       for key, value in environ.items()}).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
"""


def test_environ(tmp_path: Path) -> None:
    with serving(tmp_path, ENVIRON, "--root-path", "/mount") as server:
        with server.connect() as raw:
            raw.send(
                b"POST /a%20b/%C3%A9%zz?q=%20&x HTTP/1.1\r\nHost: example.org:81\r\n"
                b"Content-Type: text/plain\r\nContent-Length: 2\r\n"
                b"Cookie: a=1\r\nCookie: b=2\r\nX-Two: 1\r\nX-Two: 2\r\n"
                b"X_Forwarded_For: spoofed\r\nX-Bytes: \xe9\r\n\r\nhi"
            )
            status, headers, body = raw.answer()
            assert status == 200
            assert headers["content-length"] == str(len(body))
            environ = json.loads(body)
        expected = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "/mount",
            "PATH_INFO": "/a b/\xc3\xa9%zz",
            "QUERY_STRING": "q=%20&x",
            "RAW_URI": "/a%20b/%C3%A9%zz?q=%20&x",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(server.port),
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": "text/plain",
            "CONTENT_LENGTH": "2",
            "HTTP_HOST": "example.org:81",
            "HTTP_COOKIE": "a=1; b=2",
            "HTTP_X_TWO": "1,2",
            "HTTP_X_BYTES": "\xe9",
            "wsgi.version": [1, 0],
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        assert {key: environ.get(key) for key in expected} == expected
        assert "HTTP_X_FORWARDED_FOR" not in environ
        assert "HTTP_CONTENT_TYPE" not in environ
        with server.connect() as raw:
            raw.send(b"GET / HTTP/1.0\r\n\r\n")
            assert json.loads(raw.answer()[2])["SERVER_PROTOCOL"] == "HTTP/1.0"


INPUT = """
def app(environ, start_response):
    stream = environ["wsgi.input"]
    path = environ["PATH_INFO"]
    if path == "/read":
        parts = iter(lambda: stream.read(1000), b"")
    elif path == "/all":
        parts = [stream.read(), stream.read(), stream.read(5)]
    elif path == "/lines":
        parts = [b"|" + line for line in stream]
    elif path == "/readline":
        parts = [b"|" + line for line in iter(lambda: stream.readline(4), b"")]
    elif path == "/readlines":
        parts = [b"|" + line for line in stream.readlines(3)]
    elif path == "/readinto":
        data = bytearray(700)
        parts = [bytes(data[:n]) for n in iter(lambda: stream.readinto(data), 0)]
    elif path == "/unread":
        parts = [b"no"]
    parts = list(parts)
    start_response("200 OK", [])
    return [b"".join(parts)]
"""


def test_input(tmp_path: Path) -> None:
    big = bytes(range(256)) * 4000
    with (
        serving(tmp_path, INPUT) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        for path in ("/read", "/all", "/readinto"):
            assert client.post(path, content=big).content == big
            chunks = iter([big[:5], big[5:70_000], big[70_000:]])
            assert client.post(path, content=chunks).content == big
        text = b"one\ntwo\n\nlonger"
        assert client.post("/lines", content=text).content == b"|one\n|two\n|\n|longer"
        assert client.post("/readline", content=text).content == (
            b"|one\n|two\n|\n|long|er"
        )
        assert client.post("/readlines", content=text).content == b"|one\n"
        # What was left is read over, and the connection goes on.
        assert client.post("/unread", content=b"x" * 100_000).content == b"no"
        assert client.post("/all", content=b"").content == b""


def test_a_body_that_comes_slowly(tmp_path: Path) -> None:
    with (
        serving(tmp_path, INPUT, "--threads", "1") as server,
        server.connect() as raw,
        server.connect() as other,
    ):
        raw.send(
            b"POST /all HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: 6\r\n\r\n"
        )
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        other.send(b"POST /all HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
        raw.send(b"abc")
        raw.send(b"def")
        assert raw.answer()[2] == b"abcdef"
        assert other.answer()[2] == b"ab"


RESPONSES = """
import sys
closed = []
class Body:
    def __init__(self, *parts, fail=False):
        self.parts, self.fail = parts, fail
    def __iter__(self):
        yield from self.parts
        if self.fail:
            raise RuntimeError("in the middle")
    def close(self):
        closed.append(1)
class Sized(Body):
    def __len__(self):
        return len(self.parts)
def app(environ, start_response):
    path = environ["PATH_INFO"]
    plain = [("Content-Type", "text/plain")]
    if path == "/one":
        start_response("200 OK", plain)
        return [b"one"]
    if path == "/sized":
        start_response("201 Created", plain)
        return Sized(b"sized")
    if path == "/many":
        start_response("200 OK", plain)
        return Body(b"", b"a", b"", b"bc")
    if path == "/none":
        start_response("204 No Content", [])
        return []
    if path == "/length":
        start_response("200 OK", plain + [("Content-Length", "4")])
        return Body(b"le", b"ng")
    if path == "/short":
        start_response("200 OK", plain + [("Content-Length", "9")])
        return Body(b"short")
    if path == "/long":
        start_response("200 OK", plain + [("Content-Length", "2")])
        return Body(b"lo", b"ng")
    if path == "/recover":
        start_response("200 OK", plain)
        try:
            raise ValueError
        except ValueError:
            start_response("503 Sorry", [("X-Again", "1")], sys.exc_info())
        return [b"recovered"]
    if path == "/late":
        start_response("200 OK", plain)(b"begun ")
        try:
            raise ValueError("too late")
        except ValueError:
            start_response("503 Sorry", [], sys.exc_info())
    if path == "/late-lazily":
        def parts():
            start_response("200 OK", plain)
            yield b"lazy"
        return parts()
    if path == "/write":
        write = start_response("200 OK", plain)
        write(b"a")
        write(b"")
        write(b"b")
        return [b"c"]
    if path == "/twice":
        start_response("200 OK", plain)
        start_response("200 OK", plain)
    if path == "/no-start":
        return [b"x"]
    if path == "/text":
        start_response("200 OK", plain)
        return ["text"]
    if path == "/fail":
        return Body(b"x", fail=True)
    if path == "/cut":
        start_response("200 OK", plain)
        return Body(b"x", fail=True)
    if path == "/closed":
        start_response("200 OK", plain)
        return [str(len(closed)).encode()]
    wrong = {
        "/h1": ("200 OK", [("X-A", "b\\r\\nX-B: c")]),
        "/h2": ("200 OK", [("X A", "b")]),
        "/h3": ("200 OK", [("Upgrade", "h2c")]),
        "/h4": ("200 OK", (("X-A", "b"),)),
        "/h5": ("200 OK", [("X-A", 1)]),
        "/h6": ("OK", []),
        "/h7": (200, []),
        "/h8": ("200 OK", [("X-A", "\\u20ac")]),
        "/h9": ("200 OK", [("Content-Length", "-1")]),
    }
    start_response(*wrong[path])
    return [b"never"]
"""


def test_responses(tmp_path: Path) -> None:
    with (
        serving(tmp_path, RESPONSES) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        one = client.get("/one")
        assert (one.text, one.headers["content-length"]) == ("one", "3")
        sized = client.get("/sized")
        assert (sized.status_code, sized.text) == (201, "sized")
        assert sized.headers["content-length"] == "5"
        many = client.get("/many")
        assert (many.text, many.headers["transfer-encoding"]) == ("abc", "chunked")
        none = client.get("/none")
        assert (none.status_code, none.content) == (204, b"")
        length = client.get("/length")
        assert (length.text, length.headers["content-length"]) == ("leng", "4")
        head = client.head("/length")
        assert (head.content, head.headers["content-length"]) == (b"", "4")
        recovered = client.get("/recover")
        assert (recovered.status_code, recovered.text) == (503, "recovered")
        assert recovered.headers["x-again"] == "1"
        assert "content-type" not in recovered.headers
        assert client.get("/late-lazily").text == "lazy"
        assert client.get("/write").text == "abc"
        assert client.get("/long").text == "lo"
        server.wait_for("longer than its Content-Length")
        # sized, many, length twice, long.
        wait_until(lambda: client.get("/closed").text == "5")
        for path in ("/short", "/late", "/cut"):
            with pytest.raises(httpx.TransportError):
                client.get(path)
        for path in ("/twice", "/no-start", "/text", "/fail"):
            answer = client.get(path)
            assert (answer.status_code, answer.text) == (500, "Internal Server Error")
        for i in range(1, 10):
            assert client.get(f"/h{i}").status_code == 500, i
        assert client.get("/one").text == "one"


THREADS = """
import threading, time
barrier = threading.Barrier(3, timeout=60)
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/meet":
        barrier.wait()
    start_response("200 OK", [])
    if path == "/big":
        return (b"x" * 65536 for _ in range(320))
    return [threading.current_thread().name.encode()]
"""


def test_blocking_requests_run_side_by_side(tmp_path: Path) -> None:
    with serving(tmp_path, THREADS, "--threads", "3") as server:
        # Three that wait for each other come to an end only if all three run at once.
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            names = set(
                pool.map(
                    lambda _: httpx.get(server.url + "/meet", timeout=DEADLINE_S).text,
                    range(3),
                )
            )
        assert len(names) == 3
        assert all(name.startswith("wsgi-") for name in names)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_slow_reader_keeps_nobody_waiting(tmp_path: Path, threads: str) -> None:
    with (
        serving(tmp_path, THREADS, "--threads", threads) as server,
        server.connect() as slow,
    ):
        slow.send(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        slow.until(b"\r\n\r\n")
        if threads == "2":
            with server.connect() as quick:
                assert quick.get("/")[2].startswith(b"wsgi-")
        assert len(slow._chunks()) == 320 * 65536


def test_a_reader_that_goes_away_frees_its_thread(tmp_path: Path) -> None:
    with serving(tmp_path, THREADS, "--threads", "1") as server:
        with server.connect() as slow:
            slow.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.until(b"\r\n\r\n")
        with server.connect() as raw:
            assert raw.get("/")[2] == b"wsgi-0"
        assert "Traceback" not in server.log


def test_a_blocked_worker_keeps_nobody_waiting(tmp_path: Path) -> None:
    source = """
    import threading
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/hold":
            print("held", file=environ["wsgi.errors"], flush=True)
            open("fifo").read()
        start_response("200 OK", [])
        return [str(threading.get_native_id()).encode()]
    """
    os.mkfifo(tmp_path / "fifo")
    options = ("--workers", "2", "--threads", "1")
    with serving(tmp_path, source, *options) as server, server.connect() as held:
        server.wait_for("all 2 workers serve")
        held.send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("held")
        # Wherever they are accepted, the other worker answers.
        others = [server.connect() for _ in range(4)]
        answers = {raw.get()[2] for raw in others}
        (tmp_path / "fifo").write_text("")
        assert len(answers | {held.answer()[2]}) == 2
        assert len(answers) == 1
        for raw in others:
            raw.socket.close()


FINISH = """
import sys, threading
go = threading.Event()
def app(environ, start_response):
    if environ["PATH_INFO"] == "/go":
        go.set()
    elif environ["PATH_INFO"] == "/":
        print("entered", file=sys.stderr, flush=True)
        go.wait(60)
    start_response("200 OK", [])
    return [b"finished"]
"""


def test_running_requests_are_finished(tmp_path: Path) -> None:
    with serving(tmp_path, FINISH) as server:
        with server.connect() as raw, server.connect() as other:
            for one in (raw, other):
                assert one.get("/begin")[0] == 200  # both have been accepted
            # Read in this order: when the one has entered, the other has begun.
            other.send(b"GET /go HTTP/1.1\r\nHost: x\r\n")
            raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for("entered")
            stopper = threading.Thread(target=server.stop)
            stopper.start()
            server.wait_for("stopping")
            other.send(b"\r\n")
            assert raw.answer()[2] == b"finished"
            assert other.answer()[2] == b"finished"
            assert other.rest() == b""
            stopper.join(DEADLINE_S)
        assert not stopper.is_alive()


def test_one_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    with (
        serving(tmp_path, FINISH, "--timeout-drain", "0.2", check=False) as server,
        server.connect() as raw,
    ):
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("entered")
        server.stop()  # would wait no longer than its deadline
        assert "cut off" in server.log
        with pytest.raises((EOFError, ConnectionError)):
            raw.answer()


def test_http_2(tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    (tmp_path / "public").mkdir()
    big = bytes(range(256)) * 8000
    (tmp_path / "public" / "big.bin").write_bytes(big)

    def get(target: str, *options: str) -> bytes:
        command = [curl, "-sS", "--http2-prior-knowledge", "-m", str(DEADLINE_S)]
        return subprocess.run(
            [*command, *options, server.url + target], capture_output=True, check=True
        ).stdout

    source = (
        INPUT
        + "echo = app\n"
        + ENVIRON
        + """
environ_app = app
def app(environ, start_response):
    return (environ_app if environ["PATH_INFO"] == "/" else echo)(
        environ, start_response)
"""
    )
    with serving(tmp_path, source, "--static", "/s=public") as server:
        environ = json.loads(get("/?a=b"))
        assert environ["SERVER_PROTOCOL"] == "HTTP/2"
        assert environ["QUERY_STRING"] == "a=b"
        assert environ["RAW_URI"] == "/?a=b"
        assert environ["HTTP_HOST"] == f"127.0.0.1:{server.port}"
        body = tmp_path / "public" / "big.bin"
        assert get("/all", "--data-binary", f"@{body}") == big
        assert get("/s/big.bin") == big
        assert get("/s/big.bin", "-H", "Range: bytes=-256") == bytes(range(256))


def test_the_interface_is_found_out() -> None:
    class Wsgi:
        def __call__(self, environ, start_response):  # type: ignore[no-untyped-def]
            return []

    class WsgiClass:
        def __init__(self, environ, start_response):  # type: ignore[no-untyped-def]
            pass

    class Asgi:
        async def __call__(self, scope, receive, send):  # type: ignore[no-untyped-def]
            pass

    class Asgi2:
        def __init__(self, scope):  # type: ignore[no-untyped-def]
            pass

    async def asgi(scope, receive, send):  # type: ignore[no-untyped-def]
        pass

    def wsgi(environ, start_response, extra=None):  # type: ignore[no-untyped-def]
        return []

    assert [find_interface(app) for app in (Wsgi(), WsgiClass, wsgi)] == ["wsgi"] * 3
    assert [find_interface(app) for app in (Asgi(), Asgi2, asgi, print)] == ["asgi"] * 4
    assert find_interface(lambda scope, receive, send: None) == "asgi"


def test_a_worker_of_wsgi_does_without_asyncio(tmp_path: Path) -> None:
    """It is four megabytes of each interpreter."""
    source = """
    import sys
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"%d" % ("asyncio" in sys.modules)]
    """
    with serving(tmp_path, source) as server, server.connect() as raw:
        assert raw.get()[2] == b"0"
