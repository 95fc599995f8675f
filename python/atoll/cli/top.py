"""`atoll top`: what the workers of a running process do, live."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from atoll import top as _top

__all__ = ["ask", "sockets", "tables", "top"]

_ANSWER_BYTES = 64 << 20
_PATIENCE_SECONDS = 10.0


# ---- asking ----------------------------------------------------------------------


def sockets() -> dict[int, Path]:
    """The processes of this user that listen: process to socket."""
    found = {}
    for path in sorted(_top.folder().glob("*.sock")):
        if path.stem.isdecimal() and Path(f"/proc/{path.stem}").exists():
            found[int(path.stem)] = path
    return found


def ask(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the process at the other end of a socket tells.

    Raises:
        OSError: Nobody is there.
        ValueError: What came is no answer.
    """
    data = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        connection.connect(os.fspath(path))
        connection.sendall(b"stats\n")
        while part := connection.recv(1 << 16):
            data += part
            if len(data) > _ANSWER_BYTES:
                raise ValueError("the answer does not end")
    if not data:
        raise ConnectionError("the process has ended, or does not answer this user")
    answer = json.loads(data)
    if not isinstance(answer, dict) or answer.get("version") != _top.VERSION:
        raise ValueError("that was no answer of this version of atoll")
    if "error" in answer:
        raise ValueError(str(answer["error"]))
    return answer


def _chosen(which: str | None) -> Path:
    if which is not None and not which.isdecimal():
        path = Path(which)
        if not path.is_socket():
            raise click.ClickException(f"{which} is neither a process nor a socket")
        return path
    found = sockets()
    if which is not None:
        if int(which) not in found:
            raise click.ClickException(
                f"process {which} does not listen: start it with ATOLL_TOP=1, or call "
                "atoll.top.listen() in it"
            )
        return found[int(which)]
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise click.ClickException(
            "no process listens: start one with ATOLL_TOP=1, or call "
            "atoll.top.listen() in it"
        )
    lines = [f"  {process}  {_command_of(process)}" for process in found]
    raise click.ClickException("say which process:\n" + "\n".join(lines))


def _command_of(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return _one_line(b"\n".join(words).decode(errors="replace"))[:80]


def _one_line(command: str) -> str:
    """Programs that were given with -c have lines."""
    return " ".join(command.split())


# ---- showing ---------------------------------------------------------------------


def _bytes(count: object) -> str:
    return f"{count / 1e6:.1f} MB" if isinstance(count, int | float) else ""


def _share(worker: dict[str, Any], earlier: dict[str, Any], seconds: float) -> str:
    """Of the GIL where that is known, else of a CPU since the look before."""
    if isinstance(worker.get("gil"), float):
        return f"{worker['gil']:.0%}"
    now, before = worker.get("cpu_seconds"), earlier.get("cpu_seconds")
    if now is None or before is None or seconds <= 0:
        return ""
    return f"{max(0.0, now - before) / seconds:.0%} CPU"


def _rate(now: dict[str, Any], before: dict[str, Any], key: str, seconds: float) -> str:
    if seconds <= 0 or key not in now or key not in before:
        return ""
    return f"{max(0, now[key] - before[key]) / seconds:,.0f}"


def _place(worker: dict[str, Any]) -> str:
    for kind in ("interpreter", "process", "thread"):
        if worker.get(kind):
            return f"{kind} {worker[kind]}"
    return ""


def _pool_row(
    worker: dict[str, Any], before: dict[str, Any], seconds: float
) -> list[str]:
    task = worker["task"]
    return [
        str(worker["worker"]),
        _place(worker),
        f"{worker['function'] or 'task'} #{task}" if task else "-",
        f"{worker['seconds']:.1f} s" if task else "",
        _share(worker, before, seconds),
        _bytes(worker["resident_bytes"]),
        _rate(worker, before, "tasks", seconds),
        str(worker["restarts"]),
    ]


def _server_row(
    worker: dict[str, Any], before: dict[str, Any], seconds: float
) -> list[str]:
    stuck = worker.get("stuck") or 0.0
    return [
        str(worker.get("worker", "")),
        _place(worker),
        str(worker.get("state", "")) + (f", stuck for {stuck:.1f} s" if stuck else ""),
        str(worker.get("running", "")),
        str(worker.get("connections", "")),
        _share(worker, before, seconds),
        _bytes(worker.get("memory_bytes") or worker.get("resident_bytes")),
        _rate(worker, before, "requests", seconds),
    ]


_POOL_COLUMNS = [
    "worker",
    "where",
    "does",
    "for",
    "GIL",
    "memory",
    "tasks/s",
    "restarts",
]
_SERVER_COLUMNS = [
    *("worker", "where", "does", "requests", "connections"),
    *("GIL", "memory", "requests/s"),
]


def _rows(
    thing: dict[str, Any], before: dict[str, Any], seconds: float, row: Any
) -> list[list[str]]:
    earlier = before.get("workers", [])
    return [
        row(worker, earlier[i] if i < len(earlier) else {}, seconds)
        for i, worker in enumerate(thing.get("workers", []))
    ]


def _pairs(
    now: dict[str, Any], before: dict[str, Any], kind: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    earlier = {
        thing.get("pool", i): thing for i, thing in enumerate(before.get(kind, []))
    }
    for i, thing in enumerate(now.get(kind, [])):
        yield thing, earlier.get(thing.get("pool", i), {})


def tables(
    now: dict[str, Any], before: dict[str, Any]
) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of each pool and server.

    Args:
        now: What the process told.
        before: What it told at the look before, for rates; or {}.
    """
    seconds = now["time"] - before.get("time", now["time"])
    for pool, earlier in _pairs(now, before, "pools"):
        title = (
            f"pool {pool['name']} of {pool['model']}: {pool['queued']} queued, "
            f"{pool['unfinished']} unfinished, {pool['restarts']} restarts"
        )
        yield title, _POOL_COLUMNS, _rows(pool, earlier, seconds, _pool_row)
    for server, earlier in _pairs(now, before, "servers"):
        restarts = server.get("restarts") or {}
        text = ", ".join(f"{count} {why}" for why, count in restarts.items() if count)
        title = f"server, up {server.get('uptime', 0):.0f} s: restarts {text or 'none'}"
        yield title, _SERVER_COLUMNS, _rows(server, earlier, seconds, _server_row)


def _screen(now: dict[str, Any], before: dict[str, Any]) -> Any:
    from rich import box
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    gil = now.get("gil")
    head = (
        f"process {now['process']}  CPython {now['python']}  up {now['uptime']:.0f} s  "
        f"{_bytes(now['memory_bytes'])}"
        + (f"  main's GIL {gil:.0%}" if gil is not None else "")
        + f"\n{_one_line(' '.join(now['command']))}"
    )
    parts: list[Any] = [Text(head, overflow="ellipsis")]
    for title, columns, rows in tables(now, before):
        table = Table(
            title=escape(title),
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for column in columns:
            table.add_column(column, no_wrap=True)
        for row in rows:
            table.add_row(*map(escape, row))
        parts.append(table)
    if len(parts) == 1:
        parts.append(Text("no pool and no server"))
    return Group(*parts)


def _look(path: Path) -> dict[str, Any]:
    try:
        return ask(path)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path}: {error}") from error


@click.command()
@click.argument("process", required=False)
@click.option("--json", "as_json", is_flag=True, help="What it tells, once, as JSON.")
@click.option("--once", is_flag=True, help="One look, and not the whole screen.")
@click.option(
    "--interval", type=click.FloatRange(0.2), default=1.0, help="Seconds between looks."
)
def top(process: str | None, as_json: bool, once: bool, interval: float) -> None:
    """Show what each worker of a running pool or server does.

    PROCESS is a process's number, or the path of a socket; not needed where one process
    listens. A process listens when it was started with ATOLL_TOP=1 in the environment,
    or calls atoll.top.listen().
    """
    path = _chosen(process)
    now = _look(path)
    if as_json:
        click.echo(json.dumps(now, indent=1))
        return
    from rich.console import Console
    from rich.live import Live

    if once:
        time.sleep(interval)  # rates need two looks
        console = Console()
        if not console.is_terminal:
            console = Console(width=160)
        console.print(_screen(_look(path), now))
        return
    with Live(_screen(now, {}), screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(interval)
                before, now = now, _look(path)
                live.update(_screen(now, before), refresh=True)
        except KeyboardInterrupt:
            pass
