"""`atoll top`: what a process tells of its pools and servers, and to whom."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from waiting import wait_until

import atoll
from atoll import top
from atoll.cli import top as top_command
from atoll.cli.top import _one_line, ask, sockets, tables

DEADLINE = 120


@pytest.fixture
def short_path():
    """A folder with a short name: the path of a Unix socket has 107 bytes at most."""
    folder = tempfile.mkdtemp(prefix="atoll", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.fixture
def listening(short_path, monkeypatch):
    """The socket of this process, in a folder of its own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    # Nobody has to be quick.
    monkeypatch.setattr(top, "_PATIENCE_SECONDS", DEADLINE)
    monkeypatch.setattr(top_command, "_PATIENCE_SECONDS", DEADLINE)
    path = top.listen()
    yield path
    top.close()
    assert not path.exists()


def exchange(path, data, *, end=False):
    """Send bytes as they are; what comes back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(str(path))
        parts = []
        # Who is ended before all was sent has got what there was.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 16):
                parts.append(part)
    return b"".join(parts)


def spin():
    while True:
        pass


# ---- what is told ----


@pytest.mark.parametrize("model", ["interpreters", "threads", "processes"])
def test_a_pool(listening, model):
    name = f"reef-{model}"

    def functions():
        pools = [p for p in ask(listening)["pools"] if p["name"] == name]
        return [worker["function"] for p in pools for worker in p["workers"]]

    pool = atoll.Pool(2, model=model, name=name)
    try:
        pool.submit(spin)
        wait_until(lambda: "spin" in functions())
        told = ask(listening)
    finally:
        pool.shutdown(interrupt=True)
    assert told["process"] == os.getpid()
    (found,) = [p for p in told["pools"] if p["name"] == f"reef-{model}"]
    assert found["model"] == model and found["unfinished"] == 1
    busy, idle = sorted(found["workers"], key=lambda w: w["task"] == 0)
    assert busy["function"] == "spin" and busy["task"] == 1 and busy["seconds"] > 0
    assert idle["function"] is None and idle["task"] == 0
    if model == "interpreters":
        assert busy["interpreter"] != idle["interpreter"]
    else:
        assert busy["cpu_seconds"] >= 0
    if model != "threads":
        assert idle["resident_bytes"] is None or idle["resident_bytes"] > 1_000_000
    assert sum(w["tasks"] for w in pool.stats()["workers"]) == 1
    names = [p["name"] for p in ask(listening)["pools"]]
    assert f"reef-{model}" not in names


def test_the_share_of_the_gil(listening):
    with atoll.Interpreter() as busy, atoll.Interpreter() as idle:
        told = {"workers": [{"interpreter": i.id} for i in (busy, idle)]}
        inside = atoll.Event()
        future = busy.submit(exec, "inside.set()\nwhile True: pass", {"inside": inside})
        forget = top.register("ones", lambda: told)
        try:
            assert inside.wait(DEADLINE)
            (one,) = ask(listening)["ones"]
        finally:
            forget()
            busy.interrupt()
            assert isinstance(future.exception(DEADLINE), KeyboardInterrupt)
    shares = [worker["gil"] for worker in one["workers"]]
    if "t" not in sys.abiflags:
        assert shares[0] > 0 and shares[1] == 0
    else:
        assert shares == [None, None]


def test_a_server(listening, short_path):
    (short_path / "top_served.py").write_text(
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 204})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    server = atoll.Server(
        "top_served:app", app_dir=str(short_path), port=0, workers=2, loop="asyncio"
    )
    with server:
        wait_until(lambda: len(server.stats()["workers"]) == 2)
        wait_until(lambda: all(w["thread"] for w in server.stats()["workers"]))
        told = ask(listening)
        (found,) = told["servers"]
        assert [w["worker"] for w in found["workers"]] == [0, 1]
        assert all(w["cpu_seconds"] is not None for w in found["workers"])
        assert told["gil"] is None or all(0 <= w["gil"] <= 1 for w in found["workers"])
        ((title, columns, rows),) = [
            table for table in tables(told, told) if table[0].startswith("server")
        ]
        assert "restarts none" in title
        assert len(rows) == 2 and all(len(row) == len(columns) for row in rows)
    assert ask(listening)["servers"] == []


def test_something_of_ones_own(listening):
    forget = top.register("boats", lambda: {"name": "Nina", "workers": []})
    assert ask(listening)["boats"] == [{"name": "Nina", "workers": []}]
    forget()
    assert "boats" not in ask(listening)
    forget()

    def sink():
        raise LookupError("no water")

    forget = top.register("boats", sink)
    with pytest.raises(ValueError, match="LookupError: no water"):
        ask(listening)
    forget()
    assert ask(listening)["process"] == os.getpid()


# ---- the socket ----


def test_who_may_connect(listening, short_path):
    assert listening == short_path / "atoll" / f"{os.getpid()}.sock"
    assert stat.S_IMODE(listening.stat().st_mode) == 0o600
    assert stat.S_IMODE(listening.parent.stat().st_mode) == 0o700
    assert sockets() == {os.getpid(): listening}
    assert top.listen() == listening  # it is open
    with pytest.raises(RuntimeError, match="already"):
        top.listen(short_path / "other")


def test_what_it_reads(listening):
    assert json.loads(exchange(listening, b"stats\n"))["version"] == 1
    for data in (b"\n", b"stats \n", b"GET / HTTP/1.1\r\n", b"\xff" * 63 + b"\n"):
        assert "only request" in json.loads(exchange(listening, data))["error"]
    assert exchange(listening, b"x" * 64) == b""  # too long
    assert exchange(listening, b"stats", end=True) == b""
    assert exchange(listening, b"", end=True) == b""


def test_a_client_that_sends_nothing(listening, monkeypatch):
    monkeypatch.setattr(top, "_PATIENCE_SECONDS", 0.1)
    assert exchange(listening, b"") == b""
    assert exchange(listening, b"sta") == b""
    monkeypatch.setattr(top, "_PATIENCE_SECONDS", DEADLINE)
    assert exchange(listening, b"stats\n")


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_that_is_open_to_others(short_path, monkeypatch, mode):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    (short_path / "atoll").mkdir()
    (short_path / "atoll").chmod(mode)
    with pytest.raises(PermissionError):
        top.listen()


def test_a_folder_that_is_a_link(short_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    (short_path / "there").mkdir(0o700)
    (short_path / "atoll").symlink_to(short_path / "there")
    with pytest.raises(PermissionError):
        top.listen()


def test_only_the_main_interpreter():
    with atoll.Interpreter() as one, pytest.raises(RuntimeError, match="main"):
        one.call(top.listen)


# ---- processes ----

CHILD = """
import atoll, atoll.top, sys
atoll.top._PATIENCE_SECONDS = 120
pool = atoll.Pool(1, model="threads", name="child")
print("ready", flush=True)
sys.stdin.read()
"""


def child(path):
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env={**os.environ, "ATOLL_TOP": str(path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_environment_and_what_a_killed_process_leaves(short_path):
    path = short_path / "s"
    first = child(path)
    assert ask(path)["process"] == first.pid
    second = child(path)  # does not take it from one that lives
    assert ask(path)["process"] == first.pid
    _, errors = second.communicate("", timeout=DEADLINE)
    assert second.returncode == 0 and "RuntimeWarning: ATOLL_TOP" in errors
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=DEADLINE)
    assert path.is_socket()
    with pytest.raises(OSError):
        ask(path)
    third = child(path)
    assert ask(path)["process"] == third.pid
    _, errors = third.communicate("", timeout=DEADLINE)
    assert third.returncode == 0 and errors == "" and not path.exists()


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", "from atoll.cli import main; main()", "top", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def test_the_command(listening):
    with atoll.Pool(1, name="shown [b]here[/b]") as pool:
        pool.submit(abs, -1).result(DEADLINE)
        by_number = command(str(os.getpid()), "--json")
        assert json.loads(by_number.stdout)["process"] == os.getpid(), by_number.stderr
        once = command("--once", "--interval", "0.2")  # there is no other
        assert "shown [b]here[/b]" in once.stdout, once.stderr
        assert "Traceback" not in once.stderr
        by_path = command(str(listening), "--json")
        assert json.loads(by_path.stdout)["process"] == os.getpid()


def test_the_command_where_nobody_listens(short_path):
    folder = str(short_path)
    none = command(XDG_RUNTIME_DIR=folder)
    assert none.returncode == 1 and "ATOLL_TOP=1" in none.stderr
    absent = command("1", XDG_RUNTIME_DIR=folder)
    assert absent.returncode == 1 and "does not listen" in absent.stderr
    gone = command(folder + "/gone", XDG_RUNTIME_DIR=folder)
    assert gone.returncode == 1 and "gone is neither" in gone.stderr


def test_a_command_line_is_one_line_however_it_is_written():
    assert _one_line("python -c \nimport time\n  # lines") == (
        "python -c import time # lines"
    )


def test_the_live_screen(listening):
    """On a terminal: it draws, and Ctrl-C ends it."""
    import pty

    screen, terminal = pty.openpty()
    with atoll.Pool(1, name="live-pool"):
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from atoll.cli import main; main()"),
                *("top", "--interval", "0.2"),
            ],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        )
        os.close(terminal)
        seen = b""
        while seen.count(b"live-pool") < 2:  # it draws again
            seen += os.read(screen, 1 << 16)
        process.send_signal(signal.SIGINT)
        try:
            while os.read(screen, 1 << 16):
                pass
        except OSError:  # its end is closed
            pass
        assert process.wait(DEADLINE) == 0
    os.close(screen)
