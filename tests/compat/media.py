"""Sound, pictures, documents and the tools of a developer."""

import io
import tempfile
from pathlib import Path

from table import case


@case("av", "numpy")
def _() -> None:
    import av
    import numpy

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(5):
            picture = numpy.full((48, 64, 3), 40 * level, dtype="u1")
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode()]
    assert len(frames) == 5 and abs(int(frames[3].mean()) - 120) < 10


@case("soundfile", "numpy")
def _() -> None:
    import numpy
    import soundfile

    file = io.BytesIO()
    wave = numpy.sin(numpy.arange(4410) / 10)
    soundfile.write(file, wave, 44100, format="FLAC")
    file.seek(0)
    again, rate = soundfile.read(file)
    assert rate == 44100 and abs(again - wave).max() < 1e-3


@case("soxr", "numpy")
def _() -> None:
    import numpy
    import soxr

    assert soxr.resample(numpy.zeros(48_000), 48_000, 16_000).shape == (16_000,)


@case("imagecodecs", "numpy")
def _() -> None:
    import imagecodecs
    import numpy

    image = numpy.arange(48 * 64, dtype="u1").reshape(48, 64)
    assert (imagecodecs.png_decode(imagecodecs.png_encode(image)) == image).all()
    packed = imagecodecs.jpegxl_encode(image, lossless=True)
    assert (imagecodecs.jpegxl_decode(packed) == image).all()
    assert (
        imagecodecs.webp_decode(
            imagecodecs.webp_encode(numpy.stack([image] * 3, axis=-1), lossless=True)
        )[..., 0]
        == image
    ).all()


@case("pillow-heif", "pillow")
def _() -> None:
    import pillow_heif
    from PIL import Image

    file = io.BytesIO()
    picture = Image.new("RGB", (64, 48), (200, 30, 30))
    pillow_heif.from_pillow(picture).save(file, quality=90)
    again = pillow_heif.open_heif(file.getvalue()).to_pillow()
    assert again.size == (64, 48) and again.getpixel((9, 9))[0] > 150


@case("pymupdf")
def _() -> None:
    import pymupdf

    document = pymupdf.open()
    document.new_page().insert_text((72, 72), "an atoll")
    again = pymupdf.open(stream=document.tobytes(), filetype="pdf")
    assert again[0].get_text().strip() == "an atoll"
    assert again[0].get_pixmap().width == 595


@case("pikepdf")
def _() -> None:
    import pikepdf

    file = io.BytesIO()
    with pikepdf.new() as document:
        document.add_blank_page()
        document.save(file)
    with pikepdf.open(file) as document:
        assert len(document.pages) == 1
    try:
        pikepdf.open(io.BytesIO(b"no"))
    except pikepdf.PdfError:
        pass
    else:
        raise AssertionError("accepted")


@case("pypdfium2")
def _() -> None:
    import pypdfium2

    document = pypdfium2.PdfDocument.new()
    document.new_page(100, 200)
    assert document[0].render(scale=1).width == 100
    document.close()


@case("pygame-ce")
def _() -> None:
    import pygame

    surface = pygame.Surface((8, 8))
    surface.fill((1, 2, 3))
    assert surface.get_at((4, 4))[:3] == (1, 2, 3)
    assert pygame.Rect(0, 0, 4, 4).colliderect(pygame.Rect(3, 3, 4, 4))


@case("pyside6-essentials")
def _() -> None:
    from PySide6 import QtCore

    seen: list[int] = []

    class Source(QtCore.QObject):
        happened = QtCore.Signal(int)

    source = Source()
    source.happened.connect(seen.append)
    source.happened.emit(3)
    assert seen == [3]
    found = QtCore.QRegularExpression(r"(\d+)").match("a12")
    assert found.captured(1) == "12"


@case("curl-cffi")
def _() -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    import curl_cffi

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        with curl_cffi.Session(impersonate="chrome") as session:
            assert session.get(url).content == b"hello"
        server.shutdown()
        thread.join()


@case("primp")
def _() -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    import primp

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        client = primp.Client()
        answer = client.get(f"http://127.0.0.1:{server.server_port}/")
        assert answer.content == b"hello"
        server.shutdown()
        thread.join()


@case("pycares")
def _() -> None:
    import threading

    import pycares

    done = threading.Event()
    answers: list[object] = []

    def answer(result: object, error: int | None) -> None:
        answers.append((result, error))
        done.set()

    channel = pycares.Channel(servers=["127.0.0.1"], tries=1, timeout=1)
    channel.query("localhost", pycares.QUERY_TYPE_A, callback=answer)
    assert done.wait(60)
    channel.close()
    assert len(answers) == 1


@case("falcon")
def _() -> None:
    import falcon
    from falcon import testing
    from falcon.cyutil import reader

    class Item:
        def on_get(self, request: object, response: falcon.Response, n: int) -> None:
            response.media = {"n": n}

    app = falcon.App()
    app.add_route("/{n:int}", Item())
    assert testing.TestClient(app).simulate_get("/3").json == {"n": 3}
    assert reader.BufferedReader(io.BytesIO(b"abc").read, 3).read(2) == b"ab"


@case("aioquic")
def _() -> None:
    from aioquic.buffer import Buffer
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection

    buffer = Buffer(capacity=16)
    buffer.push_uint_var(494_878_333)
    assert buffer.data == bytes.fromhex("9d7f3e7d")
    client = QuicConnection(configuration=QuicConfiguration(is_client=True))
    client.connect(("127.0.0.1", 1), now=0.0)
    assert len(client.datagrams_to_send(now=0.0)[0][0]) >= 1200


@case("granian")
def _() -> None:
    from granian._granian import __version__
    from granian.server.embed import Server

    assert __version__ and Server.__name__


@case("temporalio")
def _() -> None:
    from temporalio.api.common.v1 import Payload
    from temporalio.bridge import temporal_sdk_bridge
    from temporalio.converter import DataConverter

    assert temporal_sdk_bridge.__file__.endswith(".so")
    packed = DataConverter.default.payload_converter.to_payloads([{"a": 1}])
    assert isinstance(packed[0], Payload) and packed[0].data == b'{"a":1}'


@case("coverage")
def _() -> None:
    import coverage
    from coverage.tracer import CTracer

    assert CTracer().get_stats() is None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "covered.py"
        path.write_text("x = 1\nif x > 2:\n    x = 3\n")
        watch = coverage.Coverage(data_file=None, include=[str(path)])
        watch.start()
        exec(compile(path.read_text(), str(path), "exec"), {})
        watch.stop()
        assert watch.analysis(str(path))[2] == [3]


@case("line-profiler")
def _() -> None:
    from line_profiler import LineProfiler

    def work() -> int:
        total = 0
        for i in range(10):
            total += i
        return total

    profiler = LineProfiler()
    assert profiler(work)() == 45
    (timings,) = profiler.get_stats().timings.values()
    assert max(hits for _, hits, _ in timings) in (10, 11)


@case("time-machine")
def _() -> None:
    import datetime

    import time_machine

    with time_machine.travel(datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)):
        assert datetime.date.today().year == 2020
    assert datetime.date.today().year > 2020


@case("lupa")
def _() -> None:
    import lupa

    lua = lupa.LuaRuntime()
    assert lua.eval("2 + 3") == 5
    assert lua.eval("function(f, n) return f(n) + 1 end")(lambda n: n * 2, 4) == 9


@case("dependency-injector")
def _() -> None:
    from dependency_injector import containers, providers

    class Container(containers.DeclarativeContainer):
        number = providers.Factory(int, "3")
        numbers = providers.List(number, number)

    assert Container().numbers() == [3, 3]


@case("ddtrace")
def _() -> None:
    from ddtrace.internal._encoding import MsgpackEncoderV05, packb

    assert packb({"a": 1}) == b"\x81\xa1a\x01"
    assert MsgpackEncoderV05(1 << 16, 1 << 16).content_type


@case("grpcio-tools")
def _() -> None:
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.proto").write_text(
            'syntax = "proto3"; message Point { int32 x = 1; }'
        )
        code = protoc.main(
            ["protoc", f"-I{folder}", f"--python_out={folder}", "a.proto"]
        )
        assert code == 0 and "Point" in (Path(folder) / "a_pb2.py").read_text()


@case("tree-sitter-python", "tree-sitter")
def _() -> None:
    import tree_sitter
    import tree_sitter_python

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_python.language()))
    tree = parser.parse(b"def f(): pass\n")
    assert tree.root_node.children[0].type == "function_definition"
