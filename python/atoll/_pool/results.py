"""What comes back of a task: its outcome, and the exception that stands for it."""

from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self

from atoll import _wire
from atoll._errors import AtollError, ClosedError
from atoll._interpreter import _result
from atoll._pool.future import Cancelled
from atoll._pool.worker import Report

__all__ = [
    "BrokenPool",
    "BrokenProcess",
    "LostWorker",
    "closed_error",
    "error_of",
    "rebuilt",
]

# at_outcome in src/pool/task.h.
VALUE, ERROR, CANCELLED, NOTICE, REFUSED = range(5)


class BrokenPool(AtollError, BrokenExecutor):
    """A worker could not be set up; also a `concurrent.futures.BrokenExecutor`.

    The `__cause__` is why: what its initializer raised, for one. The pool takes no
    tasks any more.
    """

    @classmethod
    def because(cls, cause: BaseException) -> Self:
        """One for `cause`."""
        name = type(cause).__name__
        text = str(cause)
        error = cls(f"a worker could not be set up: {name}{': ' if text else ''}{text}")
        error.__cause__ = cause
        return error


class BrokenProcess(AtollError, BrokenProcessPool):
    """The process that ran the task died; only this task is lost."""


class LostWorker(AtollError):
    """The task did not end when it was told to, and its worker was replaced."""


def closed_error(foreign: bool) -> ClosedError:
    """Of a pool that was shut down, or that a fork has brought to another process."""
    error = ClosedError(
        "the pool belongs to the process that this one was forked from: make another"
        if foreign
        else "cannot schedule new futures after shutdown"
    )
    error.__suppress_context__ = True  # how it was found out is of no interest
    return error


def rebuilt(report: Report) -> BaseException:
    """The exception of a report, with the remote traceback as its cause."""
    try:
        _result(_wire.pack((False, report)))
    except BaseException as error:
        return error.with_traceback(None)
    return AtollError("a report of an error that holds none")


def error_of(outcome: int, value: Any, interrupted: bool) -> BaseException:
    """The exception of a task that gave no value.

    Args:
        outcome: How it ended, but not `VALUE`.
        value: What the worker sent.
        interrupted: It was asked to end.
    """
    if outcome == CANCELLED:
        return Cancelled()
    if isinstance(value, BaseException):
        return value
    if isinstance(value, tuple) and value[0] == "crash":
        return BrokenProcess(value[1])
    if value is None:
        if interrupted:
            return Cancelled()
        return AtollError("the task was lost, and so was the report of why")
    return rebuilt(value)
