"""The server against its peers: requests, CPU, latency and memory, in one table.

    python bench/serve.py [--case hello|fastapi] [--rounds 3] [--seconds 3] [--json]
    python bench/serve.py --servers atoll,uvicorn,granian,c --workers 1

Each server runs the same application; wrk sends the same load to each in turn, and the
rounds are interleaved, so that what else the machine does falls on all alike. The
figures are medians over the rounds. Requests for each CPU-second count user and system
time of the server's whole process tree; latency is wrk's; memory is read when the load
is over: private is what would be free again without the server, proportional shares
what is shared (PSS).
"""

import argparse
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HELLO = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain"),
                            (b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
"""
POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"name": "tea", "price": 2.5, "quantity": 3, "tags": ["a", "b"]}'
"""
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "fastapi_app"
TICKS = os.sysconf("SC_CLK_TCK")
BIN = Path(sys.executable).parent

SERVERS = {
    "atoll": "{bin}/atoll serve main:app --port {port} --workers {n} --loop uvloop"
    " --log-level warning",
    "uvicorn": "{bin}/uvicorn main:app --port {port} --workers {n} --loop uvloop"
    " --http httptools --no-access-log --log-level warning",
    "granian": "{bin}/granian --interface asgi main:app --port {port} --workers {n}"
    " --loop uvloop --no-ws --log-level warning",
    # The limit: bench/c/hello.c, compiled beside the application; one thread.
    "c": "./hello {port}",
}


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

    def __init__(self, name: str, workers: int, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = SERVERS[name].format(bin=BIN, port=self.port, n=workers)
        self.process = subprocess.Popen(
            command.split(), cwd=folder, start_new_session=True
        )
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5)
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{command} does not serve") from None
                time.sleep(0.05)
        time.sleep(1.5)  # the other workers

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


def milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(\w+)", text)
    assert match is not None, text
    return float(match[1]) * UNITS[match[2]]


def load(port: int, target: str, script: Path | None, seconds: int) -> dict[str, float]:
    """One run of wrk."""
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "--latency"]
    if script is not None:
        command += ["-s", str(script)]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{target}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {
        "requests": re.search(r"(\d+) requests in", out),
        "rate": re.search(r"Requests/sec:\s+([\d.]+)", out),
        "p50": re.search(r"^ +50%\s+(\S+)", out, re.M),
        "p99": re.search(r"^ +99%\s+(\S+)", out, re.M),
    }
    if not all(found.values()):
        raise SystemExit(f"wrk said:\n{out}")
    errors = sum(
        int(number)
        for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", out)
    )
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", out):
        errors += int(bad[1])
    text = {name: match[1] for name, match in found.items() if match}
    return {
        "requests": float(text["requests"]),
        "rate": float(text["rate"]),
        "p50": milliseconds(text["p50"]),
        "p99": milliseconds(text["p99"]),
        "errors": errors,
    }


def measure(
    name: str,
    workers: int,
    folder: Path,
    target: str,
    script: Path | None,
    seconds: int,
) -> Figures:
    """Start the server, warm it up, load it, stop it."""
    server = Running(name, workers, folder)
    try:
        load(server.port, target, script, 1)
        before = cpu_seconds(server.process.pid)
        got = load(server.port, target, script, seconds)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=["hello", "fastapi"], default="hello")
    parser.add_argument("--servers", default="atoll,uvicorn,granian")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench/serve.py needs wrk: apt-get install wrk")
    with tempfile.TemporaryDirectory() as temporary:
        folder, script, target = Path(temporary), None, "/"
        if options.case == "hello":
            (folder / "main.py").write_text(HELLO)
            build_limit(folder)
        else:
            script, target = folder / "post.lua", "/items"
            script.write_text(POST)
            folder = EXAMPLE
        rows: dict[tuple[str, int], list[Figures]] = {}
        for _ in range(options.rounds):
            for name in options.servers.split(","):
                for workers in map(int, options.workers.split(",")):
                    figures = measure(
                        name, workers, folder, target, script, options.seconds
                    )
                    rows.setdefault((name, workers), []).append(figures)
    medians = {
        key: Figures(
            *(
                statistics.median(getattr(figures, field.name) for figures in all_)
                for field in dataclasses.fields(Figures)
            )
        )
        for key, all_ in rows.items()
    }
    if options.json:
        print(
            json.dumps(
                [
                    {"server": name, "workers": n, **dataclasses.asdict(figures)}
                    for (name, n), figures in medians.items()
                ],
                indent=2,
            )
        )
        return
    print(f"{options.case}: medians of {options.rounds} rounds of {options.seconds} s")
    print(
        "server       requests/s  per CPU-s  p50 ms  p99 ms  private MB  PSS MB  errors"
    )
    for (name, n), f in medians.items():
        print(
            f"{name:8} x {n} {f.requests_per_s:11.0f} {f.requests_per_cpu_s:10.0f}"
            f" {f.p50_ms:7.2f} {f.p99_ms:7.2f} {f.private_mb:11.1f}"
            f" {f.proportional_mb:7.1f} {f.errors:7.0f}"
        )


if __name__ == "__main__":
    main()
