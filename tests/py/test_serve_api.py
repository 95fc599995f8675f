"""`atoll.Server`: the server in a program's own code."""

import urllib.request
from pathlib import Path
from typing import Any

import pytest
from serving import DEADLINE_S

import atoll

APP = """
import threading
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"named"})
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
    with pytest.raises(TypeError, match="module:attribute"):
        atoll.Server(app, workers=2)


def test_one_that_does_not_start(tmp_path: Path) -> None:
    server = atoll.Server("no_such_module_here:app", app_dir=str(tmp_path), port=0)
    with pytest.raises(atoll.AtollError, match="no_such_module_here"):
        server.start()
    with pytest.raises(TypeError):
        atoll.Server("main:app", no_such_setting=1)
