"""The server against its peers: requests, CPU, latency and memory, in one table.

    python bench/serve.py [--case hello|fastapi|static|h2|websocket] [--rounds 3]
                          [--seconds 3] [--json]
    python bench/serve.py --servers atoll,uvicorn,granian,c --workers 1
    python bench/serve.py --servers atoll,atoll-processes,atoll-preload --workers 2

Each server runs the same application; wrk (h2load for HTTP/2, a client here for
WebSockets) sends the same load to each in turn, and the
rounds are interleaved, so that what else the machine does falls on all alike. The
figures are medians over the rounds. Requests for each CPU-second count user and system
time of the server's whole process tree; latency is wrk's; memory is read when the load
is over: private is what would be free again without the server, proportional shares
what is shared (PSS).
"""

import argparse
import dataclasses
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _loads
from _needs import need

HELLO = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain"),
                            (b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
"""
ECHO = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
    else:
        raise RuntimeError("no lifespan")
"""
# For servers that have no static files of their own.
FILES = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("")),
                        Mount("/static", StaticFiles(directory="files"))])
"""
FILE_BYTES = 100_000
POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"name": "tea", "price": 2.5, "quantity": 3, "tags": ["a", "b"]}'
"""
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "fastapi_app"
TICKS = os.sysconf("SC_CLK_TCK")
BIN = Path(sys.executable).parent

ATOLL = (
    "{bin}/atoll serve main:app --port {port} --workers {n} --loop uvloop"
    " --log-level warning"
)
SERVERS = {
    "atoll": ATOLL,
    "atoll-threads": ATOLL + " --model threads",
    "atoll-processes": ATOLL + " --model processes",
    "atoll-preload": ATOLL + " --preload",
    "uvicorn": "{bin}/uvicorn main:app --port {port} --workers {n} --loop uvloop"
    " --http httptools --no-access-log --log-level warning",
    "granian": "{bin}/granian --interface asgi main:app --port {port} --workers {n}"
    " --loop uvloop --log-level warning",
    "hypercorn": "{bin}/hypercorn main:app --bind 127.0.0.1:{port} --workers {n}"
    " --worker-class uvloop --log-level warning",
    "gunicorn": "{bin}/gunicorn main:app --bind 127.0.0.1:{port} --workers {n}"
    " --worker-class uvicorn.workers.UvicornWorker --log-level warning",
    # The limit: bench/c/hello.c, compiled beside the application; one thread.
    "c": "./hello {port}",
}
#: What else a case needs of a server, by the beginning of its name.
FURTHER = {
    ("static", "atoll"): " --static /static=files",
    ("static", "granian"): " --static-path-route /static --static-path-mount files",
    ("h2", "granian"): " --http 2",
    ("hello", "granian"): " --no-ws",
    ("fastapi", "granian"): " --no-ws",
}


#: What the cases' applications import.
MODULES = {
    "fastapi": ["fastapi", "numpy", "orjson", "multipart"],
    "static": ["starlette"],
}


def modules_of(names: list[str]) -> list[str]:
    """What these servers are made of."""
    servers = [name.partition("-")[0] for name in names]
    found = [name for name in servers if name not in ("atoll", "c")]
    found += ["uvicorn"] * ("gunicorn" in servers)
    return [*found, "uvloop", "httptools"] if servers != ["c"] else []


@dataclasses.dataclass
class Figures:
    """One server's figures of one round."""

    requests_per_s: float
    requests_per_cpu_s: float
    p50_ms: float
    p99_ms: float
    private_mb: float
    proportional_mb: float
    errors: int


def build_limit(folder: Path) -> None:
    """Compile what answers without any Python."""
    source = Path(__file__).resolve().parent / "c" / "hello.c"
    command = ["cc", "-O3", "-D_GNU_SOURCE", "-o", folder / "hello", source]
    subprocess.run(command, check=True)


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree so far."""
    ticks = 0
    for pid in tree(root):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def memory_mb(root: int) -> tuple[float, float]:
    """Private and proportional memory of the tree."""
    private = proportional = 0
    for pid in tree(root):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("Private_Clean", "Private_Dirty"):
                private += int(rest.split()[0])
            elif name == "Pss":
                proportional += int(rest.split()[0])
    return private / 1024, proportional / 1024


class Running:
    """A server process that answers."""

    def __init__(
        self, name: str, workers: int, folder: Path, case: str = "hello"
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = SERVERS[name].format(bin=BIN, port=self.port, n=workers)
        command += FURTHER.get((case, name.partition("-")[0]), "")
        self.process = subprocess.Popen(
            command.split(), cwd=folder, start_new_session=True
        )
        end = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5):
                    pass
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{command} does not serve") from None
                time.sleep(0.05)
        self._wait_for_others()
        if self.process.poll() is not None:
            raise SystemExit(f"{command} has ended by itself")

    def _wait_for_others(self) -> None:
        """The other workers have started when nobody uses the processor any more."""
        end = time.monotonic() + 60
        used, since = -1.0, time.monotonic()
        while time.monotonic() < min(since + 2, end):
            now = cpu_seconds(self.process.pid)
            if now > used + 1 / TICKS:  # a tick is what waiting costs
                used, since = now, time.monotonic()
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def load(
    case: str, port: int, target: str, script: Path | None, seconds: int
) -> dict[str, float]:
    """One run of the case's load."""
    if case == "h2":
        return _loads.h2load(port, target, seconds)
    if case == "websocket":
        return _loads.websocket(port, seconds)
    return _loads.wrk(port, target, script, seconds)


def measure(
    name: str,
    workers: int,
    folder: Path,
    target: str,
    script: Path | None,
    seconds: int,
    case: str = "hello",
) -> Figures:
    """Start the server, warm it up, load it, stop it."""
    server = Running(name, workers, folder, case)
    try:
        load(case, server.port, target, script, 1)
        before = cpu_seconds(server.process.pid)
        got = load(case, server.port, target, script, seconds)
        used = cpu_seconds(server.process.pid) - before
        private, proportional = memory_mb(server.process.pid)
    finally:
        server.stop()
    return Figures(
        got["rate"],
        got["requests"] / used if used else 0.0,
        got["p50"],
        got["p99"],
        private,
        proportional,
        int(got["errors"]),
    )


CASES = ["hello", "fastapi", "static", "h2", "websocket"]


def options_given() -> argparse.Namespace:
    """The command line's, with lists where it has commas."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=CASES, default="hello")
    parser.add_argument("--servers", default="atoll,uvicorn,granian")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.servers = options.servers.split(",")
    options.workers = list(map(int, options.workers.split(",")))
    if unknown := [name for name in options.servers if name not in SERVERS]:
        parser.error(f"no server {unknown[0]!r}; there are {', '.join(SERVERS)}")
    return options


def write_case(case: str, folder: Path) -> tuple[Path, str, Path | None]:
    """Write what is served: the application's folder, the path to ask for, wrk's script."""
    if case == "fastapi":
        script = folder / "post.lua"
        script.write_text(POST)
        return EXAMPLE, "/items", script
    sources = {"websocket": ECHO, "static": FILES}
    (folder / "main.py").write_text(sources.get(case, HELLO))
    if case == "static":
        _loads.write_file(folder, FILE_BYTES)
        return folder, "/static/file.bin", None
    if case != "websocket":
        build_limit(folder)
    return folder, "/", None


def measure_all(options: argparse.Namespace) -> dict[tuple[str, int], Figures]:
    """The medians of each server with each number of workers."""
    rows: dict[tuple[str, int], list[Figures]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder, target, script = write_case(options.case, Path(temporary))
        for _ in range(options.rounds):
            for name, workers in itertools.product(options.servers, options.workers):
                figures = measure(
                    name, workers, folder, target, script, options.seconds, options.case
                )
                rows.setdefault((name, workers), []).append(figures)
    return {key: median_of(all_) for key, all_ in rows.items()}


def median_of(rounds: list[Figures]) -> Figures:
    """Of each figure by itself."""
    return Figures(
        *(
            statistics.median(getattr(figures, field.name) for figures in rounds)
            for field in dataclasses.fields(Figures)
        )
    )


def show(medians: dict[tuple[str, int], Figures]) -> None:
    """As a table."""
    print(
        "server               requests/s  per CPU-s  p50 ms  p99 ms  private MB  PSS MB"
        "  errors"
    )
    for (name, n), f in medians.items():
        print(
            f"{name:16} x {n} {f.requests_per_s:11.0f} {f.requests_per_cpu_s:10.0f}"
            f" {f.p50_ms:7.2f} {f.p99_ms:7.2f} {f.private_mb:11.1f}"
            f" {f.proportional_mb:7.1f} {f.errors:7.0f}"
        )


def main() -> None:
    options = options_given()
    programs = {"h2": ["h2load"], "websocket": list[str]()}.get(options.case, ["wrk"])
    need(modules_of(options.servers) + MODULES.get(options.case, []), programs)
    medians = measure_all(options)
    if options.json:
        rows = [
            {"server": name, "workers": n, **dataclasses.asdict(figures)}
            for (name, n), figures in medians.items()
        ]
        print(json.dumps(rows, indent=2))
        return
    print(f"{options.case}: medians of {options.rounds} rounds of {options.seconds} s")
    show(medians)


if __name__ == "__main__":
    main()
