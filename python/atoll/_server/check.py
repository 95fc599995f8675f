"""Seeing whether a server would start, without one (`atoll serve --check`).

The application is imported in a child process, where a server would import it: a C
extension can take its process down, and that is then one line instead of a core dump.
An import that takes long is told of with its stack, as a server's log has it.
"""

import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

import atoll
from atoll._server import inquest, listening, loading, logs
from atoll._server.plan import Plan
from atoll._server.settings import Settings

logger = logging.getLogger("atoll.server")

#: Seconds between two words of a child that tells its stack.
_PATIENCE_S = 3.0
#: The child's first word: it can be asked for its stack from now on.
_CAN_TELL = b"\0"
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
    logs.set_up(settings.log_level)
    fields = {
        "name": settings.app,
        "app_dir": settings.app_dir,
        "factory": settings.factory,
    }
    answer, stack = os.pipe(), os.pipe()
    told = {
        "fields": fields,
        "place": plan.place,
        "answer": answer[1],
        "stack": stack[1],
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno(),
        pass_fds=(answer[1], stack[1]),
        text=True,
    )
    os.close(answer[1])
    os.close(stack[1])
    with os.fdopen(answer[0], "rb") as text, os.fdopen(stack[0], "rb") as stacks:
        child = _Child(process, stacks.fileno(), plan.place == "interpreter")
        if not child.wait(json.dumps(told), settings, timeout):
            where = child.where()
            process.kill()
            process.wait()
            late = f"importing {settings.app} took more than {timeout:g} s"
            return f"{late}; it was here:\n{where}" if where else late
        said = text.read() if process.returncode == 0 else b""
    if process.returncode == 0:
        return said.decode(errors="replace") or None
    if process.returncode < 0:
        how = f"died of {signal.Signals(-process.returncode).name}"
    else:
        how = f"ended with exit code {process.returncode}"
    place = " in an interpreter" if plan.place == "interpreter" else ""
    return (
        f"a process that imports {settings.app}{place} {how}; "
        "`atoll doctor` names the extension"
    )


class _Child:
    """The process that imports, seen from above.

    Args:
        process: It.
        stack: Descriptor of where it says that it can tell its stack, and then does.
        in_interpreter: It imports in an interpreter, on a thread of that.
    """

    def __init__(
        self, process: "subprocess.Popen[str]", stack: int, in_interpreter: bool
    ) -> None:
        self._process = process
        self._stack = stack
        self._in_interpreter = in_interpreter
        self._can_tell = False

    def wait(self, told: str | None, settings: Settings, timeout: float) -> bool:
        """Until it has ended; False: that takes too long. Tells where it is meanwhile.

        After `stuck_after` seconds, and then each time after twice the time.
        """
        begun = time.monotonic()
        look_s = settings.stuck_after or timeout
        while True:
            left_s = begun + min(look_s, timeout) - time.monotonic()
            try:
                self._process.communicate(told, max(0.0, left_s))
                return True
            except subprocess.TimeoutExpired:
                told = None  # it has it
            if look_s >= timeout:
                return False
            if where := self.where():
                logger.warning(
                    "%s has been imported for %.0f s, and is here:\n%s",
                    settings.app,
                    time.monotonic() - begun,
                    where,
                )
            look_s *= 2

    def where(self) -> str:
        """Its Python stack, or ""."""
        # What an earlier question still brought is old.
        self._can_tell = bool(inquest.read(self._stack, 0)) or self._can_tell
        if not self._can_tell:  # the signal would end it
            return ""
        if self._in_interpreter:
            self._process.send_signal(signal.SIGUSR1)
            last = b" in _invoke\n"  # the interpreter's call
        else:
            self._process.send_signal(inquest.SIGNAL)
            last = inquest.OUTERMOST
        said = inquest.read(self._stack, _PATIENCE_S, last)
        return inquest.frames_of(said).rstrip()


def main() -> None:
    """The child: what to do on standard input, what is wrong to a descriptor.

    It ends with 0 unless the import ends the process.
    """
    faulthandler.enable()
    told = json.load(sys.stdin)
    answer, stack = told["answer"], told["stack"]
    for descriptor in (answer, stack):  # programs that the application starts
        os.set_inheritable(descriptor, False)
    for number in (signal.SIGUSR1, inquest.SIGNAL):
        signal.signal(number, signal.SIG_IGN)  # so it is again when all is over
    faulthandler.register(inquest.SIGNAL, file=stack, all_threads=False)
    if told["place"] == "interpreter":
        with atoll.Interpreter() as interpreter:
            _pass_on(interpreter.call(threading.get_ident))
            os.write(stack, _CAN_TELL)
            text = interpreter.call(_load, **told["fields"])
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    else:
        os.write(stack, _CAN_TELL)
        text = _load(**told["fields"])
    with os.fdopen(answer, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)


def _pass_on(ident: int) -> None:
    """Have the interpreter's thread asked: a process's signals go to the first one.

    Which waits for that thread, and runs its handlers meanwhile.
    """

    def handler(number: int, frame: FrameType | None) -> None:
        signal.pthread_kill(ident, inquest.SIGNAL)

    signal.signal(signal.SIGUSR1, handler)


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
