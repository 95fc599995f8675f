"""Programs that run in a child process: a crash of one is one failed test."""

import subprocess
import sys
import textwrap

DEADLINE = 240


def run(script, *, code=0, stderr=""):
    """Run `script` in a child; its output, after the checks."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    if stderr is not None:
        assert done.stderr == stderr
    return done.stdout
