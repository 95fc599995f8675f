"""Flask and Django over WSGI, unchanged, through a real client and with workers of
every model."""

from pathlib import Path

import httpx
import pytest
from django_notes import MADE, NOTES
from serving import DEADLINE_S, serving

FLASK = """
import io
from flask import Flask, Response, jsonify, request, send_file, session
from flask import stream_with_context
app = Flask(__name__)
app.secret_key = "x"
@app.get("/")
def home():
    return f"hello {request.args.get('name', '')} at {request.url}"
@app.post("/json")
def echo():
    return jsonify(got=request.get_json(), remote=request.remote_addr)
@app.post("/upload")
def upload():
    file = request.files["file"]
    return jsonify(name=file.filename, size=len(file.read()), field=request.form["a"])
@app.post("/raw")
def raw():
    return str(len(request.get_data()))
@app.get("/stream")
def stream():
    @stream_with_context
    def parts():
        for i in range(5):
            yield f"{i}{request.args['x']};"
    return Response(parts(), mimetype="text/plain")
@app.get("/file")
def file():
    return send_file(__file__, mimetype="text/plain", conditional=True)
@app.get("/memory")
def memory():
    return send_file(io.BytesIO(b"m" * 100_000), mimetype="application/x-m")
@app.get("/count")
def count():
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])
@app.get("/broken")
def broken():
    raise ValueError("broken view")
"""


def test_flask(tmp_path: Path, model_options: tuple[str, ...]) -> None:
    pytest.importorskip("flask")
    with (
        serving(tmp_path, FLASK, *model_options) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        home = client.get("/", params={"name": "x"})
        assert home.text == f"hello x at {server.url}/?name=x"
        assert client.post("/json", json={"a": [1]}).json() == {
            "got": {"a": [1]},
            "remote": "127.0.0.1",
        }
        big = b"y" * 2_000_000
        sent = client.post("/upload", files={"file": ("f.bin", big)}, data={"a": "b"})
        assert sent.json() == {"name": "f.bin", "size": len(big), "field": "b"}
        assert client.post("/raw", content=iter([b"abc", b"def"])).text == "6"
        assert client.get("/stream", params={"x": "-"}).text == "0-;1-;2-;3-;4-;"
        source = (tmp_path / "main.py").read_bytes()
        file = client.get("/file")
        assert file.content == source
        part = client.get("/file", headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, source[5:10])
        again = client.get("/file", headers={"If-None-Match": file.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get("/memory").content == b"m" * 100_000
        assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
        assert client.get("/broken").status_code == 500
        assert client.head("/").headers["content-length"] == str(
            len(f"hello  at {server.url}/")
        )
        assert client.get("/missing").status_code == 404
        assert client.put("/").status_code == 405


DJANGO = (
    NOTES
    + """
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

def home(request):
    return HttpResponse("hello " + request.build_absolute_uri())
@csrf_exempt
def notes(request):
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"])
    return JsonResponse({"notes": list(Note.objects.order_by("id")
                                       .values_list("text", flat=True))})
@csrf_exempt
def body(request):
    return JsonResponse({"size": len(request.body)})
def stream(request):
    return StreamingHttpResponse(str(i) for i in range(5))
def file(request):
    return FileResponse(open(__file__, "rb"))
def broken(request):
    raise ValueError("broken view")
urlpatterns = [path("", home), path("notes", notes), path("body", body),
               path("stream", stream), path("file", file), path("broken", broken)]
"""
    + MADE
    + """
app = get_wsgi_application()
"""
)


def test_django(tmp_path: Path, model_options: tuple[str, ...]) -> None:
    pytest.importorskip("django")
    with (
        serving(tmp_path, DJANGO, "--threads", "3", *model_options) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        assert client.get("/").text == f"hello {server.url}/"
        for i in range(10):
            assert client.post("/notes", data={"text": f"n{i}"}).status_code == 200
        assert client.get("/notes").json() == {"notes": [f"n{i}" for i in range(10)]}
        assert client.post("/body", content=b"z" * 500_000).json() == {"size": 500_000}
        assert client.get("/stream").text == "01234"
        source = (tmp_path / "main.py").read_bytes()
        file = client.get("/file")
        assert file.content == source
        assert file.headers["content-length"] == str(len(source))
        assert client.get("/broken").status_code == 500
        assert client.get("/missing").status_code == 404
