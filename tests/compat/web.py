"""Servers, clients, event loops and cryptography."""

import asyncio
import ssl
import tempfile
import threading
from pathlib import Path

from table import case


@case("fastapi", "httpx", quick=True)
def _() -> None:
    import fastapi
    from fastapi.testclient import TestClient

    app = fastapi.FastAPI()

    @app.get("/items/{number}")
    def item(number: int) -> dict[str, int]:
        return {"number": number}

    client = TestClient(app)
    assert client.get("/items/3").json() == {"number": 3}
    assert client.get("/items/x").status_code == 422


@case("uvloop", quick=True)
def _() -> None:
    import uvloop

    async def main() -> bytes:
        async def echo(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == b"hello\n"


@case("httptools", quick=True)
def _() -> None:
    import httptools

    seen: list[bytes] = []

    class Protocol:
        def on_url(self, url: bytes) -> None:
            seen.append(url)

        def on_body(self, body: bytes) -> None:
            seen.append(body)

    parser = httptools.HttpRequestParser(Protocol())
    parser.feed_data(b"POST /a?b=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
    assert seen == [b"/a?b=1", b"hi"] and parser.get_method() == b"POST"
    assert httptools.parse_url(b"/a?b=1").query == b"b=1"


@case("aiohttp")
def _() -> None:
    import aiohttp
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"name": request.match_info["name"]})

    async def main() -> dict[str, str]:
        app = web.Application()
        app.router.add_get("/{name}", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/atoll") as response,
        ):
            result = await response.json()
        await runner.cleanup()
        return result

    assert asyncio.run(main()) == {"name": "atoll"}


@case("multidict")
def _() -> None:
    import multidict

    headers = multidict.CIMultiDict([("A", "1"), ("a", "2")])
    assert headers.getall("A") == ["1", "2"]


@case("yarl")
def _() -> None:
    import yarl

    url = yarl.URL("http://h/p a") / "x"
    assert str(url % {"q": "\u00e9"}) == "http://h/p%20a/x?q=%C3%A9"


@case("frozenlist")
def _() -> None:
    import frozenlist

    items = frozenlist.FrozenList([1, 2])
    items.freeze()
    try:
        items.append(3)
    except RuntimeError:
        pass
    else:
        raise AssertionError("not frozen")
    assert hash(items) == hash((1, 2))


@case("propcache")
def _() -> None:
    from propcache.api import cached_property

    class Thing:
        calls = 0

        @cached_property
        def value(self) -> int:
            self.calls += 1
            return 7

    thing = Thing()
    assert (thing.value, thing.value, thing.calls) == (7, 7, 1)


@case("websockets")
def _() -> None:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve
    from websockets.speedups import apply_mask

    assert apply_mask(b"abcd", b"\x01\x01\x01\x01") == b"`cbe"

    async def main() -> str:
        async def echo(connection) -> None:
            async for message in connection:
                await connection.send(message)

        async with serve(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}", proxy=None) as client:
                await client.send("hello")
                return await client.recv()

    assert asyncio.run(main()) == "hello"


@case("tornado")
def _() -> None:
    from tornado import httpclient, httpserver, netutil, web
    from tornado.util import _websocket_mask

    assert _websocket_mask(b"\x01\x01\x01\x01", b"abcd") == b"`cbe"

    class Hello(web.RequestHandler):
        def get(self) -> None:
            self.write("hello")

    async def main() -> bytes:
        server = httpserver.HTTPServer(web.Application([("/", Hello)]))
        sockets = netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        port = sockets[0].getsockname()[1]
        response = await httpclient.AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/")
        server.stop()
        return response.body

    assert asyncio.run(main()) == b"hello"


@case("gevent")
def _() -> None:
    import gevent
    import gevent.pool

    def work(number: int) -> int:
        gevent.sleep(0.001)
        return number * number

    assert gevent.pool.Pool(4).map(work, range(5)) == [0, 1, 4, 9, 16]


@case("greenlet", quick=True)
def _() -> None:
    import greenlet

    def child(value: int) -> int:
        return main.switch(value + 1) + 10

    main = greenlet.getcurrent()
    other = greenlet.greenlet(child)
    assert other.switch(1) == 2
    assert other.switch(5) == 15 and other.dead


@case("watchfiles")
def _() -> None:
    import watchfiles

    with tempfile.TemporaryDirectory() as folder:
        stop = threading.Event()
        seen = set()
        for changes in watchfiles.watch(
            folder,
            stop_event=stop,
            yield_on_timeout=True,
            rust_timeout=50,
            debounce=50,
            step=10,
        ):
            if changes:
                seen |= {Path(path).name for _, path in changes}
                stop.set()
            else:
                (Path(folder) / "new.txt").write_text("x")
        assert seen == {"new.txt"}


@case("grpcio")
def _() -> None:
    import concurrent.futures

    import grpc

    def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
        return request[::-1]

    handlers = grpc.method_handlers_generic_handler(
        "t.Echo", {"Say": grpc.unary_unary_rpc_method_handler(echo)}
    )
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((handlers,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert channel.unary_unary("/t.Echo/Say")(b"abc", timeout=20) == b"cba"
        server.stop(None).wait()


@case("pyzmq")
def _() -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.REP) as server:
        port = server.bind_to_random_port("tcp://127.0.0.1")
        with context.socket(zmq.REQ) as client:
            client.connect(f"tcp://127.0.0.1:{port}")
            client.send_json({"a": 1})
            assert server.recv_json() == {"a": 1}
            server.send(b"ok")
            assert client.recv() == b"ok"


@case("pycurl")
def _() -> None:
    import http.server
    import io

    import pycurl

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    out = io.BytesIO()
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, f"http://127.0.0.1:{server.server_port}/")
    curl.setopt(pycurl.WRITEFUNCTION, out.write)
    curl.setopt(pycurl.PROXY, "")
    curl.perform()
    curl.close()
    thread.join()
    server.server_close()
    assert out.getvalue() == b"hello"


@case("cryptography", quick=True)
def _() -> None:
    import datetime

    from cryptography import x509
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    box = Fernet(Fernet.generate_key())
    assert box.decrypt(box.encrypt(b"secret")) == b"secret"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "atoll")])
    now = datetime.datetime(2024, 1, 1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(1))
        .sign(key, hashes.SHA256())
    )
    certificate.verify_directly_issued_by(certificate)
    assert ssl.OPENSSL_VERSION


@case("bcrypt")
def _() -> None:
    import bcrypt

    hashed = bcrypt.hashpw(b"word", bcrypt.gensalt(4))
    assert bcrypt.checkpw(b"word", hashed) and not bcrypt.checkpw(b"sword", hashed)


@case("argon2-cffi")
def _() -> None:
    import argon2

    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    assert hasher.verify(hasher.hash("word"), "word")


@case("pynacl")
def _() -> None:
    import nacl.secret
    import nacl.signing

    box = nacl.secret.SecretBox(bytes(32))
    assert box.decrypt(box.encrypt(b"hi")) == b"hi"
    key = nacl.signing.SigningKey(bytes(32))
    assert key.verify_key.verify(key.sign(b"hi")) == b"hi"


@case("cffi", quick=True)
def _() -> None:
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("int abs(int); void qsort(int *, size_t, size_t, int (*)(int *, int *));")
    libc = ffi.dlopen(None)
    assert libc.abs(-4) == 4

    @ffi.callback("int(int *, int *)")
    def compare(a, b) -> int:
        return a[0] - b[0]

    numbers = ffi.new("int[]", [3, 1, 2])
    libc.qsort(numbers, 3, ffi.sizeof("int"), compare)
    assert list(numbers) == [1, 2, 3]


@case("psutil", quick=True)
def _() -> None:
    import os

    import psutil

    me = psutil.Process()
    assert me.pid == os.getpid() and me.memory_info().rss > 1_000_000
    assert psutil.cpu_count() >= 1


@case("setproctitle")
def _() -> None:
    import setproctitle

    before = setproctitle.getproctitle()
    assert isinstance(before, str) and before
    setproctitle.setthreadtitle("atoll")
    assert setproctitle.getthreadtitle() == "atoll"


@case("confluent-kafka")
def _() -> None:
    import confluent_kafka

    delivered: list[bytes] = []
    producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
    producer.produce(
        "topic",
        b"hello",
        callback=lambda error, message: delivered.append(message.value()),
    )
    assert producer.flush(20) == 0
    assert delivered == [b"hello"]
