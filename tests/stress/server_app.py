"""The application under `stress_server.py`: answers that can be checked, and ways to
die and to get stuck."""

import asyncio
import ctypes
import hashlib
import time
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve what `scope` asks for."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo_messages(receive, send)
    else:
        await http(scope["path"], scope["query_string"].decode(), receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    """Start and end without a word."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def http(path: str, argument: str, receive: Any, send: Any) -> None:
    """One request; `argument` is a number, in units that the path knows."""
    if path == "/wait":
        await asyncio.sleep(int(argument) / 1000)
    elif path == "/burn":
        burn(int(argument) / 1000)
    elif path == "/spin":
        burn(3600)
    elif path == "/later":
        await asyncio.sleep(0.01)
        burn(3600)
    elif path == "/gil":  # PyDLL keeps the GIL
        ctypes.PyDLL(None).usleep(int(argument) * 1000)
    elif path == "/block":
        time.sleep(int(argument) / 1000)
    elif path == "/die":
        asyncio.get_running_loop().stop()
    elif path == "/stream":
        await stream(int(argument), send)
        return
    await answer(await read_body(receive), send)


async def read_body(receive: Any) -> bytes:
    """All of it."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def answer(body: bytes, send: Any) -> None:
    """The body's digest."""
    text = hashlib.sha256(body).hexdigest().encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def stream(count: int, send: Any) -> None:
    """`count` pieces of 16 KB."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(count):
        piece = bytes([number % 251]) * 16384
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def echo_messages(receive: Any, send: Any) -> None:
    """A WebSocket that says what it hears."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


def burn(seconds: float) -> None:
    """Python code that keeps a processor busy."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
