"""`InterpreterPoolExecutor` with the interface of `concurrent.futures`' own."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from typing import Any, ParamSpec, TypeVar

from atoll import _atoll, interpreters
from atoll.interpreters import _inside
from atoll.interpreters._interpreter import _failure

__all__ = ["BrokenInterpreterPool", "InterpreterPoolExecutor"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class BrokenInterpreterPool(BrokenThreadPool):
    """The initializer of a worker failed."""


class _Workers:
    """The interpreters of one executor: each of its threads has one.

    It knows nothing of the executor, so that threads that hold it do not keep the
    executor from being collected.
    """

    def __init__(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.initializer = initializer
        self.initargs = initargs
        self.own = threading.local()
        self.all: list[interpreters.Interpreter] = []

    def start(self) -> None:
        """Make the interpreter of this thread."""
        made = interpreters.create()
        self.own.interpreter = made
        self.all.append(made)
        made._run(_inside.name_thread, (threading.current_thread().name,))
        if self.initializer is not None:
            self.run(self.initializer, self.initargs, {})

    def run(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call `function` in the interpreter of this thread.

        Raises:
            BaseException: What it raised, with an `ExecutionFailed` as its cause.
            ExecutionFailed: It raised what cannot leave its interpreter.
        """
        outcome = self.own.interpreter._attempt(function, args, kwargs)
        if outcome[0]:
            return outcome[1]
        _, report, packed = outcome
        failure = _failure(report)
        exception: Any = None
        if packed is not None:
            try:
                exception = _atoll.loads(packed, trusted=True)
            except Exception:
                pass
        if not isinstance(exception, BaseException):
            raise failure
        try:
            raise exception from failure
        finally:
            del exception, failure

    def close(self) -> None:
        """End the interpreters; no thread uses them any more."""
        while self.all:
            one = self.all.pop()
            try:
                one.close()
            except interpreters.InterpreterError:
                pass  # closed already, by whoever found it in list_all()


class InterpreterPoolExecutor(ThreadPoolExecutor):
    """An executor whose threads run each call in an interpreter of their own.

    The interface is that of `concurrent.futures.InterpreterPoolExecutor` of CPython
    3.14. Extensions import in the interpreters, and functions, arguments and results
    are all that `atoll.Interpreter.call` takes.

    Args:
        max_workers: How many threads and interpreters at most; as many as
            `ThreadPoolExecutor` chooses for None.
        thread_name_prefix: For the names of the threads.
        initializer: Called in each interpreter when it is made.
        initargs: Its arguments.
    """

    BROKEN = BrokenInterpreterPool

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._workers = _Workers(initializer, tuple(initargs))
        counter: Any = self._counter  # type: ignore[attr-defined]
        prefix = thread_name_prefix or f"InterpreterPoolExecutor-{counter()}"
        super().__init__(max_workers, prefix, self._workers.start, ())

    def submit(
        self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_R]:
        """Have `fn` called in an interpreter; its `Future`.

        Raises:
            RuntimeError: The executor is shut down.
            BrokenInterpreterPool: An initializer failed.
        """
        try:
            return super().submit(self._workers.run, fn, args, kwargs)
        except BrokenThreadPool as error:
            raise BrokenInterpreterPool(str(error)) from None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with `wait`, end the interpreters when all are done.

        Args:
            wait: Wait for that.
            cancel_futures: Cancel those that have not begun.
        """
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._workers.close()

    if sys.version_info < (3, 14):  # where ThreadPoolExecutor does not know BROKEN

        def _initializer_failed(self) -> None:
            with self._shutdown_lock:
                self._broken: Any = "an interpreter's initializer failed"
                while True:
                    try:
                        item: Any = self._work_queue.get_nowait()
                    except queue.Empty:
                        return
                    if item is not None:
                        item.future.set_exception(BrokenInterpreterPool(self._broken))
