"""`atoll bench`: the models of parallel Python side by side, on this machine.

Each contender is measured in a process of its own, by `bench_measure`, which needs no
atoll: other Pythons take part, a free-threaded build above all. `bench_web` has the
servers, `bench_page` the report.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from atoll.cli import bench_measure, bench_web
from atoll.cli.bench_page import page_of, words_about, words_of

__all__ = ["bench", "measure_all"]

type Row = dict[str, float | None]

_TABLE_WIDTH = 110  # below that the numbers would be cut
_WEB = "web requests/s"
_PROGRAM = bench_measure.__file__
# Newest first; "t" is how the command of a free-threaded build is called.
_FREE_THREADED = tuple(f"python3.{minor}t" for minor in range(19, 12, -1))


class Other:
    """Another Python that takes part.

    Args:
        path: Its command.

    Raises:
        click.UsageError: It does not run.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.about: dict[str, Any] = json.loads(_output([path, _PROGRAM, "--list"]))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise click.UsageError(f"{path} cannot take part: {error}") from None

    @property
    def label(self) -> str:
        """What tells its rows from others': 3.14, or 3.14t without a GIL."""
        version = ".".join(self.about["python"].split(".")[:2])
        return version if self.about["gil"] else f"{version}t"


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def free_threaded() -> str | None:
    """A free-threaded Python of this machine, where this one is not: on PATH, or one
    that uv or pyenv installed.
    """
    for name in _FREE_THREADED:
        found = shutil.which(name)
        if found:
            return found
    home = Path.home()
    places = [
        *home.glob(".local/share/uv/python/*freethreaded*/bin/python3"),
        *home.glob(".pyenv/versions/*t/bin/python3"),
    ]
    return str(max(places)) if places else None


def _measure(
    python: str, name: str, workers: int, quick: bool
) -> tuple[Row | None, str]:
    """A contender's row, or None and why there is none."""
    command = [python, _PROGRAM, name, str(workers), *(["quick"] if quick else [])]
    try:
        row: Row = json.loads(_output(command))
        return row, ""
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"ended with {error.returncode}"


def measure_all(workers: int, quick: bool, others: list[Other]) -> dict[str, Any]:
    """Every contender's numbers, and what machine they are of."""
    load = os.getloadavg()[0]
    jobs = [(sys.executable, name, name) for name in bench_measure.contenders()]
    for other in others:
        for name in other.about["contenders"]:
            if name.endswith(("multiprocessing", "processes")):
                continue  # the Python makes no difference there
            jobs.append((other.path, name, f"{name}, {other.label}"))
    rows: dict[str, Row] = {}
    failed: dict[str, str] = {}
    for python, name, label in jobs:
        click.echo(f"{label} …", err=True)
        row, reason = _measure(python, name, workers, quick)
        if row is None:
            failed[label] = reason
            continue
        web = bench_web.measure_web(name, workers, quick, python)
        rows[label] = row | {_WEB: web}
    return {
        "python": platform.python_version(),
        "gil": sys._is_gil_enabled(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.process_cpu_count(),
        "load": load,
        "workers": workers,
        "quick": quick,
        "rows": rows,
        "failed": failed,
    }


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    rows: dict[str, Row] = report["rows"]
    table = Table(title=words_about(report), box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for column in next(iter(rows.values())):
        table.add_column(column, justify="right", max_width=10)
    for name, row in rows.items():
        cells = ["-" if v is None else words_of(v) for v in row.values()]
        table.add_row(name, *cells)
    console = Console()
    console.width = max(console.width, _TABLE_WIDTH)
    console.print(table)
    for name, reason in report["failed"].items():
        click.echo(f"{name} failed: {reason}", err=True)


@click.command()
@click.option("--workers", type=click.IntRange(1), help="Default: the CPUs there are.")
@click.option("--quick", is_flag=True, help="Seconds instead of minutes; rough.")
@click.option(
    "--python",
    "pythons",
    multiple=True,
    metavar="PATH",
    help="Another Python to compare with; may be given again. By default a "
    "free-threaded one, if there is one on PATH, of uv or of pyenv.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", "page", type=click.Path(dir_okay=False), help="Write a report.")
def bench(
    workers: int | None,
    quick: bool,
    pythons: tuple[str, ...],
    as_json: bool,
    page: str | None,
) -> None:
    """Compare interpreters, threads and processes on this machine.

    Start-up, memory, round trips, CPU-bound work on one worker and on all, and a web
    application. The standard library's executors, a free-threaded Python and uvicorn
    take part where they are installed.
    """
    found = free_threaded() if not pythons and sys._is_gil_enabled() else None
    others = [Other(path) for path in (*pythons, *([found] if found else []))]
    report = measure_all(workers or os.process_cpu_count() or 1, quick, others)
    if page is not None:
        Path(page).write_text(page_of(report), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        _print_table(report)
