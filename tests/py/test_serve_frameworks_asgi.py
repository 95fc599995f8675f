"""Litestar, Quart and Django with a database, over ASGI, through a real client."""

from pathlib import Path

import httpx
import pytest
from serving import DEADLINE_S, serving

LITESTAR = """
from dataclasses import dataclass
from litestar import Litestar, Request, get, post
from litestar.response import Stream

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
app = Litestar([home, items, sync, stream, broken])
"""


def test_litestar(tmp_path: Path) -> None:
    pytest.importorskip("litestar")
    with (
        serving(tmp_path, LITESTAR) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        home = client.get("/", params={"name": "x"}).json()
        assert home == {"hello": "x", "url": f"{server.url}/?name=x"}
        item = client.post("/items", json={"name": "tea", "price": 1.5})
        assert (item.status_code, item.json()) == (201, {"name": "TEA", "price": 3.0})
        assert client.post("/items", json={"name": "tea"}).status_code == 400
        assert client.get("/sync").text == "sync"
        assert client.get("/stream").text == "01234"
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
"""


def test_quart(tmp_path: Path) -> None:
    pytest.importorskip("quart")
    with (
        serving(tmp_path, QUART) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        home = client.get("/", params={"name": "x"}).json()
        assert home == {"hello": "x", "started": [1]}
        sent = client.post("/upload", files={"file": ("f.bin", b"y" * 1_000_000)})
        assert sent.json() == {"name": "f.bin", "size": 1_000_000}
        assert client.get("/stream").text == "01234"
        assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
        assert client.get("/broken").status_code == 500
        assert client.put("/").status_code == 405


DJANGO = """
import os
import django
from django.conf import settings
settings.configure(
    DEBUG=False, SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3",
                           "NAME": os.path.join(os.getcwd(), "db.sqlite3"),
                           "OPTIONS": {"timeout": 60}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", INSTALLED_APPS=[],
)
django.setup()
from django.core.asgi import get_asgi_application
from django.db import connection, models
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

class Note(models.Model):
    text = models.CharField(max_length=100)
    class Meta:
        app_label = "notes"

@csrf_exempt
async def notes(request):
    if request.method == "POST":
        await Note.objects.acreate(text=request.POST["text"])
    return JsonResponse({"notes": [n.text async for n in Note.objects.order_by("id")]})
@csrf_exempt
def sync(request):
    return JsonResponse({"count": Note.objects.count()})
urlpatterns = [path("notes", notes), path("sync", sync)]
if Note._meta.db_table not in connection.introspection.table_names():
    with connection.schema_editor() as editor:
        editor.create_model(Note)
connection.close()
app = get_asgi_application()
"""


def test_django_with_a_database(tmp_path: Path) -> None:
    pytest.importorskip("django")
    with (
        serving(tmp_path, DJANGO) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        for i in range(10):
            assert client.post("/notes", data={"text": f"n{i}"}).status_code == 200
        assert client.get("/notes").json() == {"notes": [f"n{i}" for i in range(10)]}
        assert client.get("/sync").json() == {"count": 10}
