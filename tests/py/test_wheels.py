"""Real wheels in two interpreters at once, closed, and again; each in a child process.

A case is skipped where its package is not installed; the `test` extra has them all.
"""

from importlib.metadata import PackageNotFoundError, distribution, version

import pytest
from sins import in_interpreters

#: distribution: what is done with it in each interpreter, with a checked result.
CASES = {
    "numpy": """
import numpy as np
a = np.arange(12.0).reshape(3, 4)
assert (a @ a.T)[2, 2] == 8**2 + 9**2 + 10**2 + 11**2
assert np.linalg.solve([[2.0, 0], [0, 4]], [2, 4]).tolist() == [1, 1]
assert np.random.default_rng(1).integers(0, 9, 5).tolist() == [4, 4, 6, 8, 0]
assert np.fft.fft([1, 0, 0, 0]).tolist() == [1, 1, 1, 1]
""",
    "pandas": """
import pandas as pd
frame = pd.DataFrame({"k": ["a", "b", "a"], "v": [1, 2, 3 + INDEX]})
assert frame.groupby("k").v.sum().to_dict() == {"a": 4 + INDEX, "b": 2}
assert str(pd.Timestamp("2024-02-28") + pd.Timedelta(days=1)) == "2024-02-29 00:00:00"
""",
    "pydantic-core": """
from pydantic_core import SchemaValidator, ValidationError, core_schema, to_json
validator = SchemaValidator(core_schema.list_schema(core_schema.int_schema()))
assert validator.validate_python(["1", 2]) == [1, 2]
try:
    validator.validate_json('["x"]')
except ValidationError as error:
    assert error.error_count() == 1
else:
    raise AssertionError
assert to_json({"a": [INDEX]}) == b'{"a":[%d]}' % INDEX
""",
    "orjson": """
import orjson
value = {"a": [1, 2.5, None, True, "ü"], "index": INDEX}
assert orjson.loads(orjson.dumps(value)) == value
try:
    orjson.loads("{")
except orjson.JSONDecodeError:
    pass
else:
    raise AssertionError
""",
    "msgspec": """
import msgspec
class Point(msgspec.Struct):
    x: int
    y: list[float] = []
point = Point(INDEX, [1.5])
assert msgspec.json.decode(msgspec.json.encode(point), type=Point) == point
assert msgspec.msgpack.decode(msgspec.msgpack.encode(point), type=Point) == point
""",
    "uvloop": """
import asyncio, uvloop
async def echo(reader, writer):
    writer.write(await reader.read(100))
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello %d" % INDEX)
    answer = await reader.read(100)
    writer.close()
    server.close()
    assert type(asyncio.get_running_loop()) is uvloop.Loop
    return answer
assert uvloop.run(main()) == b"hello %d" % INDEX
""",
    "httptools": """
import httptools
class Seen:
    headers = []
    def on_url(self, url):
        self.url = url
    def on_header(self, name, value):
        self.headers.append((name, value))
seen = Seen()
parser = httptools.HttpRequestParser(seen)
parser.feed_data(b"GET /%d HTTP/1.1\\r\\nHost: here\\r\\n\\r\\n" % INDEX)
assert seen.url == b"/%d" % INDEX and seen.headers == [(b"Host", b"here")]
assert httptools.parse_url(b"http://h:1/p?q").query == b"q"
""",
    "cryptography": """
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
fernet = Fernet(Fernet.generate_key())
assert fernet.decrypt(fernet.encrypt(b"secret")) == b"secret"
try:
    fernet.decrypt(b"nonsense")
except InvalidToken:
    pass
else:
    raise AssertionError
key = ed25519.Ed25519PrivateKey.generate()
key.public_key().verify(key.sign(b"text"), b"text")
digest = hashes.Hash(hashes.SHA256())
digest.update(b"abc")
assert digest.finalize().hex().startswith("ba7816bf")
""",
    "lxml": """
from lxml import etree, html
tree = etree.fromstring("<a><b i='%d'/><b/></a>" % INDEX)
assert [node.get("i") for node in tree.xpath("//b")] == [str(INDEX), None]
assert html.fromstring("<p>x<b>y").text_content() == "xy"
sheet = etree.XSLT(etree.XML('''<xsl:stylesheet version="1.0"
  xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template match="/">
  <n><xsl:value-of select="count(//b)"/></n></xsl:template></xsl:stylesheet>'''))
assert sheet(tree).getroot().text == "2"
""",
    "pillow": """
import io
from PIL import Image, ImageFilter
image = Image.new("RGB", (40, 30), (255, INDEX, 0))
for kind in "PNG", "JPEG", "WEBP":
    data = io.BytesIO()
    image.save(data, kind)
    again = Image.open(io.BytesIO(data.getvalue()))
    again.load()
    assert again.size == (40, 30)
assert image.filter(ImageFilter.GaussianBlur(2)).getpixel((5, 5)) == (255, INDEX, 0)
""",
    "pyyaml": """
import yaml
text = "a: [1, 2.5, x]\\nb: {c: %d}" % INDEX
expected = {"a": [1, 2.5, "x"], "b": {"c": INDEX}}
assert yaml.load(text, Loader=yaml.CSafeLoader) == expected
assert yaml.safe_load(yaml.dump(expected, Dumper=yaml.CSafeDumper)) == expected
""",
    "psutil": """
import os, psutil
process = psutil.Process()
assert process.pid == os.getpid()
assert process.memory_info().rss > 1 << 20
assert psutil.cpu_count() == os.cpu_count()
""",
    "aiohttp": """
import asyncio
import aiohttp
from aiohttp import http_parser, http_writer, web
assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
async def main():
    async def hello(request):
        return web.json_response({"index": INDEX})
    app = web.Application()
    app.add_routes([web.get("/", hello)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            answer = await response.json()
    await runner.cleanup()
    return answer
assert asyncio.run(main()) == {"index": INDEX}
""",
    "sqlalchemy": """
import sqlalchemy as sa
from sqlalchemy.util import has_compiled_ext
assert has_compiled_ext()
engine = sa.create_engine("sqlite://")
with engine.connect() as connection:
    connection.execute(sa.text("create table t (x int)"))
    connection.execute(sa.text("insert into t values (:x)"), [{"x": INDEX}, {"x": 5}])
    rows = connection.execute(sa.text("select sum(x) from t")).scalar_one()
assert rows == INDEX + 5
""",
    "greenlet": """
from greenlet import getcurrent, greenlet
seen = []
def run(value):
    seen.append(value)
    seen.append(main.switch("first"))
    return "last"
main = getcurrent()
other = greenlet(run)
assert other.switch(INDEX) == "first"
assert other.switch("again") == "last"
assert seen == [INDEX, "again"] and other.dead
""",
    "regex": """
import regex
assert regex.findall(r"\\p{Lu}\\p{Ll}+", "Ärger Und so") == ["Ärger", "Und"]
assert regex.search(r"(?:cats){e<=1}", "the cuts").group() == "cuts"
""",
    "cffi": """
import cffi
ffi = cffi.FFI()
ffi.cdef("size_t strlen(const char *); void qsort(void *, size_t, size_t, "
         "int (*)(const void *, const void *));")
libc = ffi.dlopen(None)
assert libc.strlen(b"four") == 4
numbers = ffi.new("int[]", [3, 1, 2])
@ffi.callback("int(const void *, const void *)")
def compare(a, b):
    return ffi.cast("int *", a)[0] - ffi.cast("int *", b)[0]
libc.qsort(numbers, 3, 4, compare)
assert list(numbers) == [1, 2, 3]
""",
    "argon2-cffi": """
import argon2
hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
assert hasher.verify(hasher.hash("secret"), "secret")
""",
    "pynacl": """
from nacl.secret import SecretBox
from nacl.utils import random
box = SecretBox(random(SecretBox.KEY_SIZE))
assert box.decrypt(box.encrypt(b"text")) == b"text"
""",
    "contourpy": """
import contourpy
lines = contourpy.contour_generator(z=[[0, 1], [0, 1]]).lines(0.5)
assert lines[0].tolist() in ([[0.5, 0], [0.5, 1]], [[0.5, 1], [0.5, 0]])
""",
    "kiwisolver": """
import kiwisolver
x, y = kiwisolver.Variable("x"), kiwisolver.Variable("y")
solver = kiwisolver.Solver()
solver.addConstraint(x + y == 10)
solver.addConstraint(x == INDEX)
solver.updateVariables()
assert (x.value(), y.value()) == (INDEX, 10 - INDEX)
""",
    "gemmi": """
import gemmi
cell = gemmi.UnitCell(10, 20, 30 + INDEX, 90, 90, 90)
assert cell.volume == 10 * 20 * (30 + INDEX)
assert gemmi.Element("Fe").atomic_number == 26
""",
    "rpds-py": """
from rpds import HashTrieMap, List
assert dict(HashTrieMap({"a": 1}).insert("b", INDEX)) == {"a": 1, "b": INDEX}
assert list(List([1, 2]).push_front(INDEX)) == [INDEX, 1, 2]
""",
    "markupsafe": """
from markupsafe import Markup, _native, _speedups, escape
assert escape("<%d>" % INDEX) == Markup("&lt;%d&gt;" % INDEX)
assert _speedups._escape_inner("<") == "&lt;"
""",
}


@pytest.mark.parametrize("name", CASES)
def test_wheel_in_two_interpreters(name):
    try:
        wheel = distribution(name).read_text("WHEEL") or ""
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if "Tag: py3-none-any" in wheel:
        pytest.skip(f"{name} has no wheel with extensions for this Python")
    in_interpreters(CASES[name], timeout=240)


def test_wheels_work_together():
    chosen = []
    for name in ("numpy", "pydantic-core", "orjson"):
        try:
            version(name)
            chosen.append(name)
        except PackageNotFoundError:
            pass
    if len(chosen) < 2:
        pytest.skip("numpy, pydantic-core and orjson: two of them are not installed")
    in_interpreters("\n".join(CASES[name] for name in chosen), timeout=240)
