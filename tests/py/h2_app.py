"""The application that the tests of HTTP/2 ask: each path is an answer of its own."""

import contextlib
from pathlib import Path

from serving import Server, serving

APP = """
import asyncio, json, os

lost = []
sent = {"pieces": 0}

async def app(scope, receive, send):
    path = scope["path"]
    if scope["type"] == "websocket":
        await receive()
        if path == "/deny":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept", "subprotocol": "echo"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        lost.append([path, message["code"]])
        return
    async def answer(body=b"", status=200, headers=()):
        await send({"type": "http.response.start", "status": status,
                    "headers": headers})
        await send({"type": "http.response.body", "body": body})
    if path in ("/echo", "/slow-echo"):
        body = b""
        more = True
        if path == "/slow-echo":
            await asyncio.sleep(0.3)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                lost.append(path)
                return
            body += message["body"]
            more = message["more_body"]
        await answer(body)
    elif path == "/scope":
        plain = {k: v for k, v in scope.items() if k not in ("headers", "state")}
        plain["headers"] = [[n.decode(), v.decode()] for n, v in scope["headers"]]
        for key in ("raw_path", "query_string"):
            plain[key] = plain[key].decode()
        await answer(json.dumps(plain).encode())
    elif path == "/wait":
        while (await receive())["type"] != "http.disconnect":
            pass
        lost.append(path)
    elif path == "/lost":
        await answer(json.dumps([lost, sent]).encode())
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for i in range(100):
            await send({"type": "http.response.body", "body": bytes([i]) * 40000,
                        "more_body": True})
            sent["pieces"] += 1
        await send({"type": "http.response.body"})
    elif path == "/raise":
        raise ValueError("no answer")
    elif path == "/half":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError("half an answer")
    elif path == "/whole":
        headers = [(b"content-length", b"500000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(500000),
                    "more_body": True})
        raise ValueError("after the whole answer")
    elif path == "/half-of-nothing":
        status = int(scope["query_string"])
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        if scope["headers"][-1] != (b"x-then", b"read"):
            raise ValueError("half an answer without a body")
        while (await receive())["type"] != "http.disconnect":
            pass
    elif path == "/length":
        await answer(b"abc", headers=[(b"content-length", b"3"),
                                      (b"connection", b"close")])
    elif path == "/empty":
        await answer(status=204)
    elif path == "/at-once":
        waiting = receive().__await__()
        try:
            next(waiting)
        except StopIteration as done:
            await answer(done.value["body"])
        else:
            waiting.close()
            await answer(b"the body was not there", status=500)
    elif path == "/until-told":
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        await answer(b"was told")
    elif path == "/sleep":
        await asyncio.sleep(0.5)
        await answer(b"slept")
    else:
        await answer(b"hello")
"""


def serving_h2(
    folder: Path, *options: str
) -> contextlib.AbstractContextManager[Server]:
    """Serve it, with bodies of three megabytes at most."""
    return serving(
        folder, APP, "--loop", "asyncio", "--limit-body", "3000000", *options
    )
