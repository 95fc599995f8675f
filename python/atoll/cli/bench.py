"""`atoll bench`: the models of parallel Python side by side, on this machine.

Each contender runs the same tasks through the interface of an executor. Memory is the
proportional set size (Pss) of this process and its children, so that what processes
share is counted once.
"""

import concurrent.futures as cf
import html
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import atoll

__all__ = ["bench", "measure_all", "svg_bars"]

type Row = dict[str, float]


def burn(count: int) -> int:
    """Keep a CPU busy."""
    total = 0
    for i in range(count):
        total += i * i
    return total


def echo(value: Any) -> Any:
    """Send it back."""
    return value


def contenders() -> dict[str, Callable[[int], cf.Executor]]:
    """Executors by name, each made for a number of workers."""
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, Callable[[int], cf.Executor]] = {
        "atoll interpreters": lambda n: atoll.Pool(n, model="interpreters"),
        "atoll threads": lambda n: atoll.Pool(n, model="threads"),
        "atoll processes": lambda n: atoll.Pool(n, model="processes"),
        "threads": cf.ThreadPoolExecutor,
        "multiprocessing": lambda n: cf.ProcessPoolExecutor(n, mp_context=spawn),
    }
    standard = getattr(cf, "InterpreterPoolExecutor", None)
    if standard is not None:
        found["interpreters"] = standard
    return found


def _children() -> list[int]:
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        try:
            found += map(int, (thread / "children").read_text().split())
        except OSError:
            pass
    return found


def memory_mb() -> float:
    """Pss of this process and its children in MB."""
    total = 0
    for process in [os.getpid(), *_children()]:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1])
            for line in text.splitlines()
            if line.startswith("Pss:")
        )
    return total / 1e3


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _round_trip(pool: cf.Executor, value: object, rounds: int) -> float:
    """Microseconds there and back, the median."""
    trips = [_seconds(lambda: pool.submit(echo, value).result()) for _ in range(rounds)]
    return statistics.median(trips) * 1e6


def _run_all(pool: cf.Executor, tasks: int, count: int) -> None:
    for future in [pool.submit(burn, count) for _ in range(tasks)]:
        future.result()


def measure(make: Callable[[int], cf.Executor], workers: int, quick: bool) -> Row:
    """The numbers of one contender."""
    rounds = 20 if quick else 300
    count = 20_000 if quick else 500_000
    repeats = 1 if quick else 3
    row: Row = {}
    for number in sorted({1, workers}):
        before = memory_mb()
        began = time.perf_counter()
        with make(number) as pool:
            pool.submit(echo, 1).result()
            row["start-up ms"] = (time.perf_counter() - began) * 1e3
            _run_all(pool, 4 * number, 1000)  # every worker is up
            row["memory per worker MB"] = (memory_mb() - before) / number
            if number == 1:
                row["round trip µs"] = _round_trip(pool, 1, rounds)
                row["round trip of 1 MB µs"] = _round_trip(
                    pool, bytes(1 << 20), max(3, rounds // 10)
                )
            taken = [
                _seconds(lambda p=pool: _run_all(p, 4 * workers, count))  # type: ignore[misc]
                for _ in range(repeats)
            ]
        seconds = statistics.median(taken)
        if number == 1:
            alone = seconds
        row[f"speed-up of {number}"] = alone / seconds
    return row


def measure_all(workers: int, quick: bool) -> dict[str, Any]:
    """Every contender's numbers, and what machine they are of."""
    rows = {}
    for name, make in contenders().items():
        click.echo(f"{name} …", err=True)
        rows[name] = measure(make, workers, quick)
    return {
        "python": platform.python_version(),
        "gil": sys._is_gil_enabled(),
        "cpus": os.process_cpu_count(),
        "load": os.getloadavg()[0],
        "workers": workers,
        "rows": rows,
    }


def svg_bars(title: str, values: dict[str, float]) -> str:
    """A plot of horizontal bars, one for each of `values`."""
    largest = max([*values.values(), 1e-9])
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y = 30 + 26 * number
        width = max(1.0, 360 * max(value, 0.0) / largest)
        parts.append(
            f'<text x="150" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="158" y="{y}" width="{width:.1f}" height="18" fill="#37b"/>'
            f'<text x="{164 + width:.1f}" y="{y + 14}">{value:.4g}</text>'
        )
    height = 40 + 26 * len(values)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="620" height="{height}" '
        'font-family="sans-serif" font-size="12">'
        f'<text x="8" y="18" font-weight="bold">{html.escape(title)}</text>'
        f"{''.join(parts)}</svg>"
    )


def _about(report: dict[str, Any]) -> str:
    gil = "with" if report["gil"] else "without"
    return (
        f"CPython {report['python']} {gil} a GIL, {report['cpus']} CPUs, "
        f"load {report['load']:.1f}, {report['workers']} workers"
    )


def _page(report: dict[str, Any]) -> str:
    rows: dict[str, Row] = report["rows"]
    plots = [
        svg_bars(column, {name: row[column] for name, row in rows.items()})
        for column in next(iter(rows.values()))
    ]
    return (
        '<!doctype html><meta charset="utf-8"><title>atoll bench</title>'
        f"<h1>atoll bench</h1><p>{html.escape(_about(report))}</p>"
        + "".join(f"<p>{plot}</p>" for plot in plots)
    )


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    rows: dict[str, Row] = report["rows"]
    columns = list(next(iter(rows.values())))
    table = Table("", *columns, title=_about(report))
    for name, row in rows.items():
        table.add_row(name, *(f"{row[column]:.4g}" for column in columns))
    Console().print(table)


@click.command()
@click.option("--workers", type=click.IntRange(1), help="Default: the CPUs there are.")
@click.option("--quick", is_flag=True, help="Seconds instead of a minute; rough.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", "page", type=click.Path(dir_okay=False), help="Write a report.")
def bench(workers: int | None, quick: bool, as_json: bool, page: str | None) -> None:
    """Compare interpreters, threads and processes on this machine.

    Start-up, round trips, CPU-bound speed-up over one worker, memory.
    """
    report = measure_all(workers or os.process_cpu_count() or 1, quick)
    if page is not None:
        Path(page).write_text(_page(report), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        _print_table(report)
