"""`atoll bench`: what it prints and writes; never how fast anything is."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import click
import pytest

from atoll.cli import bench, bench_web
from atoll.cli.bench_page import svg_bars

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"


def test_json_and_report(tmp_path):
    page = tmp_path / "report.html"
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from atoll.cli import main; main()",
            "bench",
            "--quick",
            "--json",
            "--workers=2",
            f"--html={page}",
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["workers"] == 2 and report["failed"] == {}
    assert {"atoll interpreters", "atoll processes", "threads", "multiprocessing"} <= (
        set(report["rows"])
    )
    columns = {tuple(row) for row in report["rows"].values()}
    assert len(columns) == 1
    for name, row in report["rows"].items():
        assert row["round trip µs"] > 0 and row["start-up ms"] > 0
        assert row["CPU-bound tasks/s, 1 worker"] > 0 and row["speed-up of 2"] > 0
        if name.startswith("atoll"):
            assert row["web requests/s"] > 0
    written = page.read_text()
    assert written.count("<svg") == len(next(iter(columns)))
    assert all(name in written for name in report["rows"])


def test_another_python_takes_part():
    """This one stands for it: what is measured runs as a program without atoll's help."""
    other = bench.Other(sys.executable)
    assert "threads" in other.about["contenders"]
    assert other.label.startswith("3.")
    row, reason = bench._measure(sys.executable, "threads", 1, True)
    assert reason == "" and row["CPU-bound tasks/s, 1 worker"] > 0


def test_the_server_of_another_python_is_measured(tmp_path):
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\ntouch {tmp_path}/used\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    rate = bench_web.measure_web("atoll threads", 1, True, str(other))
    assert rate is not None and rate > 0
    assert (tmp_path / "used").exists()
    assert bench_web.measure_web("threads", 1, True, str(other)) is None


def test_what_is_no_python_is_refused(tmp_path):
    with pytest.raises(click.UsageError, match="cannot take part"):
        bench.Other(str(tmp_path / "none"))


def test_a_contender_that_fails_is_told():
    row, reason = bench._measure(sys.executable, "no such thing", 1, True)
    assert row is None and "no such thing" in reason


def test_plot_is_well_formed():
    values = {"one": 1.0, "two & more": 2.0, "none": None}
    plot = ElementTree.fromstring(svg_bars("a < b", values))
    widths = [
        float(bar.get("width")) for bar in plot.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert widths == [115.0, 230.0]
    texts = [text.text for text in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["one", "1", "two & more", "2", "none", "-"]


@pytest.mark.parametrize("name", ["serve", "wsgi", "uneven", "import_time"])
def test_what_a_benchmark_needs_is_one_line(name):
    # Without site-packages nothing is installed.
    script = BENCH / f"{name}.py"
    run = subprocess.run(
        [sys.executable, "-S", script], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1, run.stderr
    assert "pip install" in run.stderr
