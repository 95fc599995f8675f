"""Trying the application in a child process first (`atoll serve --check`).

A C extension can take its process down while it is imported. In a child that costs a
message; in the server it would cost the server.
"""

import faulthandler
import json
import signal
import subprocess
import sys

import atoll
from atoll._server import loading
from atoll._server.settings import Settings

_CHILD = "from atoll._server.check import main; main()"


def try_app(settings: Settings, timeout: float = 120.0) -> str | None:
    """Import the application in an interpreter of a child process.

    Args:
        settings: What is to be served.
        timeout: Seconds that the import may take.

    Returns:
        None where the process survived it, whatever else the application does: its own
        exceptions are told when it is served. Otherwise what happened, for the user.
    """
    fields = {
        "name": settings.app,
        "app_dir": settings.app_dir,
        "factory": settings.factory,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=json.dumps(fields),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return f"importing {settings.app} took more than {timeout:g} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        how = f"died of {signal.Signals(-done.returncode).name}"
    else:
        how = f"ended with exit code {done.returncode}"
    return (
        f"a process that imports {settings.app} in an interpreter {how}; "
        f"`atoll doctor` names the extension:\n{done.stderr.strip()}"
    )


def main() -> None:
    """The child: fields on standard input, 0 unless the process dies."""
    faulthandler.enable()
    fields = json.load(sys.stdin)
    with atoll.Interpreter() as interpreter:
        interpreter.call(_load, **fields)


def _load(name: str, app_dir: str, factory: bool) -> None:
    try:
        loading.load_app(name, app_dir, factory)
    except Exception:
        return  # the server tells it, with its traceback
