"""Static files: what RFC 9110 says of them, and what no path may reach."""

import os
import random
from pathlib import Path

import httpx
import pytest
from serving import DEADLINE_S, Server, serving

APP = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"app " + scope["raw_path"]})
"""
WSGI = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"app " + environ["PATH_INFO"].encode()]
"""
BIG = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    public = tmp_path / "public"
    (public / "sub").mkdir(parents=True)
    (public / ".git").mkdir()
    (public / ".well-known").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (public / "a.txt").write_text("0123456789")
    (public / "empty.css").write_text("")
    (public / "big.bin").write_bytes(BIG)
    (public / "with space é.html").write_text("<p>")
    (public / "app.js").write_text("plain")
    (public / "app.js.br").write_bytes(b"brotli form")
    (public / "app.js.gz").write_bytes(b"gzip form")
    (public / "sub" / "index.html").write_text("index of sub")
    (public / ".git" / "config").write_text("secret")
    (public / ".env").write_text("secret")
    (public / ".well-known" / "it").write_text("known")
    (public / "out").symlink_to(tmp_path)
    (public / "out.txt").symlink_to(tmp_path / "secret.txt")
    (public / "in.txt").symlink_to("a.txt")
    os.mkfifo(public / "fifo")
    return tmp_path


@pytest.mark.parametrize("source", [APP, WSGI], ids=["asgi", "wsgi"])
def test_files(folder: Path, source: str) -> None:
    with (
        serving(folder, source, "--static", "/s=public") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        assert client.get("/").text == "app /"
        assert client.get("/stuff").text == "app /stuff"
        text = client.get("/s/a.txt")
        assert (text.status_code, text.text) == (200, "0123456789")
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
        assert text.headers["accept-ranges"] == "bytes"
        assert text.headers["last-modified"].endswith(" GMT")
        assert text.headers["etag"].startswith('"')
        assert client.get("/s/in.txt").text == "0123456789"
        assert client.get("/s/big.bin").content == BIG
        assert client.get("/s/empty.css").headers["content-length"] == "0"
        assert client.get("/s/with%20space%20%C3%A9.html").text == "<p>"
        assert client.get("/s/sub/").text == "index of sub"
        assert client.get("/s/.well-known/it").text == "known"
        moved = client.get("/s/sub?x=1")
        assert (moved.status_code, moved.headers["location"]) == (308, "/s/sub/?x=1")
        head = client.head("/s/big.bin")
        assert (head.content, head.headers["content-length"]) == (b"", "3000000")
        wrong = client.post("/s/a.txt", content=b"x")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
        assert client.get("/s/none").status_code == 404
        assert client.get("/s/").status_code == 404
        assert client.get("/").text == "app /"


def test_conditions(folder: Path) -> None:
    with (
        serving(folder, APP, "--static", "/s=public") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        first = client.get("/s/a.txt")
        etag, modified = first.headers["etag"], first.headers["last-modified"]
        early, late = "Thu, 01 Jan 1970 00:00:01 GMT", "Fri, 31 Dec 2100 23:59:59 GMT"
        for fields, status in [
            ({"If-None-Match": etag}, 304),
            ({"If-None-Match": f'"other", W/{etag}'}, 304),
            ({"If-None-Match": "*"}, 304),
            ({"If-None-Match": '"other"'}, 200),
            ({"If-Modified-Since": modified}, 304),
            ({"If-Modified-Since": late}, 304),
            ({"If-Modified-Since": early}, 200),
            ({"If-Modified-Since": "yesterday"}, 200),
            # The tag is stronger than the date.
            ({"If-None-Match": '"other"', "If-Modified-Since": modified}, 200),
            ({"If-Match": etag}, 200),
            ({"If-Match": f"W/{etag}"}, 412),
            ({"If-Match": '"other"'}, 412),
            ({"If-Unmodified-Since": early}, 412),
            ({"If-Unmodified-Since": modified}, 200),
        ]:
            answer = client.get("/s/a.txt", headers=fields)
            assert answer.status_code == status, fields
            assert answer.headers["etag"] == etag
            if status == 304:
                assert answer.content == b""
        (folder / "public" / "a.txt").write_text("something else")
        changed = client.get("/s/a.txt", headers={"If-None-Match": etag})
        assert (changed.status_code, changed.text) == (200, "something else")


def test_ranges(folder: Path) -> None:
    with (
        serving(folder, APP, "--static", "/s=public") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        etag = client.get("/s/a.txt").headers["etag"]
        for value, status, body, where in [
            ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
            ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
            ("bytes=-2", 206, b"89", "bytes 8-9/10"),
            ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
            ("bytes=10-", 416, None, "bytes */10"),
            ("bytes=-0", 416, None, "bytes */10"),
            ("bytes=3-2", 200, b"0123456789", None),
            ("bytes=a-", 200, b"0123456789", None),
            ("bytes=0-1,3-4", 200, b"0123456789", None),
            ("bytes=99999999999999999999-", 200, b"0123456789", None),
            ("lines=0-1", 200, b"0123456789", None),
        ]:
            answer = client.get("/s/a.txt", headers={"Range": value})
            assert answer.status_code == status, value
            assert answer.headers.get("content-range") == where, value
            if body is not None:
                assert answer.content == body, value
        fresh = {"Range": "bytes=0-1", "If-Range": etag}
        assert client.get("/s/a.txt", headers=fresh).content == b"01"
        stale = {"Range": "bytes=0-1", "If-Range": '"other"'}
        assert client.get("/s/a.txt", headers=stale).content == b"0123456789"
        middle = {"Range": "bytes=1000000-2499999"}
        assert client.get("/s/big.bin", headers=middle).content == BIG[1000000:2500000]
        none = client.get("/s/empty.css", headers={"Range": "bytes=0-"})
        assert none.status_code == 416


def test_precompressed(folder: Path) -> None:
    with serving(folder, APP, "--static", "/s=public") as server:
        for accepted, coding, body in [
            ("gzip, br", "br", b"brotli form"),
            ("gzip", "gzip", b"gzip form"),
            ("br;q=0, gzip;q=0.5", "gzip", b"gzip form"),
            ("br; q=0.0, gzip;q=0", None, b"plain"),
            ("identity", None, b"plain"),
        ]:
            with server.connect() as raw:
                got = raw.get("/s/app.js", f"Accept-Encoding: {accepted}")
                assert got[1].get("content-encoding") == coding, accepted
                assert got[1]["vary"] == "accept-encoding"
                assert got[1]["content-type"] == "text/javascript; charset=utf-8"
                assert got[2] == body


ESCAPES = [
    "/s/../secret.txt",
    "/s/%2e%2e/secret.txt",
    "/s/..%2fsecret.txt",
    "/s/sub/../../secret.txt",
    "/s/./a.txt",
    "/s//a.txt",
    "/s/out/secret.txt",
    "/s/out.txt",
    "/s/.git/config",
    "/s/.env",
    "/s/sub/%2e%2e/.env",
    "/s/.well-known/../.env",
    "/s/a.txt%00.html",
    "/s/%00",
    "/s/fifo",
    "/s/a.txt/",
    "/s/a.txt/x",
    "/s/..\\secret.txt",
    "/s/" + "x" * 300,
    "/s/" + "y/" * 1000,
    "/s//etc/passwd",
    "/s/%2fetc/passwd",
]


def test_nothing_else_is_reached(folder: Path) -> None:
    with serving(folder, APP, "--static", "/s=public") as server:
        with server.connect() as raw:
            for target in ESCAPES:
                status, _, body = raw.get(target)
                assert status == 404, target
                assert b"secret" not in body
        # Anything at all, made of pieces that mean something to a path.
        pieces = ["/", "..", ".", "%2e", "%2f", "%00", "out", "a.txt", "sub", "\\", "%"]
        chance = random.Random(7)
        with server.connect() as raw:
            for _ in range(3000):
                count = chance.randrange(1, 8)
                target = "/s/" + "".join(chance.choice(pieces) for _ in range(count))
                status, _, body = raw.get(target)
                assert status in (200, 308, 404), target
                assert b"secret" not in body, target


def test_a_mount_at_the_root_and_one_in_it(folder: Path) -> None:
    options = ("--static", "/=public", "--static", "/s/deep=public/sub")
    with serving(folder, APP, *options) as server, server.connect() as raw:
        assert raw.get("/a.txt")[2] == b"0123456789"
        assert raw.get("/s/deep/index.html")[2] == b"index of sub"
        assert raw.get("/sub")[1]["location"] == "/sub/"
        assert raw.get("//evil.example/..")[0] == 404


def test_clients_that_read_slowly_or_leave(folder: Path) -> None:
    (folder / "public" / "huge.bin").write_bytes(BIG * 7)
    with serving(folder, APP, "--static", "/s=public") as server:
        slow, leaver = server.connect(), server.connect()
        for raw in (slow, leaver):
            raw.send(b"GET /s/huge.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            raw.until(b"\r\n\r\n")
        with server.connect() as other:
            assert other.get("/x")[2] == b"app /x"
        leaver.socket.close()
        assert slow.exactly(len(BIG) * 7) == BIG * 7
        assert slow.get("/s/a.txt")[2] == b"0123456789"
        slow.socket.close()


def test_mounts_that_are_wrong(folder: Path) -> None:
    for mount, message in [
        ("/s=nowhere", "'nowhere' is not a folder"),
        ("s=public", "not of the form"),
        ("/s", "not of the form"),
    ]:
        (folder / "main.py").write_text(APP)
        server = Server(folder, "--static", mount)
        assert server.wait() == 2
        assert message in server.log
