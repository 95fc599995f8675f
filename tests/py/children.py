"""Programs that run in a child process: a crash of one is one failed test."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def script(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code`; it has printed "ready", and is killed after."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys, threading, atoll\n" + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.wait(DEADLINE)
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def told(child: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()
