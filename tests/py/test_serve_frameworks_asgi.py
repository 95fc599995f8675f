"""FastAPI, Litestar, Quart and Django with a database, over ASGI, through real clients
and with workers of every model."""

from pathlib import Path

import httpx
import pytest
from django_notes import MADE, NOTES
from serving import DEADLINE_S, Server, serving

pytest.importorskip("websockets")
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect


def chat(server: Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/chat"
    with connect(url, open_timeout=DEADLINE_S) as client:
        for text in ("hello", "y" * 100_000):
            client.send(text)
            assert client.recv(DEADLINE_S) == text + "!"
        client.send("bye")
        with pytest.raises(ConnectionClosedOK):
            client.recv(DEADLINE_S)


FASTAPI = """
import asyncio
from contextlib import asynccontextmanager
from fastapi import Depends, FastAPI, HTTPException, Request, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

@asynccontextmanager
async def lifespan(app):
    yield {"greeting": "hello"}
app = FastAPI(lifespan=lifespan)

class Item(BaseModel):
    name: str
    price: float

def greeting(request: Request):
    return request.state.greeting
@app.get("/")
async def home(name: str, greeting: str = Depends(greeting)):
    return {greeting: name}
@app.post("/items", status_code=201)
async def items(item: Item) -> Item:
    return Item(name=item.name.upper(), price=item.price * 2)
@app.post("/upload")
async def upload(file: UploadFile):
    return {"name": file.filename, "size": len(await file.read())}
@app.get("/sync")
def sync(request: Request):
    return request.client.host
@app.get("/stream")
async def stream():
    async def parts():
        for i in range(5):
            yield str(i)
            await asyncio.sleep(0)
    return StreamingResponse(parts())
@app.get("/count")
async def count(request: Request):
    from fastapi.responses import PlainTextResponse
    n = int(request.cookies.get("n", 0)) + 1
    response = PlainTextResponse(str(n))
    response.set_cookie("n", str(n))
    return response
@app.get("/teapot")
async def teapot():
    raise HTTPException(418, "short and stout")
@app.get("/broken")
async def broken():
    raise ValueError("broken view")
@app.websocket("/chat")
async def chat(socket: WebSocket):
    await socket.accept()
    while (text := await socket.receive_text()) != "bye":
        await socket.send_text(text + "!")
    await socket.close()
"""


def test_fastapi(tmp_path: Path, model_options: tuple[str, ...]) -> None:
    pytest.importorskip("fastapi")
    with (
        serving(tmp_path, FASTAPI, *model_options) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        assert client.get("/", params={"name": "x"}).json() == {"hello": "x"}
        item = client.post("/items", json={"name": "tea", "price": 1.5})
        assert (item.status_code, item.json()) == (201, {"name": "TEA", "price": 3.0})
        assert client.post("/items", json={"name": "tea"}).status_code == 422
        sent = client.post("/upload", files={"file": ("f.bin", b"y" * 1_000_000)})
        assert sent.json() == {"name": "f.bin", "size": 1_000_000}
        assert client.get("/sync").json() == "127.0.0.1"
        assert client.get("/stream").text == "01234"
        assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
        assert client.get("/teapot").json() == {"detail": "short and stout"}
        assert client.get("/broken").status_code == 500
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")
        chat(server)
    assert "ValueError: broken view" in server.log


LITESTAR = """
from dataclasses import dataclass
from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Stream
from typing import Annotated

@dataclass
class Item:
    name: str
    price: float

@get("/")
async def home(request: Request, name: str = "you") -> dict[str, str]:
    return {"hello": name, "url": str(request.url)}
@post("/items")
async def items(data: Item) -> Item:
    return Item(data.name.upper(), data.price * 2)
@get("/sync", sync_to_thread=True)
def sync() -> str:
    return "sync"
@get("/stream")
async def stream() -> Stream:
    async def parts():
        for i in range(5):
            yield str(i)
    return Stream(parts())
@get("/broken")
async def broken() -> str:
    raise ValueError("broken view")
@post("/upload")
async def upload(
    data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)]
) -> str:
    return f"{data.filename} {len(await data.read())}"
@websocket("/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    while (text := await socket.receive_text()) != "bye":
        await socket.send_text(text + "!")
    await socket.close()
app = Litestar([home, items, sync, stream, broken, upload, chat])
"""


def test_litestar(tmp_path: Path, model_options: tuple[str, ...]) -> None:
    pytest.importorskip("litestar")
    with (
        serving(tmp_path, LITESTAR, *model_options) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        home = client.get("/", params={"name": "x"}).json()
        assert home == {"hello": "x", "url": f"{server.url}/?name=x"}
        item = client.post("/items", json={"name": "tea", "price": 1.5})
        assert (item.status_code, item.json()) == (201, {"name": "TEA", "price": 3.0})
        assert client.post("/items", json={"name": "tea"}).status_code == 400
        assert client.get("/sync").text == "sync"
        assert client.get("/stream").text == "01234"
        sent = client.post("/upload", files={"data": ("f.bin", b"y" * 1_000_000)})
        assert sent.text == "f.bin 1000000"
        chat(server)
        assert client.get("/broken").status_code == 500
        assert client.get("/missing").status_code == 404


QUART = """
from quart import Quart, jsonify, request, session, websocket
app = Quart(__name__)
app.secret_key = "x"
started = []
@app.before_serving
async def start():
    started.append(1)
@app.get("/")
async def home():
    return {"hello": request.args.get("name"), "started": started}
@app.post("/upload")
async def upload():
    file = (await request.files)["file"]
    return jsonify(name=file.filename, size=len(file.read()))
@app.get("/stream")
async def stream():
    async def parts():
        for i in range(5):
            yield str(i)
    return parts()
@app.get("/count")
async def count():
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])
@app.get("/broken")
async def broken():
    raise ValueError("broken view")
@app.websocket("/chat")
async def chat():
    while (text := await websocket.receive()) != "bye":
        await websocket.send(text + "!")
"""


def test_quart(tmp_path: Path, model_options: tuple[str, ...]) -> None:
    pytest.importorskip("quart")
    with (
        serving(tmp_path, QUART, *model_options) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        home = client.get("/", params={"name": "x"}).json()
        # Threads share the application, and each lets it start for its own loop.
        assert home.pop("started") in (
            [[1], [1, 1]] if "threads" in model_options else [[1]]
        )
        assert home == {"hello": "x"}
        sent = client.post("/upload", files={"file": ("f.bin", b"y" * 1_000_000)})
        assert sent.json() == {"name": "f.bin", "size": 1_000_000}
        assert client.get("/stream").text == "01234"
        assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
        assert client.get("/broken").status_code == 500
        assert client.put("/").status_code == 405
        chat(server)


DJANGO = (
    NOTES
    + """
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

@csrf_exempt
async def notes(request):
    if request.method == "POST":
        await Note.objects.acreate(text=request.POST["text"])
    return JsonResponse({"notes": [n.text async for n in Note.objects.order_by("id")]})
@csrf_exempt
def sync(request):
    return JsonResponse({"count": Note.objects.count()})
urlpatterns = [path("notes", notes), path("sync", sync)]
"""
    + MADE
    + """
app = get_asgi_application()
"""
)


def test_django_with_a_database(tmp_path: Path, model_options: tuple[str, ...]) -> None:
    pytest.importorskip("django")
    with (
        serving(tmp_path, DJANGO, *model_options) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        for i in range(10):
            assert client.post("/notes", data={"text": f"n{i}"}).status_code == 200
        assert client.get("/notes").json() == {"notes": [f"n{i}" for i in range(10)]}
        assert client.get("/sync").json() == {"count": 10}
