"""Where `atoll serve` takes its options from, and how it shows them.

The command line is stronger than the environment (`ATOLL_PORT` for `--port`), which is
stronger than a file: `--config FILE`, a TOML file with a `[serve]` table, or else
`[tool.atoll.serve]` in the `pyproject.toml` of the current folder. Keys are the names
of the options with underscores or hyphens, `app` is the application.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

import click

from atoll._server.checking import nearest
from atoll.cli.serve_foreign import translate

#: A section's title and how the names of its options begin; the first that fits.
SECTIONS = (
    (
        "Application",
        ("app", "factory", "interface", "lifespan", "root", "static", "check"),
    ),
    ("Listen", ("host", "port", "uds", "fd", "backlog", "proxy", "forwarded")),
    ("Overload", ("limit_concurrency", "max_connections", "max_queue_delay")),
    ("Workers", ("workers", "threads", "process", "model", "loop", "preload", "max_")),
    ("Reload", ("reload",)),
    ("Workers that are stuck, in seconds", ("stuck_", "request_", "replace_")),
    ("WebSocket", ("ws_",)),
    ("HTTP/2", ("h2_", "http2")),
    ("TLS", ("ssl_", "tls_")),
    ("Timeouts, in seconds (0: none)", ("timeout_",)),
    ("Limits", ("limit_",)),
    ("Health and metrics", ("metrics_", "health_", "ready_", "control_")),
    ("Log", ("log_", "access_")),
    ("Configuration", ("config", "env_file")),
)


class ConfigError(click.ClickException):
    """A file of options that cannot be used; the message names the key."""


class ServeOption(click.Option):
    """An option that is shown shortly: no bounds, and no default that is none."""

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Without bounds; the default only where it says something."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        if self.default in ("", -1):
            extra.pop("default", None)
        return extra


class ServeCommand(click.Command):
    """A command whose options have sections, a file and strangers."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the options of other servers into atoll's words."""
        args = translate(args, [name for option in self.params for name in option.opts])
        if not any(a.partition("=")[0] == "--config" for a in args):
            ctx.default_map = project_defaults(self, Path("pyproject.toml"))
        return super().parse_args(ctx, args)

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the options in sections."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                rows.setdefault(section_of(parameter.name or ""), []).append(record)
        order = [title for title, _ in SECTIONS] + ["Other"]
        for title in sorted(rows, key=order.index):
            with formatter.section(title):
                formatter.write_dl(rows[title])


def section_of(name: str) -> str:
    """The title of the section in which the option is shown."""
    for title, beginnings in SECTIONS:
        if name.startswith(beginnings):
            return title
    return "Other"


def project_defaults(command: click.Command, path: Path) -> dict[str, Any]:
    """Options of `[tool.atoll.serve]`, or none where there is no such file or table."""
    if not path.is_file():
        return {}
    table = _read(path).get("tool", {}).get("atoll", {}).get("serve", {})
    return check_keys(command, table, f"[tool.atoll.serve] of {path}")


def check_keys(
    command: click.Command, table: dict[str, Any], where: str
) -> dict[str, Any]:
    """The table by the names of the command's parameters.

    Raises:
        ConfigError: A key that is no option; it is named with the nearest that is.
    """
    known = {p.name for p in command.params if p.name and p.name not in _NOT_IN_FILES}
    found = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {near!r}?" if near else ""
            raise ConfigError(f"{where}: no option {key!r}{hint}")
        found[name] = value
    return found


_NOT_IN_FILES = {"config", "help", "in_main"}


def read_config(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    """Callback of `--config`: the file's options become defaults."""
    if value is not None:
        table = _read(Path(value)).get("serve", {})
        ctx.default_map = check_keys(ctx.command, table, f"[serve] of {value}")


def read_env_file(_: click.Context, __: click.Parameter, value: str | None) -> None:
    """Callback of `--env-file`: variables that are not set are set from it."""
    if value is None:
        return
    try:
        lines = Path(value).read_text()
    except OSError as error:
        raise ConfigError(f"{value}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{value} is no text: lines of NAME=value") from None
    for name, text in parse_env(lines).items():
        os.environ.setdefault(name, text)


def check_mounts(
    _: click.Context, __: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Callback of `--static`."""
    for mount in value:
        prefix, equals, folder = mount.partition("=")
        if not equals or not prefix.startswith("/"):
            raise click.BadParameter(f"{mount!r} is not of the form '/prefix=folder'")
        if not Path(folder).is_dir():
            raise click.BadParameter(f"{folder!r} is not a folder")
    return value


def parse_env(text: str) -> dict[str, str]:
    """Variables of lines `NAME=value`, `export` and quotes as in a shell.

    Raises:
        ConfigError: A line that is none of that, by its number.
    """
    found = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().removeprefix("export ").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name.isidentifier():
            raise ConfigError(f"line {number} of the env file is not NAME=value")
        if value[:1] in ("'", '"') and value.find(value[0], 1) > 0:
            quote = value[0]
            value = value[1 : value.index(quote, 1)]
            if quote == '"':
                value = value.replace("\\n", "\n").replace("\\t", "\t")
        else:
            value = value.split(" #")[0].rstrip()
        found[name] = value
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
