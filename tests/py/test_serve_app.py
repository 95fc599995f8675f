"""Applications under `atoll serve`: lifespan, failures, shutdown, frameworks."""

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest
from serving import COMMAND, DEADLINE_S, Server, different, serving, wait_until

HELLO = """
import os, threading
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = str(threading.get_native_id()).encode()
    await send({"type": "http.response.body", "body": body})
"""


def start(folder: Path, source: str, *options: str) -> Server:
    (folder / "main.py").write_text(textwrap.dedent(source))
    return Server(folder, *options)


def test_two_workers_share_the_connections(tmp_path: Path) -> None:
    with serving(tmp_path, HELLO, "--workers", "2", "--loop", "asyncio") as server:
        server.wait_for("all 2 workers serve")
        # Connections are dealt out evenly, whoever accepts them; then they go where
        # there is time, so how many stay is not for a test to say.
        assert len(different(server.connect, lambda raw: raw.get()[2], 2)) == 2


def test_the_next_request_is_served_by_an_idle_worker(tmp_path: Path) -> None:
    source = """
    import os, threading
    from pathlib import Path
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError("http only")
        if scope["path"] == "/busy":
            Path("busy").touch()
            while not os.path.exists("go"):
                pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = str(threading.get_native_id()).encode()
        await send({"type": "http.response.body", "body": body})
    """
    with serving(tmp_path, source, "--workers", "2") as server:
        server.wait_for("all 2 workers serve")
        clients = [server.connect() for _ in range(8)]
        for raw in clients:
            raw.get()
        clients[0].send(b"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until((tmp_path / "busy").exists)
        # Half of them were at the worker that is busy now; all are answered.
        idle = {raw.get()[2] for raw in clients[1:]}
        (tmp_path / "go").touch()
        busy = clients[0].answer()[2]
        assert len(idle) == 1
        assert busy not in idle
        for raw in clients:
            raw.socket.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_import_error_is_told_once(tmp_path: Path, workers: str) -> None:
    source = "import no_such_module_anywhere\n"
    server = start(tmp_path, source, "--workers", workers)
    assert server.wait() == 1
    assert server.log.count("ModuleNotFoundError") == 1
    assert server.log.count("main.py") == 1
    assert "no_such_module_anywhere" in server.log


def test_missing_module_and_attribute(tmp_path: Path) -> None:
    server = Server(tmp_path, app="not_there:app")
    assert server.wait() == 1
    assert "no module named 'not_there'" in server.log
    assert "Traceback" not in server.log
    server = start(tmp_path, "x = 1\n")
    assert server.wait() == 1
    assert "has no 'app'" in server.log


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        ("import os\nos.abort()\n", (), r"died of SIGABRT"),
        ("import os\nos._exit(3)\n", (), r"ended with exit code 3"),
        ("import os\nos.abort()\n", ("--model", "processes"), r"died of SIGABRT"),
        ("x = 1\n", (), r"has no 'app'"),
        ("import nothing_of_that_name\n", (), r"ModuleNotFoundError"),
        ("raise SystemExit(2)\n", (), r"SystemExit\(2\)"),
        (HELLO, ("--ssl-certfile", "nowhere.pem"), r"nowhere\.pem"),
    ],
)
def test_check_finds(
    tmp_path: Path, source: str, options: tuple[str, ...], told: str
) -> None:
    server = start(tmp_path, source, "--check", *options)
    assert server.wait() == 1
    server.wait_for(told)


WAITS = """
import os, time
def wait_for_what_comes_late():
    while not os.path.exists("go"):
        time.sleep(0.01)
wait_for_what_comes_late()
app = print
"""


@pytest.mark.parametrize("model", ["interpreters", "processes"])
def test_check_says_where_an_import_is_that_takes_long(
    tmp_path: Path, model: str
) -> None:
    options = ("--check", "--model", model, "--stuck-after", "0.25")
    server = start(tmp_path, WAITS, *options)
    try:
        server.wait_for("WARNING main:app has been imported for")
        server.wait_for(r'main.py", line \d+, in wait_for_what_comes_late')
        (tmp_path / "go").touch()
        assert server.wait() == 0, server.log
        assert "_server/" not in server.log
    finally:
        server.kill()


def test_check_ends_an_import_that_takes_too_long(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(WAITS)
    program = """
from atoll._server.check import find_fault
from atoll._server.plan import make_plan
from atoll._server.settings import Settings
settings = Settings("main:app")
print(find_fault(settings, make_plan(settings), 2.0))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("importing main:app took more than 2 s")


@pytest.mark.parametrize("model", ["interpreters", "processes"])
def test_check_only_checks(tmp_path: Path, model: str) -> None:
    """As `nginx -t`: nothing is listened on, though the port is another's."""
    (tmp_path / "main.py").write_text(HELLO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-c", COMMAND, "serve", "main:app", "--check"]
        done = subprocess.run(
            [*command, "--port", port, "--model", model],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
    assert (done.returncode, done.stderr) == (0, "")
    what = {"interpreters": "1 interpreter", "processes": "1 process"}[model]
    assert done.stdout == f"main:app can be served by {what}\n"


def test_port_in_use(tmp_path: Path) -> None:
    with serving(tmp_path, HELLO, "--loop", "asyncio") as server:
        second = Server(tmp_path, "--port", str(server.port))
        assert second.wait() == 1
        assert "Address already in use" in second.log


LIFESPAN = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        %s
        scope["state"]["started"] = "yes"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        print("shut down", file=__import__("sys").stderr, flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = scope["state"]["started"].encode()
    scope["state"]["started"] = "changed"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def test_lifespan_and_its_state(tmp_path: Path) -> None:
    with serving(tmp_path, LIFESPAN % "pass", "--loop", "asyncio") as server:
        with server.connect() as raw:
            # Each request has a copy of the state.
            assert raw.get()[2] == b"yes"
            assert raw.get()[2] == b"yes"
        assert server.stop() == 0
        assert server.log.count("shut down") == 1


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ("raise ValueError('no database')", "ValueError: no database"),
        (
            "await send({'type': 'lifespan.startup.failed', 'message': 'no base'});"
            " return",
            "no base",
        ),
    ],
)
def test_failed_startup_is_told_once(tmp_path: Path, failure: str, told: str) -> None:
    options = ("--lifespan", "on", "--workers", "2")
    server = start(tmp_path, LIFESPAN % failure, *options)
    assert server.wait() == 1
    assert server.log.count(told) == 1, server.log


FAILING = """
import asyncio
async def app(scope, receive, send):
    path = scope["path"]
    if scope["type"] != "http":
        raise RuntimeError
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if path == "/before":
        raise ValueError("before the start")
    if path == "/late":
        await asyncio.sleep(0.01)
        raise ValueError("late")
    if path == "/started":
        await send(start)
        raise ValueError("after the start")
    if path == "/middle":
        await send(start)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError("in the middle")
    if path.startswith("/whole"):
        body = b"w" * 3000000
        length = b"%d" % len(body)
        await send({**start, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if path == "/whole/returned":
            return
        raise ValueError("after the whole")
    if path == "/nothing":
        return
    if path == "/twice":
        await send(start)
        await send(start)
    if path == "/unknown":
        await send({"type": "no.such.message"})
    if path == "/header":
        await send({**start, "headers": [("text", "text")]})
    if path == "/split":
        await send({**start, "headers": [(b"a", b"b\\r\\nc: d")]})
        await send({"type": "http.response.body", "body": b"x"})
    if path == "/long":
        await send({**start, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"xyz"})
    if path == "/status":
        await send({**start, "status": "200"})
    await send(start)
    await send({"type": "http.response.body", "body": b"fine"})
"""


def test_failures_are_answered_500_and_logged(tmp_path: Path) -> None:
    with serving(tmp_path, FAILING, "--loop", "asyncio") as server:
        with server.connect() as raw:
            for path, words in {
                "/before": "ValueError: before the start",
                "/late": "ValueError: late",
                "/started": "ValueError: after the start",
                "/nothing": "GET /nothing: the application returned without a response",
                "/twice": "RuntimeError: ASGI message 'http.response.start' came",
                "/unknown": "RuntimeError: ASGI message 'no.such.message' came",
                "/header": "TypeError: a response header's name must be bytes, not str",
                "/split": "ValueError: the response cannot be sent",
                "/long": "the response cannot be sent",
                "/status": "TypeError",
            }.items():
                status, _, body = raw.get(path)
                assert (status, body) == (500, b"Internal Server Error"), path
                server.wait_for(re.escape(words))
            assert raw.get("/")[2] == b"fine"
        with server.connect() as raw:
            raw.send(b"GET /middle HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises((EOFError, ConnectionResetError)):
                raw.answer()
        server.wait_for("ValueError: in the middle")
        with server.connect() as raw:
            assert raw.get("/")[2] == b"fine"


def test_a_response_that_is_whole_arrives_though_the_application_fails(
    tmp_path: Path,
) -> None:
    """Its Content-Length was sent: the client has it all, and the connection goes on."""
    with (
        serving(tmp_path, FAILING, "--loop", "asyncio") as server,
        server.connect() as raw,
    ):
        for path, words in {
            "/whole": "ValueError: after the whole",
            "/whole/returned": "returned before its response was complete",
        }.items():
            status, _, body = raw.get(path)
            assert (status, body) == (200, b"w" * 3000000), path
            server.wait_for(words)
            raw.send(b"HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
            assert raw.answer(head=True)[1]["content-length"] == "3000000"
        assert raw.get("/")[2] == b"fine"


DISCONNECT = """
import asyncio, sys
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    def tell(what):
        print("told:", what, file=sys.stderr, flush=True)
    if scope["path"] == "/receive":
        assert (await receive()) == {
            "type": "http.request", "body": b"", "more_body": False}
        tell((await receive())["type"])
    elif scope["path"] == "/body":
        while (message := await receive())["type"] == "http.request":
            pass
        tell(message["type"])
    elif scope["path"] == "/task":
        await receive()
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            tell("cancelled")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        tell("after " + (await receive())["type"])
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536,
                            "more_body": True})
        except OSError as error:
            tell(type(error).__name__)
            raise
"""


def test_the_application_sees_the_client_go(tmp_path: Path) -> None:
    with serving(tmp_path, DISCONNECT, "--loop", "asyncio") as server:
        with server.connect() as raw:
            raw.send(b"GET /receive HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("told: http.disconnect")
        with server.connect() as raw:
            raw.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            raw.until(b"x" * 100)
        server.wait_for("told: ClientDisconnectedError")
        with server.connect() as raw:
            assert raw.get("/task")[2] == b"done"
        server.wait_for("told: cancelled")
        server.wait_for("told: after http.disconnect")
        server.lines.clear()
        with server.connect() as raw:
            raw.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        server.wait_for("told: http.disconnect")
        assert "Traceback" not in server.log


SLOW = """
import asyncio, os, sys
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    if scope["path"] == "/slow":
        print("begun", file=sys.stderr, flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"finished"})
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_running_requests_are_finished(tmp_path: Path, number: int) -> None:
    with serving(tmp_path, SLOW, check=False) as server:
        with server.connect() as raw, server.connect() as idle:
            assert idle.get("/")[2] == b"finished"
            raw.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for("begun")
            server.process.send_signal(number)
            assert idle.rest() == b""
            (tmp_path / "go").touch()
            status, headers, body = raw.answer()
            assert (status, body) == (200, b"finished")
            assert headers["connection"] == "close"
        assert server.wait() == 0


def test_requests_that_do_not_end_are_cancelled(tmp_path: Path) -> None:
    with serving(tmp_path, SLOW, "--timeout-drain", "0.2", check=False) as server:
        with server.connect() as raw:
            raw.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for("begun")
            assert server.stop() == 0
        assert "cancelled" in server.log


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, SLOW, check=False) as server, server.connect() as raw:
        raw.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("begun")
        server.process.send_signal(signal.SIGINT)
        server.wait_for("stopping")
        assert server.stop() == 1


# Each test has one clock against it, and waits for that.
SOON = "1.5"


def test_a_slow_head_is_ended(tmp_path: Path) -> None:
    with serving(tmp_path, DISCONNECT, "--timeout-head", SOON) as server:
        with server.paused():  # or it may find a connection without a request
            raw = server.connect()
            raw.send(b"GET / HTTP/1.1\r\nHost:")
        with raw:
            assert raw.answer()[0] == 408
            assert raw.rest() == b""
        with server.connect() as raw:
            assert raw.rest() == b""  # a connection without a request


def test_a_slow_body_is_ended(tmp_path: Path) -> None:
    with serving(
        tmp_path, DISCONNECT, "--loop", "asyncio", "--timeout-body", SOON
    ) as server:
        with server.connect() as raw:
            raw.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
            assert raw.answer()[0] == 408
        server.wait_for("told: http.disconnect")


def test_an_idle_connection_is_ended(tmp_path: Path) -> None:
    with (
        serving(tmp_path, DISCONNECT, "--timeout-keep-alive", SOON) as server,
        server.connect() as raw,
    ):
        assert raw.get("/task")[2] == b"done"
        assert raw.rest() == b""


def test_a_slow_reader_is_ended(tmp_path: Path) -> None:
    source = """
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError("http only")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536,
                            "more_body": True})
        except OSError as error:
            print("told:", type(error).__name__, file=__import__("sys").stderr)
    """
    with (
        serving(tmp_path, source, "--timeout-write", SOON) as server,
        server.connect() as raw,
    ):
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("told: ")


STARLETTE = """
import asyncio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

class Mark(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-mark"] = "1"
        return response

ran = []
async def home(request):
    return PlainTextResponse(str(request.url), background=BackgroundTask(ran.append, 1))
async def echo(request):
    return JSONResponse({"size": len(await request.body())})
async def count(request):
    return JSONResponse(ran)
async def stream(request):
    async def parts():
        for i in range(20):
            yield f"{i};"
            await asyncio.sleep(0)
    return StreamingResponse(parts())
def sync(request):
    return PlainTextResponse("sync")
app = Starlette(
    routes=[Route("/", home), Route("/echo", echo, methods=["POST"]),
            Route("/count", count), Route("/stream", stream), Route("/sync", sync)],
)
app.add_middleware(Mark)
"""


def test_starlette(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    with (
        serving(tmp_path, STARLETTE, "--workers", "1") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        home = client.get("/")
        assert home.text == server.url + "/"
        assert home.headers["x-mark"] == "1"
        assert client.post("/echo", content=b"x" * 3_000_000).json() == {
            "size": 3_000_000
        }
        wait_until(lambda: client.get("/count").json() == [1])  # behind the answer
        assert client.get("/stream").text == "".join(f"{i};" for i in range(20))
        assert client.get("/sync").text == "sync"
        assert client.get("/missing").status_code == 404


DJANGO = """
import django
from django.conf import settings
settings.configure(DEBUG=False, SECRET_KEY="x", ROOT_URLCONF=__name__,
                   ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
django.setup()
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

async def hello(request):
    return HttpResponse("hello " + request.GET.get("name", ""))
def sync(request):
    return JsonResponse({"size": len(request.body)})
def stream(request):
    async def parts():
        for i in range(5):
            yield str(i)
    return StreamingHttpResponse(parts())
def broken(request):
    raise ValueError("broken view")
urlpatterns = [path("", hello), path("sync", sync), path("stream", stream),
               path("broken", broken)]
app = get_asgi_application()
"""


def test_django(tmp_path: Path) -> None:
    pytest.importorskip("django")
    with (
        serving(tmp_path, DJANGO, "--workers", "1") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        assert client.get("/", params={"name": "x"}).text == "hello x"
        assert client.post("/sync", content=b"y" * 100_000).json() == {"size": 100_000}
        assert client.get("/stream").text == "01234"
        assert client.get("/broken").status_code == 500
        assert client.get("/").status_code == 200


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fastapi_app"


def test_the_fastapi_example(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("numpy")
    server = Server(EXAMPLE, "--workers", "2")
    try:
        with httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client:
            assert client.get("/").json()["hello"] == "world"
            item = {"name": "tea", "price": 2.5, "quantity": 3}
            receipt = client.post("/items", json=item).json()
            assert receipt["total"] == 7.5
            wrong = client.post("/items", json={"name": "", "price": -1})
            assert wrong.status_code == 422
            assert len(wrong.json()["detail"]) == 2
            assert client.get("/numpy").json()["largest"] > 20
            if importlib.util.find_spec("orjson"):
                assert client.get("/orjson").json()["values"][-1] == 99
            assert client.get("/sync").json()["thread"] != "MainThread"
            lines = client.get("/stream", params={"count": 3}).text
            assert lines == "line 0\nline 1\nline 2\n"
            big = bytes(range(256)) * 78125
            sent = client.post("/upload", files={"file": ("big.bin", big)}).json()
            assert sent["size"] == 20_000_000
            assert client.post("/notes", params={"text": "hi"}).status_code == 200
            # It is noted behind the answer, by one worker for itself.
            url = server.url + "/notes"
            wait_until(lambda: httpx.get(url, timeout=DEADLINE_S).json() == ["hi"])
            openapi = json.loads(client.get("/openapi.json").text)
            assert "/items" in openapi["paths"]
        assert server.stop() == 0, server.log
        assert "Traceback" not in server.log
    finally:
        server.kill()


def test_the_collector_leaves_alone_what_was_imported(tmp_path: Path) -> None:
    """And has it again at the end: a cycle is finalized with its interpreter."""
    source = """
    import gc, os
    class Cycle:
        def __init__(self, word):
            self.word, self.itself = word, self
        def __del__(self, write=os.write):
            write(2, b"told: " + self.word + b"\\\\n")
    Cycle(b"garbage goes")
    KEPT = Cycle(b"kept is finalized")
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError("http only")
        frozen = gc.get_freeze_count()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % frozen})
    """
    with serving(tmp_path, source, "--loop", "asyncio") as server:
        server.wait_for("told: garbage goes")
        with server.connect() as raw:
            assert int(raw.get()[2]) > 1000
        assert "kept is finalized" not in server.log
        assert server.stop() == 0
        assert "told: kept is finalized" in server.log
