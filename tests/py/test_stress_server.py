"""A server under mixed load, while its workers are reloaded, killed and stuck."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "stress" / "stress_server.py"


def test_no_request_is_lost() -> None:
    run = subprocess.run(
        [sys.executable, SCRIPT, "--minutes", "0.15", "--every", "4", "--quick"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "\nok\n" in run.stdout
