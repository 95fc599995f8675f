"""Every message of the ASGI specification, through a socket: what the application gets
has the keys and types that the specification says, and what it may send is taken.

`tests/asgi.md` says which test is about which message; that those exist is tested here.
"""

import re
import signal
from pathlib import Path

import httpx
import pytest
from serving import DEADLINE_S, Server, serving

pytest.importorskip("websockets")
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

TESTS = Path(__file__).parent

#: Checks each scope and message that it gets, as a server's counterpart to the
#: specification's tables, and fails loudly.
APP = """
import sys

BYTES_PAIRS = object()
ADDRESS = object()
TEXTS = object()
ANY = object()
COMMON = {"type": str, "asgi": dict}
PATHS = {"http_version": str, "scheme": str, "path": str, "raw_path": bytes,
         "query_string": bytes, "root_path": str, "headers": BYTES_PAIRS,
         "client": ADDRESS, "server": ADDRESS, "state": dict, "extensions": dict}
SCOPES = {
    "lifespan": {**COMMON, "state": dict},
    "http": {**COMMON, **PATHS, "method": str},
    "websocket": {**COMMON, **PATHS, "subprotocols": TEXTS},
}
SPEC = {"lifespan": "2.0", "http": "2.4", "websocket": "2.4"}
MESSAGES = {
    "lifespan.startup": {}, "lifespan.shutdown": {},
    "http.request": {"body": bytes, "more_body": bool}, "http.disconnect": {},
    "websocket.connect": {},
    "websocket.receive": {"bytes": ANY, "text": ANY},
    "websocket.disconnect": {"code": int, "reason": ANY},
}

def check(what, kinds, optional=()):
    missing = kinds.keys() - what.keys() - set(optional)
    unknown = what.keys() - kinds.keys()
    assert not missing and not unknown, (what, missing, unknown)
    for key, value in what.items():
        kind = kinds[key]
        if kind is BYTES_PAIRS:
            for name, text in value:
                assert type(name) is bytes and type(text) is bytes, value
                assert name == name.lower(), name
        elif kind is ADDRESS:
            host, port = value
            assert type(host) is str and type(port) is int, value
        elif kind is TEXTS:
            assert all(type(one) is str for one in value), value
        elif kind is not ANY:
            assert type(value) is kind, (key, value)

async def app(scope, receive, send):
    try:
        await checked(scope, receive, send)
    except AssertionError as error:
        print("CHECK FAILED:", repr(error), file=sys.stderr, flush=True)
        raise

async def checked(scope, receive, send):
    kind = scope["type"]
    check(scope, SCOPES[kind])
    assert scope["asgi"]["version"] == "3.0"
    assert scope["asgi"]["spec_version"] >= SPEC[kind], scope["asgi"]

    async def take(*expected):
        message = await receive()
        assert message["type"] in expected, message
        check(message, {"type": str, **MESSAGES[message["type"]]},
              ("bytes", "text", "reason"))
        return message

    if kind == "lifespan":
        await take("lifespan.startup")
        try:
            await send({"type": "lifespan.nonsense"})
        except Exception:
            scope["state"]["refused"] = True
        await send({"type": "lifespan.startup.complete"})
        await take("lifespan.shutdown")
        await send({"type": "lifespan.shutdown.failed", "message": "disk is gone"})
    elif kind == "http":
        await http(scope, take, send)
    else:
        await websocket(scope, take, send)

async def http(scope, take, send):
    assert scope["state"]["refused"]
    parts = 0
    while True:
        message = await take("http.request")
        parts += 1
        if not message["more_body"]:
            break
    assert scope["path"].startswith("/pre/")
    path = scope["path"].removeprefix("/pre")
    if path == "/wait":
        print("waits", file=sys.stderr, flush=True)
        await take("http.disconnect")
        await take("http.disconnect")  # again, for who asks again
        try:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})
        except OSError:
            print("told by OSError", file=sys.stderr, flush=True)
        print("disconnected", file=sys.stderr, flush=True)
        return
    if path == "/least":  # every key that has a default is left out
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
        return
    # The path as it came, which has not the prefix that a proxy took off.
    assert (path, scope["raw_path"]) == ("/a b/\\u00e9", b"/a%20b/%C3%A9"), scope
    assert scope["root_path"] == "/pre"
    assert scope["query_string"] == b"q=%20+", scope
    await send({"type": "http.response.start", "status": 201,
                "headers": ((b"x-one", b"1"), [b"x-one", b"2"]), "trailers": False})
    await send({"type": "http.response.body", "body": b"pa", "more_body": True})
    await send({"type": "http.response.body", "body": bytearray(b"rt"),
                "more_body": False})
    await take("http.disconnect")  # the response is complete

async def websocket(scope, take, send):
    assert scope["subprotocols"] == ["one", "two"]
    await take("websocket.connect")
    await send({"type": "websocket.accept", "subprotocol": "two",
                "headers": [(b"x-one", b"1")]})
    message = await take("websocket.receive")
    assert message["text"] == "h\\u00e9" and message.get("bytes") is None, message
    message = await take("websocket.receive")
    assert message["bytes"] == b"\\0\\xff" and message.get("text") is None, message
    await send({"type": "websocket.send", "text": "text", "bytes": None})
    await send({"type": "websocket.send", "bytes": b"bytes", "text": None})
    message = await take("websocket.receive", "websocket.disconnect")
    if message["type"] == "websocket.receive":
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        return
    assert (message["code"], message["reason"]) == (4002, "bye"), message
    print("disconnected", file=sys.stderr, flush=True)
"""


@pytest.fixture
def strict(tmp_path: Path):
    options = ("--root-path", "/pre", "--lifespan", "on")
    with serving(tmp_path, APP, *options, check=False) as server:
        yield server
        server.stop()
        assert "CHECK FAILED" not in server.log, server.log


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "http/2"])
def test_http(strict: Server, http2: bool) -> None:
    if http2:
        pytest.importorskip("h2")
    with httpx.Client(
        base_url=strict.url, timeout=DEADLINE_S, http1=not http2, http2=http2
    ) as client:

        def parts():
            yield b"a" * 100_000
            yield b"b"

        answer = client.post("/a%20b/%C3%A9?q=%20+", content=parts())
        assert (answer.status_code, answer.content) == (201, b"part"), strict.log
        assert answer.headers.get_list("x-one") == ["1", "2"]
        least = client.get("/least")
        assert (least.status_code, least.content) == (200, b"")


def test_http_disconnect(strict: Server) -> None:
    with strict.connect() as raw:
        raw.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        strict.wait_for("waits")
    strict.wait_for("disconnected")


def test_websocket_closed_by_the_client(strict: Server) -> None:
    url = f"ws://127.0.0.1:{strict.port}/chat"
    with connect(url, subprotocols=["one", "two"], open_timeout=DEADLINE_S) as client:
        assert client.subprotocol == "two"
        assert client.response.headers["x-one"] == "1"
        client.send("h\u00e9")
        client.send(b"\0\xff")
        assert client.recv(DEADLINE_S) == "text"
        assert client.recv(DEADLINE_S) == b"bytes"
        client.close(4002, "bye")
    strict.wait_for("disconnected")


def test_websocket_closed_by_the_application(strict: Server) -> None:
    url = f"ws://127.0.0.1:{strict.port}/chat"
    with connect(url, subprotocols=["one", "two"], open_timeout=DEADLINE_S) as client:
        for message in ("h\u00e9", b"\0\xff", "more"):
            client.send(message)
        assert client.recv(DEADLINE_S) == "text"
        assert client.recv(DEADLINE_S) == b"bytes"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(DEADLINE_S)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "enough")


def test_lifespan_shutdown_failed(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--root-path", "/pre", check=False) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait()
        assert "the application's shutdown failed: disk is gone" in server.log
        assert "CHECK FAILED" not in server.log


def test_the_table_names_tests_that_exist() -> None:
    text = (TESTS.parent / "asgi.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 30
    for file, name in named:
        source = (TESTS / file).read_text()
        assert f"def {name}(" in source, f"{file} has no {name}"
