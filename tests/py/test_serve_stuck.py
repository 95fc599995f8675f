"""Workers that do not get on: told of, interrupted, replaced; requests that take too
long; lives that are over."""

import os
import re
import resource
import signal
import sys
from pathlib import Path

import pytest
from serving import DEADLINE_S, Raw, Server, serving, wait_until

pytest.importorskip("websockets")
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from atoll._server.hosts import WorkerRecord
from atoll._server.listening import make_service
from atoll._server.pulse import Pulse
from atoll._server.replacing import Lives
from atoll._server.settings import Settings
from atoll._server.vigil import Vigil

APP = """
import asyncio, ctypes, os, time, threading

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "block":
                os.close(os.open("fifo", os.O_RDONLY))  # until somebody writes to it
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if path == "/spin":
        spin_for_ever()
    elif path == "/spin-later":
        await asyncio.sleep(0.01)
        spin_for_ever()
    elif path == "/spin-when-told":
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        spin_for_ever()
    elif path == "/wait-until-told":
        app.waits = threading.get_native_id()
        open("waits", "w").close()
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    elif path == "/sleep-elsewhere" and threading.get_native_id() != app.waits:
        time.sleep(3600)
    elif path == "/sleep":
        open("sleeps", "w").close()
        time.sleep(3600)
    elif path == "/gil":  # PyDLL keeps the GIL
        ctypes.PyDLL(None).open(b"fifo", 0)  # until somebody writes to it
    elif path == "/wait":
        await wait_for_ever()
    elif path == "/descriptors":
        app.kept.append([os.dup(0) for _ in range(1200)])
    elif path == "/grow" and len(app.kept) < 8:
        app.kept.append([str(i) * 10 for i in range(200_000)])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = str(threading.get_native_id()).encode()
    await send({"type": "http.response.body", "body": body})

app.kept = []

def spin_for_ever():
    while True:
        pass

async def wait_for_ever():
    await asyncio.Event().wait()
"""
APP = (
    APP.replace("app.kept = []\n", "")
    .replace("app.kept", "kept")
    .replace("import asyncio", "kept = []\nimport asyncio", 1)
)
QUICK = ("--stuck-after", "0.5", "--replace-stuck-after", "2")


def served(raw: Raw) -> bytes | None:
    """What is answered; None: 503, as healthy workers of a busy machine may say too."""
    status, _, body = raw.get()
    assert status in (200, 503)
    return body if status == 200 else None


def wait_until_served(server: Server) -> None:
    """By anyone, over new connections."""

    def is_served() -> bool:
        with server.connect() as raw:
            return served(raw) is not None

    wait_until(is_served, lambda: server.log)


def wait_for_answer(raw: Raw) -> bytes:
    """Over this connection, which goes on."""
    answers: list[bytes | None] = []
    wait_until(lambda: answers.append(served(raw)) or answers[-1] is not None)
    assert answers[-1] is not None
    return answers[-1]


@pytest.mark.parametrize("path", ["/spin", "/spin-later"])
def test_a_stuck_worker_is_told_of_and_replaced(tmp_path: Path, path: str) -> None:
    with serving(tmp_path, APP, "--workers", "2", *QUICK) as server:
        server.wait_for("all 2 workers serve")
        with server.connect() as stuck:
            stuck.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            server.wait_for("has given no sign of life for")
            server.wait_for(r'main.py", line \d+, in spin_for_ever')
            server.wait_for("worker . is stuck")
            server.wait_for("was stuck: .* 1 requests were answered 503")
            status, headers, _ = stuck.answer()
            assert status == 503
            assert headers["retry-after"] == "1"
            assert headers["connection"] == "close"
            assert stuck.rest() == b""
            wait_until_served(server)
        # RequestTimeout ends the loop in it, and with that its interpreter.
        server.wait_for("RequestTimeout")
        assert server.stop() == 0
        assert "is left" not in server.log


WITH_STACKS = pytest.mark.skipif(
    "t" in sys.abiflags,
    reason="there CPython stops every thread of the process to see a stack, and waits "
    "for C code that does not detach",
)


@WITH_STACKS
def test_c_code_that_keeps_the_gil_beside_thousands_of_descriptors(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "fifo")
    with serving(tmp_path, APP, "--workers", "2", *QUICK) as server:
        server.wait_for("all 2 workers serve")
        pid = server.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        if hard < 2048:
            pytest.skip("thousands are not allowed here")
        _ = resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        with server.connect() as stuck:
            assert stuck.get("/descriptors")[0] == 200
            stuck.send(b"GET /gil HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for("C code keeps its GIL")
            server.wait_for(r'main.py", line \d+, in app')
            assert stuck.answer()[0] == 503
            wait_until_served(server)
        (tmp_path / "fifo").write_bytes(b"")


@WITH_STACKS
def test_c_code_that_keeps_the_gil(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with serving(tmp_path, APP, "--workers", "2", *QUICK) as server:
        server.wait_for("all 2 workers serve")
        with server.connect() as stuck:
            stuck.send(b"GET /gil HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for("C code keeps its GIL")
            server.wait_for(r'main.py", line \d+, in app')
            assert stuck.answer()[0] == 503
            wait_until_served(server)
        (tmp_path / "fifo").write_bytes(b"")  # returns when the other end was open
        assert server.stop() == 0
        assert "is left" not in server.log


@WITH_STACKS
@pytest.mark.parametrize("model", ["interpreters", "threads"])
def test_a_supervisor_that_fails_beside_a_stuck_worker_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "sitecustomize.py").write_text(
        "from atoll._server.vigil import Vigil; Vigil._warn = None"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options = ("--model", model, "--workers", "2", *QUICK)
    with serving(tmp_path, APP, *options, check=False) as server:
        server.wait_for("all 2 workers serve")
        with server.connect() as stuck:
            stuck.send(b"GET /gil HTTP/1.1\r\nHost: x\r\n\r\n")
            assert server.wait() == 1
        assert "CRITICAL the supervisor failed, and the server with it" in server.log
        assert "'NoneType' object is not callable" in server.log


PROCESSES = ("--model", "processes", "--workers", "2")


def test_a_process_that_is_stuck(tmp_path: Path) -> None:
    with serving(tmp_path, APP, *PROCESSES, *QUICK) as server:
        server.wait_for("all 2 workers serve")
        with server.connect() as stuck:
            stuck.send(b"GET /spin HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for(r'main.py", line \d+, in spin_for_ever')
            assert stuck.answer()[0] == 503
        wait_until_served(server)


def test_a_process_whose_gil_is_kept_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with serving(tmp_path, APP, *PROCESSES, *QUICK) as server:
        server.wait_for("all 2 workers serve")
        with server.connect() as stuck:
            stuck.send(b"GET /gil HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for("C code keeps its GIL")
            server.wait_for("worker . was stuck: killed")
            with pytest.raises((EOFError, ConnectionResetError)):
                stuck.answer()
        wait_until_served(server)


def test_one_that_never_returns_is_left_and_the_process_ends(tmp_path: Path) -> None:
    with serving(tmp_path, APP, *QUICK, "--timeout-drain", "1") as server:
        with server.connect() as stuck:
            stuck.send(b"GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n")
            assert stuck.answer()[0] == 503
        wait_until_served(server)
        server.wait_for("its interpreter is left as it is")
        assert server.stop() == 0, server.log


def test_one_that_has_little_time_to_end_is_cut_off(tmp_path: Path) -> None:
    with serving(tmp_path, APP, *QUICK, "--timeout-drain", "0.5") as server:
        os.mkfifo(tmp_path / "fifo")
        url = f"ws://127.0.0.1:{server.port}/"
        with connect(url, open_timeout=DEADLINE_S) as websocket:
            websocket.send("block")
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(DEADLINE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        server.wait_for("its interpreter is left as it is")


def test_threads_beside_one_that_is_stuck_finish(tmp_path: Path) -> None:
    options = ("--processes", "1", "--model", "threads", "--workers", "2")
    with (
        serving(tmp_path, APP, *QUICK, *options, "--timeout-drain", "8") as server,
        server.connect() as healthy,
    ):
        healthy.send(b"GET /wait-until-told HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until((tmp_path / "waits").exists)

        def sleeps() -> bool:
            with server.connect() as raw:
                return raw.get("/sleep-elsewhere")[0] == 503

        wait_until(sleeps)
        server.wait_for("was stuck: .* 1 requests were answered 503")
        (tmp_path / "go").touch()
        assert healthy.answer()[0] == 200


def test_a_stop_leaves_what_is_stuck(tmp_path: Path) -> None:
    options = ("--timeout-drain", "0.5", "--replace-stuck-after", "0")
    with serving(tmp_path, APP, *options, check=False) as server:
        with server.connect() as stuck:
            stuck.send(b"GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until((tmp_path / "sleeps").exists)
            with server.connect() as other:
                other.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert server.stop(signal.SIGTERM) == 0, server.log
        server.wait_for("worker 0 does not end: it is left")


def test_a_request_that_waits_too_long(tmp_path: Path) -> None:
    options = ("--request-timeout", "0.8")
    with serving(tmp_path, APP, *options) as server, server.connect() as raw:
        status, _, body = raw.get("/wait")
        assert (status, body) == (503, b"Service Unavailable")
        server.wait_for("GET /wait: no response after 0.8 s, cancelled")
        server.wait_for(r'main.py", line \d+, in wait_for_ever')
        wait_for_answer(raw)  # the connection goes on


@pytest.mark.parametrize("path", ["/spin", "/spin-later"])
@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_a_request_that_keeps_the_loop_too_long(
    tmp_path: Path, path: str, loop: str
) -> None:
    options = ("--request-timeout", "0.8", "--loop", loop)
    with serving(tmp_path, APP, *options) as server, server.connect() as raw:
        first = wait_for_answer(raw)
        assert raw.get(path)[0] == 503
        server.wait_for("RequestTimeout")
        assert wait_for_answer(raw) == first  # the worker is the same


def test_wsgi_requests_that_take_too_long(tmp_path: Path) -> None:
    source = """
        import time
        def app(environ, start_response):
            if environ["PATH_INFO"] == "/spin":
                while True:
                    time.sleep(0.001)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"ok"]
    """
    with serving(tmp_path, source, "--request-timeout", "0.8") as server:
        with server.connect() as raw:
            for _ in range(5):  # more than there are threads
                status, _, body = raw.get("/spin")
                assert (status, body) == (503, b"Service Unavailable")
                assert wait_for_answer(raw) == b"ok"
        server.wait_for("RequestTimeout")


def test_a_wsgi_worker_whose_threads_are_all_stuck(tmp_path: Path) -> None:
    source = """
        import threading
        def app(environ, start_response):
            if environ["PATH_INFO"] == "/lock":
                wait_for_ever()
            start_response("200 OK", [])
            return [b"ok"]
        def wait_for_ever():
            lock = threading.Lock()
            while True:
                lock.acquire(timeout=0.01)
    """
    options = ("--workers", "2", "--threads", "1", *QUICK)
    with serving(tmp_path, source, *options) as server:
        server.wait_for("all 2 workers serve")
        with server.connect() as stuck:
            stuck.send(b"GET /lock HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for(r'main.py", line \d+, in wait_for_ever')
            assert stuck.answer()[0] == 503
        wait_until_served(server)


def test_a_worker_that_dies_gives_its_connections_to_others(tmp_path: Path) -> None:
    source = """
        import asyncio, os, threading
        async def app(scope, receive, send):
            if scope["path"] == "/die":
                asyncio.get_running_loop().stop()
                await asyncio.Event().wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            body = str(threading.get_native_id()).encode()
            await send({"type": "http.response.body", "body": body})
    """
    # Threads of one interpreter start anew together, so there are no others.
    options = ("--workers", "2", "--model", "interpreters")
    with serving(tmp_path, source, *options) as server:
        server.wait_for("all 2 workers serve")
        clients = [server.connect() for _ in range(6)]
        for client in clients:
            assert client.get()[0] == 200
        status, headers, body = clients[0].get("/die")
        assert (status, body) == (503, b"the worker has ended\n")
        assert headers["retry-after"] == "1"
        server.wait_for("worker . ended")
        for client in clients[1:]:
            assert client.get()[0] == 200
            client.socket.close()
        server.wait_for("another starts in")


@pytest.mark.skipif("t" in sys.abiflags, reason="heaps have no account there")
def test_memory_ends_a_worker(tmp_path: Path) -> None:
    options = ("--workers", "2", "--max-worker-memory", "60")
    with serving(tmp_path, APP, *options) as server:
        server.wait_for("all 2 workers serve")
        with server.connect() as raw:
            # Each of them may serve some; both grow until one is too large.
            wait_until(
                lambda: raw.get("/grow")[0] == 200 and "has had its time" in server.log
            )
            server.wait_for("worker .: a new one serves")
            assert raw.get("/")[0] == 200


def test_lifetime_ends_a_worker(tmp_path: Path) -> None:
    options = ("--max-worker-lifetime", "0.5", "--max-worker-lifetime-jitter", "0.5")
    with serving(tmp_path, APP, *options) as server, server.connect() as raw:
        first = wait_for_answer(raw)
        server.wait_for("worker 0: a new one serves")
        wait_until(lambda: wait_for_answer(raw) != first, lambda: server.log)


def test_jitter_is_for_each_worker() -> None:
    settings = Settings(
        app="", max_worker_lifetime=10.0, max_worker_lifetime_jitter=5.0
    )
    lives = Lives(settings)
    ends = [lives.lifetime() for _ in range(100)]
    assert all(10 <= end <= 15 for end in ends)
    assert len(set(ends)) > 1


def test_pulse_orders_each_thing_at_its_time() -> None:
    pulse = Pulse(
        Settings(app="", stuck_after=2, request_timeout=1, replace_stuck_after=4)
    )
    assert pulse.interval_s == 0.25

    def orders(now: float, silent_s: float) -> list[str]:
        looked = pulse.look(now, [(7, silent_s), (8, 0.0)])
        assert all(order.thread == 7 for order in looked)
        return [order.what for order in looked]

    assert orders(0, 0.5) == []
    assert orders(1, 1.0) == ["interrupt"]
    assert orders(2, 1.5) == []
    assert orders(3, 2.5) == ["stack", "interrupt"]
    assert orders(4, 4.0) == ["interrupt", "replace"]
    assert orders(5, 4.2) == []
    assert orders(6, 0.0) == []  # it was alive after all
    assert orders(7, 2.5) == ["stack", "interrupt"]


def test_pulse_that_asks_nobody() -> None:
    settings = Settings(app="", stuck_after=0, replace_stuck_after=0)
    assert Pulse(settings).next_look() is None


def test_help_names_the_limits(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from atoll.cli import main

    text = CliRunner().invoke(main, ["serve", "--help"]).output
    for option in ("stuck-after", "request-timeout", "replace-stuck-after"):
        assert re.search(rf"--{option}\b", text)


def test_one_that_is_stuck_after_its_successor_serves_is_given_up(
    tmp_path: Path,
) -> None:
    """Nobody else would: there is none to come in its place."""
    with serving(tmp_path, APP, *QUICK, "--loop", "asyncio") as server:
        wait_until_served(server)
        with server.connect() as raw:
            raw.send(b"GET /spin-when-told HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until_served(server)  # so that has begun, on the only worker
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("worker 0: a new one serves")
            (tmp_path / "go").touch()
            assert raw.answer()[0] == 503
            server.wait_for("worker 0 was stuck: .*, 1 requests were answered 503")


def test_a_stuck_thread_that_has_ended_can_be_given_up() -> None:
    """It comes back and ends before the supervisor has heard of that."""
    settings = Settings(app="main:app")
    vigil: Vigil[WorkerRecord] = Vigil(settings, lambda worker: None)
    vigil.service = make_service(settings)
    with pytest.raises(ValueError):
        vigil.service.give_up(1, 1)
    record = WorkerRecord(0, threads=[1])
    vigil._stuck.add(1)
    vigil.give_up(record)
    assert not vigil.is_stuck(record)
