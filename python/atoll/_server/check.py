"""Seeing whether a server would start, without one (`atoll serve --check`).

The application is imported in a child process, where a server would import it: a C
extension can take its process down, and that is then one line instead of a core dump.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys

import atoll
from atoll._server import listening, loading
from atoll._server.plan import Plan
from atoll._server.settings import Settings

_CHILD = "from atoll._server.check import main; main()"


def find_fault(settings: Settings, plan: Plan, timeout: float = 120.0) -> str | None:
    """Try what a server does before it listens: certificates, folders, the import.

    Args:
        settings: What would be served.
        plan: What they amount to.
        timeout: Seconds that the import may take.

    Returns:
        None where a server would start; otherwise what is wrong, for the user. Lifespan
        startup is not tried, and nothing is listened on.
    """
    try:
        listening.make_service(settings)
    except (OSError, ValueError) as error:
        return listening.explain(error)
    return _try_import(settings, plan, timeout)


def _try_import(settings: Settings, plan: Plan, timeout: float) -> str | None:
    reading, writing = os.pipe()
    fields = {
        "name": settings.app,
        "app_dir": settings.app_dir,
        "factory": settings.factory,
    }
    told = {"fields": fields, "place": plan.place, "descriptor": writing}
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno(),
        pass_fds=(writing,),
        text=True,
    )
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as answer:
        try:
            child.communicate(json.dumps(told), timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return f"importing {settings.app} took more than {timeout:g} s"
        text = answer.read() if child.returncode == 0 else ""
    if child.returncode == 0:
        return text or None
    if child.returncode < 0:
        how = f"died of {signal.Signals(-child.returncode).name}"
    else:
        how = f"ended with exit code {child.returncode}"
    where = " in an interpreter" if plan.place == "interpreter" else ""
    return (
        f"a process that imports {settings.app}{where} {how}; "
        "`atoll doctor` names the extension"
    )


def main() -> None:
    """The child: what to do on standard input, what is wrong to a descriptor.

    It ends with 0 unless the import ends the process.
    """
    faulthandler.enable()
    told = json.load(sys.stdin)
    descriptor = told["descriptor"]
    os.set_inheritable(descriptor, False)  # programs that the application starts
    if told["place"] == "interpreter":
        with atoll.Interpreter() as interpreter:
            text = interpreter.call(_load, **told["fields"])
    else:
        text = _load(**told["fields"])
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as answer:
        answer.write(text)


def _load(name: str, app_dir: str, factory: bool) -> str:
    try:
        loading.load_app(name, app_dir, factory)
    except loading.AppError as error:
        return str(error)
    except Exception as error:
        return loading.app_traceback(error)
    except SystemExit as error:
        return f"importing {name} raised SystemExit({error.code!r})"
    return ""
