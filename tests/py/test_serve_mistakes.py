"""What is wrong is told in a line that names the way out, and nothing is harmed."""

import re
import signal
import socket
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, run
from typing import Any

import pytest
from click import BadParameter
from serving import COMMAND, DEADLINE_S, Server, serving

import atoll
from atoll.cli.serve import serve

FILES = {
    "ok.py": "async def app(scope, receive, send): assert 0",
    "no_python.py": "def app(:",
    "not_callable.py": "app = 42",
    "fails.py": "def make(): raise ValueError('no database')\napp = make()",
    "factory.py": "def make(config=None): assert 0",
    "needs.py": "import no_such_module_anywhere",
    "text.pem": "no certificate",
    "project/__init__.py": "",
    "project/asgi.py": "application = None",
    "typo.toml": "[serve]\nwokers = 2",
    "bytes.env": "\xff\xfe",
}

MISTAKES = {
    "a file for a module": (["ok.py:app"], r"ok\.py is a file: write ok:app"),
    "a path": (["./ok.py:app"], r"\./ok\.py is a file: write ok:app"),
    "a path elsewhere": (["d/ok.py:app"], "write --app-dir d ok:app"),
    "no module": (["nosuch:app"], "no module named 'nosuch' in "),
    "no attribute": (["ok:ap"], "has no 'ap'; did you mean 'ok:app'"),
    "a project": (["project"], "did you mean 'project.asgi:application'"),
    "a factory": (["factory:make"], "needs no arguments: .* --factory"),
    "no application": (["not_callable:app"], "not callable: int"),
    "a host": (["ok:app", "--host", "no.such.host.invalid"], "cannot listen on no"),
    "a folder": (["ok:app", "--uds", "nosuch/socket"], "No such file or directory"),
    "a control port": (
        ["ok:app", "--control-bind", "127.0.0.1:99999"],
        "a port is at most 65535",
    ),
    "no certificate": (
        ["ok:app", "--ssl-certfile", "nosuch.pem"],
        "cannot use the certificate nosuch.pem: No such file",
    ),
    "another file": (
        ["ok:app", "--ssl-certfile", "text.pem"],
        "text.pem: there is none in PEM format in it",
    ),
    "a key alone": (["ok:app", "--ssl-keyfile", "text.pem"], "needs its certificate"),
    "a key of a file": (
        ["ok:app", "--config", "typo.toml"],
        "no option 'wokers'; did you mean 'workers'",
    ),
    "no text": (["ok:app", "--env-file", "bytes.env"], "bytes.env is no text"),
    "too many": (["ok:app", "--limit-headers", "1000"], "from 1 to 128, not 1000"),
}


def write_files(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="latin-1")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_command_line(tmp_path: Path, mistake: str) -> None:
    options, told = MISTAKES[mistake]
    write_files(tmp_path)
    done = run(
        [sys.executable, "-c", COMMAND, "serve", *options, "--port", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode in (1, 2)
    assert re.search(told, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Usage")]
    assert len(lines) <= 3, done.stderr


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize(
    ("app", "last"),
    [
        ("no_python:app", "SyntaxError: "),
        ("fails:app", "ValueError: no database"),
        ("needs:app", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    ],
)
def test_errors_of_the_application_have_its_frames_only(
    tmp_path: Path, app: str, last: str, options: tuple[str, ...]
) -> None:
    write_files(tmp_path)
    server = Server(tmp_path, *options, app=app)
    assert server.wait() == 1
    assert server.lines[-1].startswith(last), server.log
    assert "importlib" not in server.log
    assert "_server" not in server.log


def test_a_socket_takes_the_place_of_a_dead_one_alone(tmp_path: Path) -> None:
    """A file is never removed, nor the socket of a server that runs."""
    write_files(tmp_path)
    before = (tmp_path / "ok.py").read_text()
    server = Server(tmp_path, "--uds", "ok.py", app="ok:app")
    assert server.wait() == 1
    assert "cannot listen on ok.py: Address already in use" in server.log
    assert (tmp_path / "ok.py").read_text() == before
    first = Server(tmp_path, "--uds", "socket", app="ok:app")
    first.wait_for("listening on unix:socket")
    second = Server(tmp_path, "--uds", "socket", app="ok:app")
    assert second.wait() == 1
    assert "Address already in use" in second.log
    first.kill()
    assert (tmp_path / "socket").is_socket()
    third = Server(tmp_path, "--uds", "socket", app="ok:app")
    third.wait_for("listening on unix:socket")
    assert third.stop() == 0


@pytest.mark.parametrize("model", ["interpreters", "processes"])
def test_one_that_does_not_start_takes_its_own_names_away_alone(
    tmp_path: Path, model: str
) -> None:
    write_files(tmp_path)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "taken"))
        taken.listen()
        options = ("--model", model, "--uds", "taken", "--control-bind", "unix:control")
        server = Server(tmp_path, *options, app="ok:app")
        assert server.wait() == 1
        assert "Address already in use" in server.log
        assert (tmp_path / "taken").exists()
        assert not (tmp_path / "control").exists()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    write_files(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(tmp_path, "--port", str(port), app="ok:app")
        assert server.wait() == 1
        assert f"port {port}: Address already in use; choose another" in server.log


@pytest.mark.parametrize(
    ("setting", "error", "told"),
    [
        ({"port": 99999}, ValueError, "port must be from 0 to 65535, not 99999"),
        ({"port": -1}, ValueError, "port must be from 0"),
        ({"port": "80"}, TypeError, "port must be an integer, not '80'"),
        ({"workers": 0}, ValueError, "workers must be from 1 to 256"),
        ({"workers": True}, TypeError, "workers must be an integer"),
        ({"timeout_drain": -0.1}, ValueError, "timeout_drain must be at least 0"),
        ({"timeout_drain": float("nan")}, ValueError, "timeout_drain must be at least"),
        ({"timeout_drain": "1"}, TypeError, "timeout_drain must be a number"),
        ({"timeout_drain": 10**400}, ValueError, "timeout_drain is too large"),
        ({"host": None}, TypeError, "host must be a string"),
        ({"model": "proc"}, ValueError, "model must be 'auto', .* not 'proc'"),
        ({"log_level": "loud"}, ValueError, "log_level must be 'debug', "),
        ({"host": 1}, TypeError, "host must be a string"),
        ({"reload": 1}, TypeError, "reload must be True or False"),
        ({"static": "/a=b"}, TypeError, "static must be several strings"),
        ({"wokers": 2}, TypeError, "no setting 'wokers'; did you mean 'workers'"),
    ],
)
def test_a_wrong_setting(
    setting: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        atoll.Server("main:app", **setting)


def test_settings_that_mean_the_same() -> None:
    server = atoll.Server(
        "main:app", log_level="INFO", app_dir=Path("/srv"), timeout_drain=5
    )
    assert server.settings.log_level == "info"
    assert server.settings.app_dir == "/srv"
    assert isinstance(server.settings.timeout_drain, float)
    for given, meant in (
        ("warn", "warning"),
        ("FATAL", "critical"),
        ("trace", "debug"),
    ):
        assert atoll.Server("main:app", log_level=given).settings.log_level == meant
    server = atoll.Server("main:app", uds=None, ssl_ca_certs=None)
    assert (server.settings.uds, server.settings.ssl_ca_certs) == ("", "")
    assert atoll.Server("main:app", reload_dirs=["a"]).settings.reload_dirs == ("a",)


def test_preload_is_for_run_and_says_so() -> None:
    server = atoll.Server("main:app", preload=True, port=0)
    with pytest.raises(RuntimeError, match=r"preload needs run\(\).*model='processes'"):
        server.start()


# ---- lifespans that raise ----

RAISES = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        {before}
        raise RuntimeError("cannot reach the database")
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"served"}})
"""


def test_an_application_without_a_lifespan_is_nothing_to_tell(tmp_path: Path) -> None:
    with serving(tmp_path, RAISES.format(before="pass")) as server:
        assert server.connect().get()[2] == b"served"
    assert "lifespan" not in server.log


def test_one_that_raises_after_it_was_told_to_start_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, RAISES.format(before="await receive()")) as server:
        assert server.connect().get()[2] == b"served"
    told = server.log.partition("listening on")[0]
    assert "WARNING the application raised in its lifespan's startup" in told
    assert "RuntimeError: cannot reach the database" in told
    assert "lifespan.py" not in told


def test_with_lifespan_on_it_does_not_start(tmp_path: Path) -> None:
    source = RAISES.format(before="await receive()")
    (tmp_path / "main.py").write_text(source)
    server = Server(tmp_path, "--lifespan", "on")
    assert server.wait() == 1
    assert "RuntimeError: cannot reach the database" in server.log


def test_a_lifespan_that_ends_early_is_told(tmp_path: Path) -> None:
    before = "await receive(); await send({{'type': 'lifespan.startup.complete'}})"
    with serving(tmp_path, RAISES.format(before=before.format())) as server:
        server.wait_for("ERROR the application's lifespan ended early")
        assert server.connect().get()[2] == b"served"


# ---- ends before the beginning ----

STARTS = {
    "import": "import time\nopen('begun', 'w').close()\ntime.sleep(3600)",
    "lifespan": """
import asyncio
async def app(scope, receive, send):
    await receive()
    open('begun', 'w').close()
    await asyncio.sleep(3600)
""",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    "options",
    [(), ("--model", "processes", "--workers", "2"), ("--preload",)],
    ids=["interpreter", "processes", "preload"],
)
def test_a_signal_while_it_starts(
    tmp_path: Path, options: tuple[str, ...], start: str, number: int
) -> None:
    (tmp_path / "main.py").write_text(STARTS[start])
    command = [sys.executable, "-c", COMMAND, "serve", "main:app", "--port", "0"]
    process = Popen([*command, *options], cwd=tmp_path, stderr=PIPE, stdout=DEVNULL)
    try:
        end = time.monotonic() + DEADLINE_S
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, told = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert b"main:app had not started yet" in told
    assert b"Traceback" not in told


def test_levels_on_the_command_line() -> None:
    """Those of uvicorn, and `logging`'s own aliases."""
    level = next(one for one in serve.params if one.name == "log_level")
    for text in ("critical", "error", "warning", "info", "debug", "trace", "Warn"):
        assert level.type.convert(text, level, None) == text.lower()
    with pytest.raises(BadParameter, match="'trace'"):
        level.type.convert("loud", level, None)
