"""The access log: written by the server in C, whoever answers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from serving import COMMAND, DEADLINE_S, Raw, Server, serving, wait_until

SOURCE = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/fails":
        raise ValueError("on purpose")
    headers = [(b"x-cache", b"HIT"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})
"""

WSGI = """
def app(environ, start_response):
    start_response("201 Created", [("X-Cache", "MISS"), ("Content-Length", "5")])
    return [b"hello"]
"""

TIME = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"


def wait_for_lines(path: Path, count: int) -> list[str]:
    end = time.monotonic() + DEADLINE_S
    while True:
        text = path.read_text() if path.exists() else ""
        if text.count("\n") >= count:
            return text.splitlines()
        assert time.monotonic() < end, text
        time.sleep(0.01)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def test_combined_is_what_a_file_gets(tmp_path: Path, log: Path) -> None:
    with serving(tmp_path, SOURCE, "--access-log-file", str(log)) as server:
        with Raw(server.port) as client:
            client.get("/a%20b?c=d", "Referer: http://x/", 'User-Agent: a "b"')
            client.get("/fails")
        first, second = wait_for_lines(log, 2)
    assert re.fullmatch(
        rf'127\.0\.0\.1 - - {TIME} "GET /a%20b\?c=d HTTP/1\.1" 200 5'
        r' "http://x/" "a \\"b\\""',
        first,
    )
    assert re.fullmatch(
        rf'127\.0\.0\.1 - - {TIME} "GET /fails HTTP/1\.1" 500 21 "-" "-"', second
    )


def test_common_of_wsgi(tmp_path: Path, log: Path) -> None:
    options = ("--access-log-file", str(log), "--access-log-format", "common")
    with serving(tmp_path, WSGI, *options) as server:
        with Raw(server.port) as client:
            client.get("/x")
        [line] = wait_for_lines(log, 1)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {TIME} "GET /x HTTP/1\.1" 201 5', line), (
        line
    )


def test_json(tmp_path: Path, log: Path) -> None:
    options = ("--access-log-file", str(log), "--access-log-format", "json")
    with serving(tmp_path, SOURCE, *options) as server:
        with Raw(server.port) as client:
            client.get("/a?b=1", 'User-Agent: "\\\t\xe9')
        [line] = wait_for_lines(log, 1)
    told = json.loads(line)
    assert told["client"] == "127.0.0.1"
    assert (told["method"], told["path"], told["query"]) == ("GET", "/a", "b=1")
    assert (told["status"], told["bytes"], told["protocol"]) == (200, 5, "HTTP/1.1")
    assert told["user_agent"].startswith('"\\\t')
    assert 0 <= told["seconds"] < DEADLINE_S
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]{12}[+-]\d\d:\d\d", told["time"])
    assert told["process"] == server.process.pid


def test_own_format_with_headers_of_both_sides(tmp_path: Path, log: Path) -> None:
    options = (
        *("--access-log-file", str(log)),
        *("--access-log-format", "%(m)s|%(U)s|%(q)s|%(s)s|%(B)s|%({X-Id}i)s|"),
    )
    options = (*options[:-1], options[-1] + "%({x-cache}o)s|%({x-none}o)s|100%%")
    with serving(tmp_path, SOURCE, *options) as server:
        with Raw(server.port) as client:
            client.get("/p?q", "x-id: 7")
        assert wait_for_lines(log, 1) == ["GET|/p|q|200|5|7|HIT|-|100%"]


@pytest.mark.parametrize(
    ("format", "why"),
    [
        ("%(h)s %(z)s", "unknown atom: %(z)s"),
        ("%({x}e)s", "unknown atom: %({x}e)s"),
        ("%({x y}i)s", "not the name of a header: x y"),
        ("%h", "an atom looks like %(h)s, and % alone like %%: %h"),
        ("%(h)d", "an atom looks like %(h)s, and % alone like %%: %(h)d"),
        ("a\nb", "a control character"),
    ],
)
def test_a_wrong_format_is_told_at_the_start(
    tmp_path: Path, format: str, why: str
) -> None:
    (tmp_path / "main.py").write_text(SOURCE)
    server = Server(tmp_path, "--access-log-format", format)
    assert server.wait() == 1
    assert f"access log format: {why}" in server.log


def test_a_file_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SOURCE)
    server = Server(tmp_path, "--access-log-file", str(tmp_path / "no" / "access.log"))
    assert server.wait() == 1
    assert "cannot open" in server.log


def test_no_access_log_is_stronger_than_a_file(tmp_path: Path, log: Path) -> None:
    options = ("--access-log-file", str(log), "--no-access-log")
    with serving(tmp_path, SOURCE, *options) as server, Raw(server.port) as client:
        client.get("/")
    assert not log.exists()


def test_access_log_alone_is_standard_output(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SOURCE)
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", COMMAND, "serve", "main:app"),
            *("--uds", str(tmp_path / "s"), "--access-log"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_S)

            def connects() -> bool:  # its name is there a little before it listens
                return client.connect_ex(str(tmp_path / "s")) == 0

            wait_until(connects)
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096)
        line = process.stdout.readline()
        assert re.match(rf'- - - {TIME} "GET / HTTP/1\.1" 200 5 ', line), line
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_nothing_that_a_client_sends_makes_a_line(tmp_path: Path, log: Path) -> None:
    with serving(tmp_path, SOURCE, "--access-log-file", str(log)) as server:
        with Raw(server.port) as client:
            # What a header may not have is refused, and logged all the same.
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x0bb\r\n\r\n")
            assert client.answer()[0] == 400
        with Raw(server.port) as client:
            client.get("/", 'User-Agent: x" 200 5\t"forged\\')
        with Raw(server.port) as client:
            client.send(
                b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b".replace(b"\x1b", b"")
                + "é\r\n\r\n".encode("latin-1")
            )
            client.answer()
        lines = wait_for_lines(log, 3)
    assert len(lines) == 3
    assert '"-" 400 -' in lines[0]
    assert lines[1].endswith(r'"x\" 200 5\x09\"forged\\"')
    assert lines[2].endswith(r'"\xe9"')
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_static_files_and_the_servers_own_answers(tmp_path: Path, log: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("static")
    options = (
        *("--static", f"/files={tmp_path / 'files'}", "--health-path", "/health"),
        *("--access-log-file", str(log), "--access-log-format", "%(r)s %(s)s %(b)s"),
    )
    with serving(tmp_path, SOURCE, *options) as server:
        with Raw(server.port) as client:
            client.get("/files/a.txt")
            client.get("/files/none")
            client.get("/health")
        assert wait_for_lines(log, 3) == [
            "GET /files/a.txt HTTP/1.1 200 6",
            "GET /files/none HTTP/1.1 404 9",
            "GET /health HTTP/1.1 200 3",
        ]


def test_the_client_is_who_a_trusted_proxy_says(tmp_path: Path, log: Path) -> None:
    options = ("--access-log-file", str(log), "--access-log-format", "%(h)s")
    with serving(tmp_path, SOURCE, *options) as server:
        with Raw(server.port) as client:
            client.get("/", "X-Forwarded-For: 203.0.113.7")
        assert wait_for_lines(log, 1) == ["203.0.113.7"]


def test_a_client_that_goes_is_logged(tmp_path: Path, log: Path) -> None:
    source = """
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        while (await receive())["type"] != "http.disconnect":
            pass
    """
    options = ("--access-log-file", str(log), "--access-log-format", "%(U)s %(s)s")
    with serving(tmp_path, source, *options) as server:
        with Raw(server.port) as client:
            client.send(b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wait_for_lines(log, 1) == ["/gone 499"]


def test_sigusr1_opens_the_file_again(tmp_path: Path, log: Path) -> None:
    options = ("--access-log-file", str(log), "--access-log-format", "%(U)s")
    with serving(tmp_path, SOURCE, *options) as server:
        with Raw(server.port) as client:
            client.get("/before")
            assert wait_for_lines(log, 1) == ["/before"]
            moved = log.rename(tmp_path / "access.log.1")
            server.process.send_signal(signal.SIGUSR1)
            server.wait_for("the access log was opened again")
            client.get("/after")
        assert wait_for_lines(log, 1) == ["/after"]
        assert moved.read_text() == "/before\n"
        log.unlink()
        log.mkdir()
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("the access log stays where it was")


def test_processes_write_one_file(tmp_path: Path, log: Path) -> None:
    options = (
        *("--model", "processes", "--workers", "2", "--access-log-file", str(log)),
        *("--access-log-format", "%(U)s %(p)s"),
    )
    with serving(tmp_path, SOURCE, *options) as server:
        for i in range(10):
            with Raw(server.port) as client:
                client.get(f"/{i}")
        lines = wait_for_lines(log, 10)
    assert sorted(line.split()[0] for line in lines) == [f"/{i}" for i in range(10)]
    assert all(re.fullmatch(r"/\d <\d+>", line) for line in lines)


def test_nobody_reads_the_log_and_nobody_waits(tmp_path: Path) -> None:
    """A pipe that is full: requests go on, lines are dropped and counted; and the
    server ends."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    options = (
        *("--access-log-file", str(fifo), "--access-log-format", "%(U)s" + "x" * 3000),
        *("--metrics-path", "/metrics"),
    )
    count = 20000
    with serving(tmp_path, SOURCE, *options) as server, Raw(server.port) as client:
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        sender = threading.Thread(
            target=client.send, args=(request * count,), daemon=True
        )
        sender.start()
        for _ in range(count):
            assert client.answer()[0] == 200
        sender.join(DEADLINE_S)
        text = client.get("/metrics")[2].decode()
        logged, unlogged = (
            int(re.search(rf'atoll_{key}_total{{worker="0"}} (\d+)', text)[1])  # type: ignore[index]
            for key in ("logged", "unlogged")
        )
        assert logged + unlogged == count
        assert unlogged > 0
    os.close(reader)
