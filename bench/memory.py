"""Memory of each further worker: an interpreter against a process of uvicorn's.

    python bench/memory.py [--json] [--workers 4] [--kinds]

Starts interpreters one after another that import a FastAPI application (fastapi,
pydantic, orjson, uvloop, httptools) and answer one request in it, and takes by how much
the proportional memory (PSS) of the process grew with the second and later ones. Then
`uvicorn` with as many worker processes serves the same application, and the private
memory (USS) of each worker is taken. Both in one run, on one machine.

`--kinds` also says what the last interpreter's memory consists of: its mappings by
kind, and its Python objects by type, as far as references lead to them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from _needs import need

import atoll

MB = 1 << 20

APPLICATION = """
import fastapi, httptools, orjson, pydantic, uvloop


class Item(pydantic.BaseModel):
    name: str
    price: float


app = fastapi.FastAPI()


@app.get("/")
async def hello() -> Item:
    orjson.dumps({"a": 1})
    return Item(name="reef", price=4.5)
"""

ASK = """
import uvloop, asyncio, memory_application


async def ask():
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
             "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"",
             "root_path": "", "scheme": "http", "headers": [],
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    await memory_application.app(scope, receive, send)
    return sent


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    sent = runner.run(ask())
assert sent[0]["status"] == 200, sent
"""


def count_objects() -> list[tuple[str, int, int]]:
    """Python objects by type: name, count, bytes. Runs in the interpreter.

    Docstrings are counted among `str` and a second time by themselves.
    """
    import gc
    import sys
    import types

    gc.collect()
    seen: set[int] = set()
    rows: dict[str, list[int]] = {}
    documentation: dict[int, int] = {}
    waiting: list[Any] = [*gc.get_objects(), sys.modules]
    own = {id(waiting), id(seen), id(rows), id(documentation)}
    seen.update(map(id, waiting))
    while waiting:
        each = waiting.pop()
        if id(each) in own or isinstance(each, types.FrameType):
            continue
        row = rows.setdefault(type(each).__name__, [0, 0])
        row[0] += 1
        row[1] += sys.getsizeof(each, 0)
        inner = gc.get_referents(each)
        if isinstance(each, types.CodeType):  # the collector is not told
            inner = [each.co_consts, each.co_names, each.co_linetable]
            inner += [each.co_exceptiontable, each.co_qualname]
        elif isinstance(each, types.FunctionType) and isinstance(each.__doc__, str):
            documentation[id(each.__doc__)] = sys.getsizeof(each.__doc__)
        elif isinstance(each, type | types.ModuleType):
            text = vars(each).get("__doc__")
            if isinstance(text, str):
                documentation[id(text)] = sys.getsizeof(text)
        for other in inner:
            if id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
    table = [(name, row[0], row[1]) for name, row in rows.items()]
    table = sorted(table, key=lambda row: -row[2])[:14]
    return [
        *table,
        ("docstrings among str", len(documentation), sum(documentation.values())),
    ]


def proportional_bytes(pid: int | str = "self") -> int:
    """PSS of a process."""
    return _rollup(pid, ("Pss:",))


def private_bytes(pid: int | str = "self") -> int:
    """USS of a process: what only it has."""
    return _rollup(pid, ("Private_Clean:", "Private_Dirty:"))


def _rollup(pid: int | str, names: tuple[str, ...]) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(
        int(line.split()[1]) * 1024
        for line in text.splitlines()
        if line.startswith(names)
    )


def mappings() -> dict[tuple[str, str], tuple[str, int]]:
    """Kind and PSS of each mapping of this process."""
    found: dict[tuple[str, str], tuple[str, int]] = {}
    key = ("", "")
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) (\S+) \S+ \d+ *(.*)", line)
        if head:
            start, end, access, _, path = head.groups()
            size = int(end, 16) - int(start, 16)
            if path.startswith("[heap]"):
                kind = "malloc"
            elif path == "" and size == MB and int(start, 16) % MB == 0:
                kind = "arenas of Python objects"
            elif path == "" and int(start, 16) % (64 * MB) == 0:
                kind = "malloc"
            elif path == "":
                kind = "other anonymous memory"
            elif "w" in access:
                kind = "images: writable data"
            elif "memfd" in path:
                kind = "images: tables of the loader, and relocated read-only data"
            else:
                kind = "files: text and constants"
            key = (start, path)
            found[key] = (kind, 0)
        elif line.startswith("Pss:"):
            found[key] = (found[key][0], int(line.split()[1]) * 1024)
    return found


def by_kind(
    before: dict[Any, tuple[str, int]], after: dict[Any, tuple[str, int]]
) -> Counter[str]:
    """By how much each kind of mapping grew."""
    grown: Counter[str] = Counter()
    for kind, size in after.values():
        grown[kind] += size
    for kind, size in before.values():
        grown[kind] -= size
    return grown


def measure_interpreters(folder: str, count: int, kinds: bool) -> dict[str, Any]:
    """Bytes that each of `count` interpreters added."""
    sys.path.insert(0, folder)
    each: list[int] = []
    result: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for number in range(count):
            before = proportional_bytes()
            maps = mappings()
            interpreter = stack.enter_context(atoll.Interpreter())
            interpreter.exec(ASK)
            each.append(proportional_bytes() - before)
            if kinds and number == count - 1:
                result["kinds"] = dict(by_kind(maps, mappings()).most_common())
                result["objects"] = interpreter.call(count_objects)
    result["bytes"] = each
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure_uvicorn(folder: str, count: int) -> list[int]:
    """Private bytes of each worker process of uvicorn, having answered a request."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "memory_application:app", "--app-dir", folder,
        "--port", str(port), "--workers", str(count), "--loop", "uvloop",
        "--http", "httptools", "--log-level", "error",
    ]  # fmt: skip
    with subprocess.Popen(command) as server:
        try:
            wait_for(port)
            for _ in range(20 * count):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
            children = Path(
                f"/proc/{server.pid}/task/{server.pid}/children"
            ).read_text()
            workers = [
                pid
                for pid in children.split()
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
            return [private_bytes(pid) for pid in workers]
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kinds", action="store_true")
    parser.add_argument("--workers", type=int, default=5)
    options = parser.parse_args()
    need(["fastapi", "httptools", "orjson", "pydantic", "uvloop", "uvicorn"])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "memory_application.py").write_text(APPLICATION)
        ours = measure_interpreters(folder, options.workers, options.kinds)
        theirs = measure_uvicorn(folder, options.workers)
    further = statistics.mean(ours["bytes"][1:])
    process = statistics.mean(theirs)
    result = {
        "interpreter_further_mb": further / MB,
        "interpreter_each_mb": [size / MB for size in ours["bytes"]],
        "uvicorn_private_mb": process / MB,
        "uvicorn_each_mb": [size / MB for size in theirs],
        "ratio": further / process,
    }
    if options.kinds:
        result["kinds_mb"] = {kind: size / MB for kind, size in ours["kinds"].items()}
        result["objects"] = ours["objects"]
    if options.json:
        print(json.dumps(result))
        return
    print(f"each further interpreter: {further / MB:6.1f} MB proportional")
    print(f"a worker of uvicorn:      {process / MB:6.1f} MB private")
    print(f"ratio:                    {further / process:6.2f}")
    for kind, size in ours.get("kinds", {}).items():
        print(f"  {size / MB:8.2f} MB  {kind}")
    for name, count, size in ours.get("objects", []):
        print(f"  {size / MB:8.2f} MB  {count:8}  {name}")


if __name__ == "__main__":
    main()
