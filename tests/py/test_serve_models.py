"""The same server with workers of every model: interpreters, threads, processes."""

import contextlib
import functools
import itertools
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import DEADLINE_S, Raw, Server, different, serving, wait_until

from atoll._server import crew

pytest.importorskip("websockets")
from websockets.sync.client import connect

MODELS = {
    "interpreters": ("--model", "interpreters", "--workers", "2"),
    "threads": ("--model", "threads", "--workers", "2"),
    "processes": ("--model", "processes", "--workers", "2"),
    "preload": ("--preload", "--workers", "2"),
    "both": ("--processes", "2", "--model", "interpreters", "--workers", "2"),
}
OF_PROCESSES = ("processes", "preload", "both")

APP = """
import asyncio, os, threading
VERSION = "0"
def tell(word):
    os.write(2, f"told: {word}\\n".encode())
tell("imported")
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["thread"] = threading.get_native_id()
        tell("startup")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tell("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] + "!"})
    else:
        body = VERSION
        if scope["path"] == "/who":
            # What lifespan left is of the loop that serves the request.
            assert scope["state"]["thread"] == threading.get_native_id()
            body = f"{os.getpid()} {threading.get_native_id()}"
        elif scope["path"] == "/wait":
            tell("waits")
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
        elif scope["path"] == "/busy":
            tell("busy")
            while not os.path.exists("go"):
                pass
            body = f"{os.getpid()} {threading.get_native_id()}"
        elif scope["path"] == "/inherited":
            os.system("ls -l /proc/self/fd > inherited")
            with open("inherited") as file:
                body = file.read()
        elif scope["path"] == "/crash":
            os.abort()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body.encode()})
"""


def who_serve(server: Server, count: int, words: int = 2) -> set[bytes]:
    """Until so many have been seen: process and thread, or the process."""
    return different(
        server.connect,
        lambda raw: b" ".join(raw.get("/who")[2].split()[:words]),
        count,
    )


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_requests_sockets_and_lifespan(tmp_path: Path, model: str) -> None:
    with serving(tmp_path, APP, *MODELS[model]) as server:
        server.wait_for("all 2 workers serve")
        seen = who_serve(server, 4 if model == "both" else 2)
        processes = {who.split()[0] for who in seen}
        assert len(processes) == (2 if model in OF_PROCESSES else 1)
        assert (str(server.process.pid).encode() in processes) == (
            model not in OF_PROCESSES
        )
        with server.connect() as raw:
            raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            assert [raw.answer()[2] for _ in range(2)] == [b"0", b"0"]
        url = f"ws://127.0.0.1:{server.port}/"
        with connect(url, open_timeout=DEADLINE_S) as socket:
            socket.send("hello")
            assert socket.recv(DEADLINE_S) == "hello!"
        loops = 4 if model == "both" else 2
        imports = {"threads": 1, "preload": 1}.get(model, loops)
        assert server.stop() == 0, server.log
        assert server.log.count("told: imported") == imports
        assert server.log.count("told: startup") == loops
        assert server.log.count("told: shutdown") == loops


def test_programs_of_the_application_inherit_nothing(
    tmp_path: Path, model: str
) -> None:
    with serving(tmp_path, APP, *MODELS[model]) as server, server.connect() as raw:
        descriptors = raw.get("/inherited")[2].decode()
        assert "inherited" in descriptors  # its output
        assert "socket:" not in descriptors
        assert "memfd:" not in descriptors


def test_running_requests_are_finished(tmp_path: Path, model: str) -> None:
    with serving(tmp_path, APP, *MODELS[model], check=False) as server:
        with server.connect() as raw:
            raw.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for("told: waits")
            server.process.send_signal(signal.SIGINT)
            server.wait_for("stopping")
            (tmp_path / "go").touch()
            status, _, body = raw.answer()
            assert (status, body) == (200, b"0")
        assert server.wait() == 0, server.log


@pytest.mark.parametrize("model", ["threads", "processes", "preload"])
def test_an_application_that_does_not_start(tmp_path: Path, model: str) -> None:
    (tmp_path / "main.py").write_text("import no_such_module_anywhere\n")
    server = Server(tmp_path, *MODELS[model])
    assert server.wait() == 1
    assert server.log.count("ModuleNotFoundError") == 1, server.log


@pytest.mark.parametrize("model", OF_PROCESSES)
def test_a_process_that_crashes_is_replaced(tmp_path: Path, model: str) -> None:
    with serving(tmp_path, APP, *MODELS[model]) as server:
        server.wait_for("all 2 workers serve")
        before = who_serve(server, 2, words=1)
        with server.connect() as raw:
            raw.send(b"GET /crash HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises((EOFError, ConnectionResetError)):
                raw.answer()
        server.wait_for("its process was killed by SIGABRT; another starts in 0.5 s")
        server.wait_for_count("all 2 workers serve", 2)
        after = who_serve(server, 2, words=1)
        assert after != before


def test_requests_wait_for_the_next_process(tmp_path: Path) -> None:
    options = ("--model", "processes", "--workers", "1")
    with serving(tmp_path, APP, *options) as server:
        with server.connect() as raw:
            process, _ = raw.get("/who")[2].split()
            os.kill(int(process), signal.SIGKILL)
            server.wait_for("its process was killed by SIGKILL")
        # Nobody accepts now; what comes is answered by the next process.
        with server.connect() as raw:
            assert raw.get("/who")[2].split()[0] != process


@pytest.mark.parametrize("model", OF_PROCESSES)
def test_processes_end_with_the_first(tmp_path: Path, model: str) -> None:
    with serving(tmp_path, APP, *MODELS[model], check=False) as server:
        server.wait_for("all 2 workers serve")
        processes = map(int, who_serve(server, 2, words=1))
        ends = [os.pidfd_open(process) for process in processes]
        server.kill()
        for end in ends:
            assert select.select([end], [], [], DEADLINE_S)[0]
            os.close(end)


@pytest.mark.parametrize("model", ["interpreters", *OF_PROCESSES])
def test_the_next_request_is_served_where_there_is_time(
    tmp_path: Path, model: str
) -> None:
    """Connections of a worker that is busy go on, in another process if need be."""
    options = MODELS[model]
    with serving(tmp_path, APP, *options) as server:
        server.wait_for("all 2 workers serve")
        clients = [server.connect() for _ in range(8)]
        for raw in clients:
            raw.get()
        clients[0].send(b"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("told: busy")
        # Wherever they were, all are answered while that one is busy.
        idle = {raw.get("/who")[2] for raw in clients[1:]}
        (tmp_path / "go").touch()
        busy = clients[0].answer()[2]
        assert busy not in idle
        for raw in clients:
            raw.socket.close()


LOOPS = """
import asyncio, os, threading
async def wait_in_vain():
    open("begun", "w").close()
    await asyncio.Event().wait()
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        if os.path.exists("database has gone"):
            await wait_in_vain()
        raise RuntimeError("http only")
    here = str(threading.get_native_id()).encode()
    if scope["path"] == "/stop" and scope["query_string"] == here:
        asyncio.get_running_loop().stop()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": here, "more_body": True})
    if scope["path"] == "/hold":
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b""})
"""


def thread_of(raw: Raw) -> bytes:
    return raw.get()[2]


def test_a_loop_that_ends_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    with (
        serving(tmp_path, LOOPS, "--model", "threads", "--workers", "2") as server,
        server.connect() as held,
    ):
        server.wait_for("all 2 workers serve")
        held.send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
        held.until(b"\r\n\r\n")
        first = held.exactly(int(held.until(b"\r\n"), 16) + 2).strip()
        (second,) = different(server.connect, thread_of, 2) - {first}

        def has_ended(times: int) -> bool:
            with server.connect() as raw, contextlib.suppress(EOFError, OSError):
                raw.get(f"/stop?{second.decode()}")
            return server.log.count("of the worker ended; another starts") == times

        for times in (1, 2):
            wait_until(functools.partial(has_ended, times), lambda: server.log)
            # The one that holds a request goes on, and another serves beside it.
            serve = different(server.connect, thread_of, 2)
            assert first in serve and second not in serve
            (second,) = serve - {first}
        (tmp_path / "go").touch()
        assert held.until(b"0\r\n\r\n")
        assert "worker 0 ended" not in server.log


def test_a_loop_that_cannot_be_replaced_ends_the_others() -> None:
    reports: list[dict[str, Any]] = []
    go_on, asked = threading.Event(), threading.Event()
    lives = itertools.count()

    def short(ready: Callable[[], None]) -> str | None:
        if next(lives):
            return "the database has gone"
        ready()
        go_on.wait(DEADLINE_S)
        raise RuntimeError("it ends by itself")

    def long(ready: Callable[[], None]) -> None:
        ready()
        asked.wait(DEADLINE_S)

    def report(**fields: Any) -> None:
        reports.append(fields)
        (asked if fields["event"] == "lost" else go_on).set()

    crew.serve([short, long], report, lambda: None, lambda end: None)
    assert [each["event"] for each in reports] == ["ready", "failed", "lost"]
    assert reports[1]["text"] == "the database has gone"


def test_a_stop_does_not_wait_until_loops_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have ended by themselves: nobody hears that the server drains."""
    (tmp_path / "sitecustomize.py").write_text(
        "from atoll._server import crew; crew.REPLACE_FIRST_S = 3600.0"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options = ("--model", "threads", "--workers", "2", "--timeout-drain", "3600")
    with serving(tmp_path, LOOPS, *options) as server:
        server.wait_for("all 2 workers serve")
        threads = different(server.connect, thread_of, 2)
        for count, thread in enumerate(threads, 1):
            end_loop(server, thread, count)
        assert server.stop() == 0, server.log


def end_loop(server: Server, thread: bytes, count: int) -> None:
    """Have it end by itself; `count`: how many have then."""
    by = b""
    while by != thread:
        with server.connect() as raw:
            try:
                by = raw.get(f"/stop?{thread.decode()}")[2]
            except (EOFError, OSError):
                by = thread  # it ends before it has sent that
    server.wait_for_count("of the worker ended; another starts", count)


def test_a_stop_does_not_wait_for_a_loop_that_never_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others finish what they have, and then nobody has anything to do."""
    (tmp_path / "sitecustomize.py").write_text(
        "from atoll._server import starting; starting.ANSWER_S = 3600.0"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options = ("--model", "threads", "--workers", "3", "--timeout-drain", "0")
    options += ("--loop", "asyncio")
    with serving(tmp_path, LOOPS, *options) as server, server.connect() as held:
        server.wait_for("all 3 workers serve")
        held.send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
        held.until(b"\r\n\r\n")
        first = held.exactly(int(held.until(b"\r\n"), 16) + 2).strip()
        (second, third) = different(server.connect, thread_of, 3) - {first}
        (tmp_path / "database has gone").touch()
        end_loop(server, second, 1)
        wait_until((tmp_path / "begun").exists, lambda: server.log)
        # It keeps the crew from nothing: another that ends is heard of.
        end_loop(server, third, 2)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("stopping: running requests are being finished")
        (tmp_path / "go").touch()
        assert held.until(b"0\r\n\r\n")
        assert server.wait() == 0
        told = "ERROR worker 0 has not got to serving: it is waited for no more, and is"
        assert told in server.log
        assert "in wait_in_vain" in server.log.partition(told)[2]


def test_a_loop_for_which_there_is_no_thread_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[dict[str, Any]] = []
    lives = itertools.count()
    refused = threading.Event()

    def refuse(member: Any, start: Callable[[Any], None] = crew._Member.start) -> None:
        if next(lives) == 1 and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(member)

    def serve(ready: Callable[[], None]) -> None:
        ready()
        if not refused.is_set():
            raise RuntimeError("it ends by itself")

    monkeypatch.setattr(crew._Member, "start", refuse)
    monkeypatch.setattr(crew, "REPLACE_FIRST_S", 0.01)
    crew.serve(
        [serve], lambda **one: reports.append(one), lambda: None, lambda end: None
    )
    assert [each["event"] for each in reports] == ["ready", "replaced", "lost"]
    assert "thread 0 of the worker cannot be started: can't start" in caplog.text
