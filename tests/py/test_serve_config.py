"""Where `atoll serve` takes its options from: command line, environment, files."""

import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from serving import serving

from atoll.cli import serve, serve_config, serve_foreign


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the supervisor is told, in place of running it."""
    seen: dict[str, Any] = {}

    class Supervisor:
        left_some = False

        def __init__(self, settings: Any, **_: Any) -> None:
            seen.update(settings.to_dict())

        def run(self) -> int:
            return 0

    monkeypatch.setattr(serve, "Supervisor", Supervisor)
    monkeypatch.setattr("faulthandler.enable", lambda: None)  # stderr has no fileno
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ATOLL_") or name == "WEB_CONCURRENCY":
            monkeypatch.delenv(name)
    return seen


def run(*arguments: str) -> Any:
    return CliRunner().invoke(serve.serve, arguments, catch_exceptions=False)


def test_the_command_line_is_stronger_than_the_rest(
    told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.toml").write_text(
        '[serve]\napp = "a:b"\nport = 1\nthreads = 2\ntimeout-drain = 3.5\n'
        "access_log = true\n"
    )
    monkeypatch.setenv("ATOLL_PORT", "2")
    monkeypatch.setenv("ATOLL_THREADS", "5")
    assert run("--config", "a.toml", "--threads", "7").exit_code == 0
    assert told["app"] == "a:b"
    assert told["port"] == 2
    assert told["threads"] == 7
    assert told["timeout_drain"] == 3.5
    assert told["access_log"] is True


def test_pyproject(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.atoll.serve]\nworkers = 3\nhost = "::1"\n'
    )
    assert run("main:app").exit_code == 0
    assert (told["workers"], told["host"], told["app"]) == (3, "::1", "main:app")
    # Its place is taken by a file that is named.
    (tmp_path / "a.toml").write_text("[serve]\nport = 4\n")
    assert run("main:app", "--config", "a.toml").exit_code == 0
    assert (told["workers"], told["port"]) == (1, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serve]\nprot = 1\n", "no option 'prot'; did you mean 'port'?"),
        ("[serve]\nqqqq = 1\n", "no option 'qqqq'"),
        ("[serve\n", "a.toml: "),
        ("[serve]\nport = 'x'\n", "'x' is not a valid integer"),
    ],
)
def test_a_file_that_is_wrong(
    told: dict[str, Any], tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "a.toml").write_text(text)
    result = run("main:app", "--config", "a.toml")
    assert result.exit_code != 0
    assert message in result.output
    assert told == {}


def test_no_such_file(told: dict[str, Any]) -> None:
    result = run("main:app", "--config", "missing.toml")
    assert result.exit_code == 1
    assert "missing.toml: No such file" in result.output


def test_env_file(
    told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Set and unset by monkeypatch, so that nothing of it stays behind.
    for name in ("ATOLL_PORT", "SECRET", "SPACED"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("KEPT", "outer")
    (tmp_path / "env").write_text(
        "# words\nATOLL_PORT=99\nexport SECRET='a # b'\n"
        'SPACED = "x\\ny"  # trailing\nKEPT=inner\n'
    )
    assert run("main:app", "--env-file", "env").exit_code == 0
    assert told["port"] == 99
    assert os.environ["SECRET"] == "a # b"
    assert os.environ["SPACED"] == "x\ny"
    assert os.environ["KEPT"] == "outer"
    with pytest.raises(click.ClickException, match="line 2"):
        serve_config.parse_env("A=1\nwhat is this\n")


@pytest.mark.parametrize("option", sorted(serve_foreign.REFUSED))
def test_options_of_other_servers_that_are_refused(
    told: dict[str, Any], option: str
) -> None:
    result = run("main:app", option, "1")
    assert result.exit_code == 2
    assert serve_foreign.REFUSED[option] in result.output
    assert told == {}


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("-b 127.0.0.1:99 -w 3", {"host": "127.0.0.1", "port": 99, "workers": 3}),
        ("--bind=[::1]:99", {"host": "::1", "port": 99}),
        ("--bind localhost", {"host": "localhost", "port": 8000}),
        ("--bind unix:/run/app.sock", {"uds": "/run/app.sock"}),
        ("--bind fd://3", {"fd": 3}),
        ("-k uvicorn.workers.UvicornWorker", {"interface": "asgi"}),
        ("--worker-class gthread --threads 8", {"interface": "wsgi", "threads": 8}),
        ("--graceful-timeout 7", {"timeout_drain": 7.0}),
        ("--timeout-graceful-shutdown=7", {"timeout_drain": 7.0}),
        ("--limit-max-requests 9", {"max_requests": 9}),
        ("--limit-max-requests-jitter 9", {"max_requests_jitter": 9}),
        ("--http2-max-concurrent-streams 9", {"h2_streams": 9}),
        ("--http httptools --ws auto --use-colors", {}),
        ("--no-sendfile --reuse-port --server-header --date-header", {}),
        ("--preload-app --workers 2", {"preload": True, "workers": 2}),
    ],
)
def test_options_of_other_servers(
    told: dict[str, Any], arguments: str, meant: dict[str, Any]
) -> None:
    result = run("main:app", *arguments.split())
    assert result.exit_code == 0, result.output
    assert {name: told[name] for name in meant} == meant


def test_options_of_other_servers_that_mean_nothing_here(told: dict[str, Any]) -> None:
    for arguments in (("-k", "other.Worker"), ("--ws", "none"), ("--bind",)):
        assert run("main:app", *arguments).exit_code == 2
    assert told == {}


@pytest.mark.parametrize("own", sorted(set(serve_foreign.SAME.values())))
def test_what_is_meant_is_an_option(own: str) -> None:
    assert own in {name for option in serve.serve.params for name in option.opts}


@pytest.mark.parametrize(
    ("arguments", "told_why"),
    [
        ("--model processes --processes 2 --workers 2", "either by workers or by"),
        ("--model threads --preload", "preload is for the processes model"),
    ],
)
def test_models_that_contradict_the_rest(
    told: dict[str, Any], arguments: str, told_why: str
) -> None:
    result = run("main:app", *arguments.split())
    assert result.exit_code == 2
    assert told_why in " ".join(result.output.split())
    assert told == {}


def test_help_has_sections() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for title, _ in serve_config.SECTIONS[:3]:
        assert f"\n{title}:\n" in result.output
    for option in ("--threads", "--config", "--timeout-drain"):
        assert option in result.output.partition("\nOther:\n")[0]


def test_a_server_by_its_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.atoll.serve]\nthreads = 2\n")
    source = """
    def app(environ, start_response):
        start_response("200 OK", [])
        return [str(environ["wsgi.multithread"]).encode()]
    """
    with serving(tmp_path, source) as server, server.connect() as raw:
        assert raw.get()[2] == b"True"
    (tmp_path / "pyproject.toml").write_text("[tool.atoll.serve]\nthreads = 1\n")
    with serving(tmp_path, source) as server, server.connect() as raw:
        assert raw.get()[2] == b"False"


def test_a_port_that_is_none_is_refused() -> None:
    result = CliRunner().invoke(serve.serve, ["main:app", "--port", "99999"])
    assert result.exit_code == 2
    assert "0<=x<=65535" in result.output


def test_each_option_has_a_section_and_help_is_short() -> None:
    help = run("--help").output
    *_, other = help.split("Other:\n")
    assert other.split() == ["-h,", "--help", "Show", "this", "message", "and", "exit."]
    assert '""' not in help
    assert "RANGE" not in help
