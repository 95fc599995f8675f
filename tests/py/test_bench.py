"""`atoll bench`: what it prints and writes; never how fast anything is."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from atoll.cli.bench import svg_bars

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
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["workers"] == 2
    assert {"atoll interpreters", "atoll processes", "threads", "multiprocessing"} <= (
        set(report["rows"])
    )
    columns = {tuple(row) for row in report["rows"].values()}
    assert len(columns) == 1
    for row in report["rows"].values():
        assert row["round trip µs"] > 0 and row["start-up ms"] > 0
        assert row["speed-up of 1"] == 1 and row["speed-up of 2"] > 0
    assert page.read_text().count("<svg") == len(next(iter(columns)))


def test_plot_is_well_formed():
    plot = ElementTree.fromstring(svg_bars("a < b", {"one": 1.0, "two & more": 2.0}))
    widths = [
        float(bar.get("width")) for bar in plot.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert widths == [180.0, 360.0]


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
