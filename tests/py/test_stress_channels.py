"""A few seconds of tests/stress/stress_channels.py, with a fixed seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_is_lost_doubled_or_hung() -> None:
    script = ROOT / "tests/stress/stress_channels.py"
    command = [sys.executable, str(script), "--seconds", "5", "--seed", "4"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'lost': 0" in done.stdout and "'broadcast': " in done.stdout
