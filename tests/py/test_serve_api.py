"""`atoll.Server`: the server in a program's own code."""

import os
import socket
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from serving import DEADLINE_S, Raw, different

import atoll

APP = """
import threading
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"named"})
"""
PID = """
import os
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        data: bytes = answer.read()
        return data


def test_an_application_by_name(tmp_path: Path) -> None:
    (tmp_path / "served_by_name.py").write_text(APP)
    before = len(atoll.list_interpreters())
    server = atoll.Server(
        "served_by_name:app", app_dir=str(tmp_path), port=0, workers=2, loop="asyncio"
    )
    with server:
        assert fetch(server.url) == b"named"
        assert server.addresses[0][0] == "127.0.0.1"
        with pytest.raises(RuntimeError, match="running"):
            server.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.url
    with server:  # again
        assert fetch(server.url) == b"named"
    assert len(atoll.list_interpreters()) == before


SLOW = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun,", "more_body": True})
    await asyncio.sleep(2)
    await send({"type": "http.response.body", "body": b"ended"})
"""


def test_stopped_by_several_threads_it_answers_what_it_has_begun(
    tmp_path: Path,
) -> None:
    (tmp_path / "served_slowly.py").write_text(SLOW)
    server = atoll.Server("served_slowly:app", app_dir=str(tmp_path), port=0, workers=1)
    server.start()
    with urllib.request.urlopen(server.url, timeout=DEADLINE_S) as answer:
        assert answer.read(6) == b"begun,"
        ends = [threading.Thread(target=server.stop) for _ in range(4)]
        ends[0].start()
        assert server._supervisor is not None
        while not server._supervisor._stopping:
            time.sleep(0.02)
        for end in ends[1:]:
            end.start()
        assert answer.read() == b"ended"
    for end in ends:
        end.join(DEADLINE_S)
        assert not end.is_alive()
    with server:  # again
        assert fetch(server.url) == b"begun,ended"
    server.stop()


def test_its_port_is_free_when_it_has_stopped(tmp_path: Path) -> None:
    (tmp_path / "served_again.py").write_text(APP)
    # One that the system gives nobody who does not ask for it.
    port = 20_000 + os.getpid() % 10_000
    server = atoll.Server(
        "served_again:app", app_dir=str(tmp_path), port=port, loop="asyncio"
    )
    for _ in range(2):
        with server:
            assert fetch(server.url) == b"named"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), DEADLINE_S)


def test_an_application_of_this_interpreter() -> None:
    seen = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("http only")
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    with atoll.Server(app, port=0, loop="asyncio") as server:
        assert fetch(server.url + "/a") == b"here"
    assert seen == ["/a"]
    for model in ("processes", "interpreters"):
        with pytest.raises(ValueError, match="module:attribute"):
            atoll.Server(app, workers=2, model=model)


def test_an_application_of_this_interpreter_on_threads() -> None:
    here = threading.get_native_id()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("http only")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = str(threading.get_native_id()).encode()
        await send({"type": "http.response.body", "body": body})

    with atoll.Server(app, port=0, workers=2, loop="asyncio") as server:
        port = server.addresses[0][1]
        seen = different(lambda: Raw(port), lambda raw: raw.get()[2], 2)
    assert len(seen) == 2
    assert str(here).encode() not in seen


def test_processes_in_code(tmp_path: Path) -> None:
    (tmp_path / "served_by_processes.py").write_text(PID)
    server = atoll.Server(
        "served_by_processes:app",
        app_dir=str(tmp_path),
        port=0,
        workers=2,
        model="processes",
        loop="asyncio",
    )
    with server:
        pid = int(fetch(server.url))
        assert pid != os.getpid()
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(RuntimeError, match=r"run\(\)"):
        atoll.Server("main:app", preload=True).start()


def test_one_that_does_not_start(tmp_path: Path) -> None:
    server = atoll.Server("no_such_module_here:app", app_dir=str(tmp_path), port=0)
    with pytest.raises(atoll.AtollError, match="no_such_module_here"):
        server.start()
    with pytest.raises(TypeError):
        atoll.Server("main:app", no_such_setting=1)
