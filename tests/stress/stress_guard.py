"""Does anybody use what a closed interpreter left?

    ATOLL_HEAP_GUARD=1 python tests/stress/stress_guard.py [TOPIC...]

Each topic is a piece of the standard library that has state of the process's in it:
static types, tables of the runtime, handles of threads. It is used in two interpreters
at once, before main ever imports it; they are closed, and what they left is made
inaccessible. Then main uses it, then two more interpreters, and so the exit of the
process. Whoever still has a pointer into a dead heap faults.
"""

from __future__ import annotations

import sys
import threading

import atoll

TOPICS = {
    "ctypes": """
import ctypes
class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]
compare_type = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
ctypes.CDLL(None).qsort(numbers, 5, 4, compare_type(lambda a, b: a[0] - b[0]))
assert list(numbers) == [1, 2, 3, 4, 5]
assert Point(1, 2.5).y == 2.5 and ctypes.sizeof(Point) == 16
""",
    "datetime": """
import datetime, pickle, time, zoneinfo
at = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
assert pickle.loads(pickle.dumps(at)) == at
assert at.astimezone(zoneinfo.ZoneInfo("Europe/Berlin")).hour == 13
assert time.strptime("29 02 2024", "%d %m %Y").tm_yday == 60
class Mine(datetime.datetime): pass
assert Mine.fromisoformat("2024-02-29").year == 2024
""",
    "decimal": """
import decimal, fractions, statistics, random
with decimal.localcontext(prec=40) as context:
    assert str(decimal.Decimal(2).sqrt(context)).startswith("1.41421356237309504880")
assert fractions.Fraction(1, 3) + fractions.Fraction(1, 6) == fractions.Fraction(1, 2)
assert statistics.fmean(random.Random(7).choices([1, 1], k=9)) == 1
""",
    "asyncio": """
import asyncio, contextvars
name = contextvars.ContextVar("name")
async def one(n):
    name.set(n)
    await asyncio.sleep(0.001)
    assert await asyncio.to_thread(name.get) == n
    return n
async def all_of_them():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(n)) for n in range(5)]
    return sum(task.result() for task in tasks)
assert asyncio.run(all_of_them()) == 10
""",
    "ssl": """
import hashlib, hmac, secrets, ssl
context = ssl.create_default_context()
left, right = ssl.MemoryBIO(), ssl.MemoryBIO()
client = context.wrap_bio(left, right, server_hostname="localhost")
try:
    client.do_handshake()
except ssl.SSLWantReadError:
    pass
assert right.pending > 100
assert len(hmac.digest(secrets.token_bytes(9), b"x", "sha256")) == 32
""",
    "sqlite3": """
import sqlite3
with sqlite3.connect(":memory:") as database:
    database.create_function("twice", 1, lambda n: n * 2)
    database.execute("create table t (a)")
    database.executemany("insert into t values (?)", [(n,) for n in range(50)])
    assert database.execute("select sum(twice(a)) from t").fetchone() == (2450,)
""",
    "threads": """
import concurrent.futures, queue, threading, weakref, gc
with concurrent.futures.ThreadPoolExecutor(3) as pool:
    assert sum(pool.map(lambda n: n * n, range(20))) == 2470
local = threading.local()
local.kept = [local]
class Node: pass
node = Node(); node.self = node; seen = weakref.ref(node); del node
gc.collect()
assert seen() is None
assert threading.Thread(target=gc.collect).ident is None
""",
    "types": """
import abc, collections, collections.abc, dataclasses, enum, functools, typing
class Row(typing.NamedTuple):
    a: int
@dataclasses.dataclass(slots=True)
class Box:
    of: list[int]
class Shade(enum.StrEnum):
    LIGHT = enum.auto()
class Sized(abc.ABC): pass
Sized.register(int)
class Number(int): pass
class Text(str): pass
class Failure(OSError, RuntimeError): pass
assert isinstance(Number(3), Sized) and Row(1)._replace(a=2).a == 2
assert issubclass(collections.OrderedDict, collections.abc.MutableMapping)
assert functools.singledispatch(lambda n: n)(Box([1])).of == [1]
assert {Text("a"): Shade.LIGHT}["a"] == "light"
""",
    "text": r"""
import codecs, encodings.idna, json, locale, pickle, re, unicodedata
assert "\N{SNOWMAN}".encode("utf-16-le") == b"\x03&"
assert "rif\xe9".encode("idna") == b"xn--rif-dma"
assert re.sub(r"(?P<n>\d+)", lambda m: str(int(m["n"]) + 1), "a1b22") == "a2b23"
assert unicodedata.normalize("NFD", "\xe9") == "e\u0301"
assert json.loads(json.dumps({"a": 1.5}), parse_float=str) == {"a": "1.5"}
assert pickle.loads(pickle.dumps([re.compile("x"), ValueError(1)]))[0].pattern == "x"
assert codecs.lookup("cp1252").name == "cp1252"
""",
    "files": """
import array, csv, io, mmap, os, select, socket, struct, subprocess, sys, tempfile, zlib
with tempfile.TemporaryFile() as file:
    file.write(zlib.compress(b"reef" * 500)); file.flush()
    with mmap.mmap(file.fileno(), 0) as view:
        assert zlib.decompress(view).count(b"reef") == 500
a, b = socket.socketpair()
with a, b:
    a.send(struct.pack("<I", 7))
    assert select.select([b], [], [], 30)[0] and struct.unpack("<I", b.recv(4)) == (7,)
assert next(csv.DictReader(io.StringIO("a,b\\n1,2\\n")))["b"] == "2"
assert os.stat(".").st_mode and os.sched_getaffinity(0) and os.times().elapsed > 0
assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout
assert memoryview(array.array("i", [1, 2])).cast("B").nbytes == 8
""",
    "code": """
import ast, dis, inspect, io, sys, tokenize, traceback, warnings
def count(n):
    yield from range(n)
for _ in range(3000):
    sum(count(3))
code = compile(ast.parse("def f(*, a=1): return [b for b in range(a)]"), "x", "exec")
space = {}
exec(code, space)
assert space["f"](a=3) == [0, 1, 2] and list(dis.get_instructions(space["f"]))
assert str(inspect.signature(space["f"])) == "(*, a=1)"
seen = []
sys.setprofile(lambda *args: seen.append(1)); space["f"](); sys.setprofile(None)
sys.settrace(lambda *args: None); space["f"](); sys.settrace(None)
sys.monitoring.use_tool_id(3, "reef"); sys.monitoring.free_tool_id(3)
sys.addaudithook(lambda event, args: None)
try:
    1 / 0
except ZeroDivisionError as error:
    assert "ZeroDivisionError" in "".join(traceback.format_exception(error))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always"); warnings.warn("reef")
assert caught and seen
""",
    "xml": """
import xml.etree.ElementTree as tree, pyexpat
assert tree.fromstring("<a><b c='1'/></a>").find("b").get("c") == "1"
parser = pyexpat.ParserCreate()
names = []
parser.StartElementHandler = lambda name, attributes: names.append(name)
parser.Parse("<a><b/></a>", True)
assert names == ["a", "b"]
""",
}


def in_two(code: str) -> None:
    """Run the code in two interpreters at once and close them."""
    failures: list[BaseException] = []
    with atoll.Interpreter() as one, atoll.Interpreter() as other:

        def run(interpreter: atoll.Interpreter) -> None:
            try:
                interpreter.exec(code)
            except BaseException as error:
                failures.append(error)

        both = (one, other)
        threads = [threading.Thread(target=run, args=(each,)) for each in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def main(names: list[str]) -> None:
    """Each topic in interpreters, in main, in interpreters; all in main once more."""
    for name in names or TOPICS:
        print(name, flush=True)
        in_two(TOPICS[name])
        exec(TOPICS[name], {"__name__": "__main__"})
        in_two(TOPICS[name])
    for name in names or TOPICS:
        exec(TOPICS[name], {"__name__": "__main__"})
    print("at the exit", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
