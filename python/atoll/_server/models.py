"""Where a worker runs: an interpreter of its own, or a thread of this one."""

from collections.abc import Callable
from typing import Any

import atoll
from atoll._server import worker


def run_worker(
    model: str, arguments: tuple[Any, ...], app: Callable[..., Any] | None
) -> bool:
    """Run `worker.run(*arguments)` to its end; blocks the calling thread.

    Args:
        model: "interpreters": a new interpreter with its own GIL, closed afterwards;
            "thread": this interpreter, on the calling thread.
        arguments: For `worker.run`, all plain.
        app: The application, with "thread" only; None to import it.
    """
    if model == "thread":
        settings, service, index, report_fd = arguments
        return worker.run(settings, service, index, report_fd, app)
    with atoll.Interpreter() as interpreter:
        result: bool = interpreter.call(worker.run, *arguments)
        return result
