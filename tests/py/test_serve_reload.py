"""New workers in place of old ones: nobody loses a connection or a request."""

import resource
import signal
import threading
import time
from pathlib import Path

import pytest
from serving import DEADLINE_S, Raw, Server, serving

import atoll

APP = """
import asyncio
VERSION = "{version}"
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    if scope["path"] == "/slow":
        await asyncio.sleep(0.05)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": VERSION.encode()}})
"""


def write(folder: Path, version: str) -> None:
    (folder / "main.py").write_text(APP.format(version=version))


def wait_for_version(raw: Raw, version: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (status := raw.get())[2] != version.encode():
        assert status[0] == 200
        assert time.monotonic() < deadline, f"still {status[2]!r}"
        time.sleep(0.02)


class Client(threading.Thread):
    """Asks on one connection until it is told to stop; the connection must last."""

    def __init__(self, server: Server, path: str) -> None:
        super().__init__()
        self.raw = server.connect()
        self.path = path
        self.halt = threading.Event()
        self.answers: list[bytes] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.halt.is_set():
                status, headers, body = self.raw.get(self.path)
                assert status == 200
                assert headers.get("connection") != "close"
                self.answers.append(body)
                time.sleep(0.002)
        except BaseException as error:
            self.error = error
        finally:
            self.raw.socket.close()


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        (("--workers", "1"), 1),
        (("--workers", "2", "--model", "interpreters"), 2),
        (("--workers", "2", "--model", "threads"), 1),
        (("--workers", "1", "--model", "processes"), 1),
        (("--workers", "2", "--model", "processes"), 2),
        (("--workers", "2", "--preload"), 2),
        (("--processes", "2", "--model", "interpreters", "--workers", "2"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_five_reloads_under_load_lose_nothing(
    tmp_path: Path, options: tuple[str, ...], workers: int
) -> None:
    source = APP.format(version="0")
    with serving(tmp_path, source, *options) as server:
        clients = [Client(server, path) for path in ("/", "/", "/slow", "/slow")]
        for client in clients:
            client.start()
        try:
            for number in range(1, 6):
                write(tmp_path, "x" * number)  # another size: another .pyc
                server.process.send_signal(signal.SIGHUP)
                server.wait_for_count("a new one serves", number * workers)
        finally:
            for client in clients:
                client.halt.set()
            for client in clients:
                client.join(DEADLINE_S)
        for client in clients:
            assert client.error is None, (client.error, server.log)
        with server.connect() as raw:
            wait_for_version(raw, "xxxxx")  # an old one may serve a last time
        seen = {answer for client in clients for answer in client.answers}
        assert len(seen) > 1


def test_an_idle_connection_moves_over(tmp_path: Path) -> None:
    with (
        serving(tmp_path, APP.format(version="old")) as server,
        server.connect() as raw,
    ):
        assert raw.get()[2] == b"old"
        write(tmp_path, "newer")
        server.process.send_signal(signal.SIGHUP)
        wait_for_version(raw, "newer")


def test_an_application_that_does_not_start_leaves_the_old_one(tmp_path: Path) -> None:
    with serving(tmp_path, APP.format(version="old"), "--workers", "2") as server:
        server.wait_for("all 2 workers serve")
        (tmp_path / "main.py").write_text("import no_such_module_anywhere\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("the old workers go on: main:app does not start any more")
        server.wait_for("no_such_module_anywhere")
        with server.connect() as raw:
            assert raw.get()[2] == b"old"
            write(tmp_path, "repaired")
            server.process.send_signal(signal.SIGHUP)
            wait_for_version(raw, "repaired")


NEVER_STARTS = """
import time
with open("begun", "w"):
    pass
def wait_for_what_never_comes():
    while True:
        time.sleep(0.01)
wait_for_what_never_comes()
"""


def wait_for_file(path: Path, server: Server) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline, server.log
        assert server.process.poll() is None, server.log
        time.sleep(0.01)


@pytest.mark.parametrize(
    "options",
    [(), ("--model", "processes"), ("--preload",)],
    ids=["interpreters", "processes", "preload"],
)
def test_code_that_never_starts_is_passed_over_for_newer(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    options = (*options, "--stuck-after", "0.5")
    with serving(tmp_path, APP.format(version="old"), *options) as server:
        (tmp_path / "main.py").write_text(NEVER_STARTS)
        server.process.send_signal(signal.SIGHUP)
        wait_for_file(tmp_path / "begun", server)
        server.wait_for("WARNING worker 0 has been starting for ")
        server.wait_for("worker 0 is here:\n")
        server.wait_for("in wait_for_what_never_comes")
        assert "_server/" not in server.log
        with server.connect() as raw:
            assert raw.get()[2] == b"old"
            write(tmp_path, "newer")
            time.sleep(0.5)  # longer than it may start silently
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("worker 0: the new one is passed over")
            wait_for_version(raw, "newer")


NEVER_STARTED = """
import asyncio
async def wait_in_vain():
    with open("begun", "w"):
        pass
    await asyncio.Event().wait()
async def app(scope, receive, send):
    await receive()
    await asyncio.create_task(wait_in_vain())
"""

#: However slow the machine is, who is asked where it is has the time to say so.
PATIENT = """
import sys
from atoll._server import ending, processes, starting
starting.ANSWER_S = processes._PATIENCE_S = 3600.0
if "--preload" not in sys.orig_argv:
    ending.KILL_SUCCESSOR_S = 3600.0
"""


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (NEVER_STARTS, "in wait_for_what_never_comes"),
        (NEVER_STARTED, "in wait_in_vain"),
    ],
    ids=["import", "lifespan"],
)
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--loop", "asyncio"),
        ("--model", "threads", "--workers", "2"),
        ("--model", "processes"),
    ],
    ids=["interpreters", "asyncio", "threads", "processes"],
)
def test_a_stop_does_not_wait_for_code_that_never_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    source: str,
    where: str,
) -> None:
    stop_beside_one_that_starts(tmp_path, monkeypatch, options, source, where)


def test_a_stop_does_not_wait_for_a_template_that_never_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "in wait_for_what_never_comes"
    options = ("--preload",)
    stop_beside_one_that_starts(tmp_path, monkeypatch, options, NEVER_STARTS, where)


def stop_beside_one_that_starts(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    source: str,
    where: str,
) -> None:
    (folder / "sitecustomize.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    options = (*options, "--timeout-drain", "3600")
    with serving(folder, APP.format(version="old"), *options) as server:
        (folder / "main.py").write_text(source)
        server.process.send_signal(signal.SIGHUP)
        wait_for_file(folder / "begun", server)
        assert server.stop() == 0
        told = "ERROR worker 0 has not got to serving: it is waited for no more, and is"
        assert told in server.log
        assert where in server.log.partition(told)[2]
        assert "_server/" not in server.log


@pytest.mark.parametrize(
    "options",
    [(), ("--model", "processes"), ("--preload",)],
    ids=["interpreters", "processes", "preload"],
)
def test_the_old_workers_go_on_where_no_descriptors_are_left(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with (
        serving(tmp_path, APP.format(version="old"), *options) as server,
        server.connect() as raw,
    ):
        assert raw.get()[2] == b"old"
        pid = server.process.pid
        normal = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        # Each step of a start finds that there are none.
        for spare in range(8):
            taken = {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}
            free = [n for n in range(len(taken) + spare + 1) if n not in taken]
            limit = (free[spare], normal[1])
            _ = resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_any_count(
                ("the old workers go on: ", "worker 0: a new one serves"), spare + 1
            )
            assert raw.get()[2] == b"old"
        server.wait_for("the old workers go on: ")
        _ = resource.prlimit(pid, resource.RLIMIT_NOFILE, normal)
        write(tmp_path, "newer")
        server.process.send_signal(signal.SIGHUP)
        wait_for_version(raw, "newer")


def test_a_changed_file_reloads(tmp_path: Path) -> None:
    with (
        serving(tmp_path, APP.format(version="old"), "--reload") as server,
        server.connect() as raw,
    ):
        server.wait_for("watching ")
        write(tmp_path, "newer")
        wait_for_version(raw, "newer")


def test_a_worker_is_replaced_after_its_requests(tmp_path: Path) -> None:
    source = APP.format(version="v")
    with (
        serving(tmp_path, source, "--max-requests", "3") as server,
        server.connect() as raw,
    ):
        for _ in range(3):
            assert raw.get()[2] == b"v"
        server.wait_for("worker 0 has had its time")
        server.wait_for("worker 0: a new one serves")
        assert raw.get()[2] == b"v"


@pytest.mark.parametrize(
    "options",
    [("--model", "processes"), ("--preload",), ("--processes", "1")],
    ids=["processes", "preload", "both"],
)
def test_a_process_is_replaced_after_its_requests(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Its connections go over to the next one."""
    source = APP.format(version="v")
    with (
        serving(tmp_path, source, "--max-requests", "3", *options) as server,
        server.connect() as raw,
    ):
        for _ in range(3):
            assert raw.get()[2] == b"v"
        server.wait_for("has had its time")
        server.wait_for("worker 0: a new one serves")
        # The first of these may still come to the old one.
        end = time.monotonic() + DEADLINE_S
        while server.log.count("a new one serves") < 2:
            assert raw.get()[2] == b"v"
            assert time.monotonic() < end, server.log
            time.sleep(0.01)
    assert " ended" not in server.log


def test_reload_in_code(tmp_path: Path) -> None:
    write(tmp_path, "old")
    with (
        atoll.Server("main:app", port=0, app_dir=str(tmp_path)) as server,
        Raw(server.addresses[0][1]) as raw,
    ):
        assert raw.get()[2] == b"old"
        write(tmp_path, "newer")
        server.reload()
        wait_for_version(raw, "newer")
    with pytest.raises(RuntimeError, match="not running"):
        server.reload()
