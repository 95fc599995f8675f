"""`atoll.Pool`: one executor over interpreters, threads and processes."""

import asyncio
import itertools
import os
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Executor
from concurrent.futures._base import FINISHED, PENDING
from typing import Any, Literal, NoReturn, ParamSpec, Self, TypeVar

from atoll import _atoll
from atoll._errors import ClosedError, Full, NotShareableError
from atoll._pool import ending
from atoll._pool import worker as _worker
from atoll._pool.checks import arguments_of, count_of, keywords_of
from atoll._pool.crew import Crew
from atoll._pool.delivery import Delivery
from atoll._pool.future import PoolFuture
from atoll._pool.limits import DEADLINE, TIMEOUT, Limits, late
from atoll._pool.maps import Maps
from atoll._pool.models import InterpreterModel, Model, ThreadModel
from atoll._pool.processes import ProcessModel
from atoll._pool.progress import with_progress
from atoll._pool.results import (
    BrokenPool,
    BrokenProcess,
    LostWorker,
    closed_error,
)
from atoll._pool.stats import PoolStats, stats_of
from atoll._pool.worker import Broadcast

__all__ = [
    "Broadcast",
    "BrokenPool",
    "BrokenProcess",
    "LostWorker",
    "Pool",
    "PoolFuture",
]

MODELS: dict[str, type[Model]] = {
    model.name: model for model in (InterpreterModel, ThreadModel, ProcessModel)
}

_P = ParamSpec("_P")
_R = TypeVar("_R")


_made = itertools.count(1)


def _chosen(model: str) -> tuple[str, str]:
    if model != "auto":
        if model not in MODELS:
            raise ValueError(
                f"model must be 'auto' or one of {', '.join(map(repr, MODELS))}"
            )
        reason = "asked for"
        if model == "threads" and sys._is_gil_enabled():
            reason += "; this Python has a GIL, so its threads take turns"
        return model, reason
    if not sys._is_gil_enabled():
        return "threads", "this Python runs without a GIL: its threads are parallel"
    return "interpreters", "this Python has a GIL, and interpreters have one each"


def _check_choices(when_full: str, initializer: object) -> None:
    if when_full not in ("wait", "raise"):
        raise ValueError("when_full must be 'wait' or 'raise'")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be callable")


def _most_memory(size_bytes: int | None, model: str) -> int | None:
    most = count_of("max_memory_per_worker", size_bytes)
    if most is not None and model == "threads":
        raise ValueError(
            "max_memory_per_worker needs interpreters or processes: threads share "
            "the memory of this process"
        )
    return most


class Pool(Executor):
    """Workers that stay warm, and run what is submitted to them in parallel.

    A `concurrent.futures.Executor` (PEP 3148). Functions may be lambdas, nested, or of
    `__main__`; arguments and results are copies (but for shared things: channels,
    buffers), except on the model ``"threads"``, where they are the objects themselves.

    Any thread of the interpreter that made it may call the methods. It cannot be sent:
    a task may make a pool of its own.

    Args:
        workers: How many; by default as many as CPUs this process may use.
        model: ``"interpreters"``, ``"threads"``, ``"processes"``, or ``"auto"``:
            threads on a free-threaded build, else interpreters. See `model_reason`.
        initializer: Called in each worker before its first task. When it raises, the
            pool is broken: all its tasks fail with `BrokenPool`, whose cause is what it
            raised.
        initargs: Its arguments.
        max_tasks_per_worker: After so many tasks a worker is replaced by a new one.
        max_memory_per_worker: Bytes above which a worker is replaced after its task.
            For a process its resident memory; for an interpreter what its Python
            objects take, without what extensions allocate by themselves (the data of
            numpy's arrays, for one). Threads have no memory of their own.
        max_queued: How many tasks may wait; None: any number.
        when_full: ``"wait"`` until there is room, or ``"raise"`` `atoll.Full`.
        timeout: Seconds that a task may run; then its future raises `TimeoutError` and
            it is interrupted. The time in the queue does not count; see `submit_with`.
        replace_stuck: Seconds that an interrupted task has to end in. One that is in C
            code does not hear of it; with this its worker is replaced then, as by
            `replace`. None: it is waited for, and `stuck` tells.
        name: For threads and interpreters.

    Raises:
        ValueError: An argument makes no sense.
        TypeError: One is of another type.
    """

    def __init__(
        self,
        workers: int | None = None,
        model: Literal["auto", "interpreters", "threads", "processes"] = "auto",
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_worker: int | None = None,
        max_memory_per_worker: int | None = None,
        max_queued: int | None = None,
        when_full: Literal["wait", "raise"] = "wait",
        timeout: float | None = None,
        replace_stuck: float | None = None,
        name: str = "atoll-pool",
    ) -> None:
        workers = count_of("workers", workers) or os.process_cpu_count() or 1
        limit = count_of("max_tasks_per_worker", max_tasks_per_worker)
        max_queued = count_of("max_queued", max_queued)
        _check_choices(when_full, initializer)
        core = _Core.of(self)
        self._model_name, self._reason = _chosen(model)
        self._max_memory = _most_memory(max_memory_per_worker, self._model_name)
        self._scheduler = _atoll.Scheduler(workers)
        self._number = next(_made)
        self._workers = workers
        self._name = name
        self._limit = limit or 0
        self._max_queued = max_queued
        self._when_full = when_full
        self._timeout = _atoll.seconds(timeout)
        self._initializer = initializer
        self._initargs = arguments_of("initargs", initargs)
        self._broadcasts: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._maps = Maps(core)
        self._shut = False
        self._dropped = False  # nobody can submit any more: see _Core
        self._foreign = False  # it was made by the process that this one is a fork of
        self._broken: BaseException | None = None
        self._delivery = Delivery(core)
        self._limits = Limits(core, _atoll.seconds(replace_stuck))
        self._in_place = self._model_name == "threads"
        self._model = MODELS[self._model_name](core)
        self._model.pack_start((initializer, self._initargs))
        self._desk = _atoll.Desk(
            self._scheduler, core, PoolFuture, self._model.values, PENDING, FINISHED
        )
        self._futures: dict[int, PoolFuture[Any]] = self._desk.futures
        # What a task without a limit goes through: where the model adds no step.
        self._plain = (
            max_queued is None and timeout is None and self._model.submit_is_plain
        )
        self._closing = threading.Event()  # it is, or has broken
        self._crew = Crew(core, self._model)
        self._open(core)

    def _open(self, core: "_Core") -> None:
        """Start the threads: the last step of making it, which takes all back."""
        self._crew.start(self._workers)
        try:
            ending.remember(core)
            if "ATOLL_TOP" in os.environ:
                from atoll import top

                top.listen_if_asked()
            weakref.finalize(self, core._let_go).atexit = False
            self._delivery.thread.start()
        except BaseException:  # Ctrl-C, or no thread is to be had
            if not self._delivery.called_off():
                self._close(False, True, False, True)
            else:
                ending.forget(core)
                self._crew.end(self._workers)
            raise

    # ---- what it is ------------------------------------------------------------------

    @property
    def model(self) -> str:
        """``"interpreters"``, ``"threads"`` or ``"processes"``."""
        return self._model_name

    @property
    def model_reason(self) -> str:
        """Why this model, in a sentence."""
        return self._reason

    @property
    def workers(self) -> int:
        """How many workers it has."""
        return self._workers

    @property
    def queued(self) -> int:
        """How many tasks wait for a worker."""
        return int(self._scheduler.queued())

    def stats(self) -> PoolStats:
        """A snapshot: the queue, and what each worker does. No worker is asked."""
        return stats_of(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pool stays where it was made; a task may make its own")

    def __repr__(self) -> str:
        state = "shut down" if self._shut else f"{len(self._futures)} unfinished"
        return f"<atoll.Pool of {self._workers} {self._model_name}, {state}>"

    # ---- submitting ------------------------------------------------------------------

    def submit(
        self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> PoolFuture[_R]:
        """Queue ``fn(*args, **kwargs)``.

        Raises:
            NotShareableError: The function or an argument cannot be sent; the message
                names the path to it.
            ClosedError: The pool is shut down.
            Full: The queue is full, and `when_full` is ``"raise"``.
        """
        if not self._plain or self._shut:
            return self._submit(fn, args, kwargs, self._timeout)
        try:
            return self._desk.submit(fn, args, kwargs)
        except ClosedError:
            error = self._closed_error()
            raise error from error.__cause__

    def _closed_error(self) -> BaseException:
        """Why it takes no more tasks: a new exception for each who asks."""
        if self._broken is not None:
            return BrokenPool.because(self._broken)
        return closed_error(self._foreign)

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        deadline: float | None = None,
        worker: int = -1,
    ) -> PoolFuture[Any]:
        if self._shut:
            raise self._closed_error()
        if timeout == 0 or deadline == 0:
            future: PoolFuture[Any] = self._desk.future(fn)
            self._delivery.drop(future._task_id, late())
            return future
        if self._max_queued is not None and worker < 0:
            self._wait_for_room()
        future = self._desk.future(fn)
        task_id = future._task_id
        try:
            self._model.submit(task_id, (fn, args, kwargs), worker)
        except BaseException as error:
            self._futures.pop(task_id, None)
            if isinstance(error, ClosedError):
                error = self._closed_error()
                raise error from error.__cause__
            raise
        if timeout is not None:
            self._limits.alarm(task_id, TIMEOUT, timeout)
        if deadline is not None:
            self._limits.alarm(task_id, DEADLINE, deadline)
        return future

    def _wait_for_room(self) -> None:
        limit = self._max_queued or 0
        if self._scheduler.queued() < limit:
            return
        if self._when_full == "raise":
            raise Full(f"{limit} tasks are queued already")
        self._scheduler.wait_room(limit)
        if self._shut:
            raise self._closed_error()

    async def run(
        self,
        fn: Callable[..., _R],
        /,
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> _R:
        """Await ``fn(*args, **kwargs)``; on any asyncio loop.

        A cancelled await cancels the task, also where it runs.

        Args:
            timeout: Seconds that it may run; `TimeoutError` after that, and with 0 at
                once. None: as the pool's; ``math.inf``: no limit. For a limit that
                counts the time in the queue too there is `asyncio.timeout`.
        """
        future = self.submit_with(fn, args, kwargs, timeout=timeout)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.cancel(running=True)
            raise

    def submit_with(
        self,
        fn: Callable[..., _R],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> PoolFuture[_R]:
        """`submit` with limits of its own; past one, the future raises `TimeoutError`.

        Args:
            timeout: Seconds that it may run, from when a worker takes it; by default
                the pool's, and with ``math.inf`` any time.
            deadline: Seconds from now in which it must be over, the time in the queue
                included.

        With 0 it does not run, and its time is over at once.
        """
        timeout = self._timeout if timeout is None else _atoll.seconds(timeout)
        return self._submit(
            fn,
            arguments_of("args", args),
            keywords_of("kwargs", kwargs),
            timeout,
            _atoll.seconds(deadline),
        )

    # ---- maps ------------------------------------------------------------------------

    def map(
        self,
        fn: Callable[..., _R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[_R]:
        """Call `fn` with the items of `iterables`, in parallel; results in order.

        The iterables are read as results are: never more than `buffersize` calls ahead.

        Args:
            timeout: Seconds from now for each result; then `TimeoutError`.
            chunksize: How many calls go in one task; by default as many as take about
                5 ms, as measured.
            buffersize: How many calls may be ahead of the result that is asked for.
            progress: Show a progress bar on standard error, if there is one: of rich or
                tqdm.
        """
        return self._map(True, fn, iterables, timeout, chunksize, buffersize, progress)

    def imap_unordered(
        self,
        fn: Callable[..., _R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[_R]:
        """`map` with results in the order in which they come."""
        return self._map(False, fn, iterables, timeout, chunksize, buffersize, progress)

    def _map(
        self,
        ordered: bool,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        progress: bool,
    ) -> Iterator[Any]:
        items = zip(*iterables, strict=False)
        ends = any(isinstance(i, Sized) for i in iterables)
        results = self._maps.begin(
            self, fn, items, timeout, chunksize, buffersize, ordered=ordered, ends=ends
        )
        return with_progress(results, iterables) if progress else results

    # ---- objects that every worker keeps ---------------------------------------------

    def broadcast(self, value: Any) -> Broadcast:
        """Send an object to every worker once, now; those that start later get it too.

        Raises:
            NotShareableError: It cannot be sent.
            ClosedError: The pool is shut down.
        """
        token = uuid.uuid4().hex
        if self._in_place:
            _worker.keep(token, value)
            return Broadcast(token, value, self._release)
        with self._lock:
            self._broadcasts[token] = value
        try:
            self._everywhere(_worker.keep, token, value)
        except NotShareableError as error:
            self._broadcasts.pop(token, None)
            words = str(error).replace("args[1]", "value", 1)
            raise NotShareableError(words) from error.__cause__
        return Broadcast(token, value, self._release)

    def _release(self, token: str) -> None:
        self._broadcasts.pop(token, None)
        if self._in_place:
            _worker.drop(token)
        elif not self._shut:
            self._everywhere(_worker.drop, token)

    def _everywhere(self, fn: Callable[..., Any], *args: Any) -> None:
        self._crew.wait_for_all(
            {
                w: self._submit(fn, args, {}, None, worker=w)
                for w in range(self._workers)
            }
        )

    # ---- ends before the end ---------------------------------------------------------

    def stuck(self) -> list[int]:
        """The workers that were told to end their task and have not: they are in C."""
        return self._limits.stuck()

    def replace(self, worker: int) -> bool:
        """Start another worker instead of this one; the task that it runs is lost.

        A process is killed, and its task fails with `BrokenProcess`. What runs in an
        interpreter or on a thread cannot be ended from outside: it is left to itself,
        with a `RuntimeWarning`, and goes when its task does come to an end. The task's
        future raises `LostWorker`.

        Returns:
            False where the worker runs nothing: then it is left as it is.
        """
        task_id = self._scheduler.current(worker)
        return task_id != 0 and self._limits.abandon(task_id)

    def kill(self, worker: int) -> None:
        """End a worker process at once, and start another; its task is lost.

        Raises:
            ValueError: The model is not ``"processes"``: nothing else can be ended from
                outside.
            IndexError: There is no such worker.
        """
        self._model.kill(worker)

    def _break(self, error: BaseException) -> None:
        self._broken = error
        self._shut = True
        self._closing.set()
        self._scheduler.close()
        self._scheduler.cancel_all()
        for worker in range(self._workers):
            self._scheduler.stop_worker(worker, True)
        for task_id, future in list(self._futures.items()):
            if self._scheduler.running(task_id) < 0:
                self._futures.pop(task_id, None)
                self._model.forget(task_id)
                self._delivery.fail(future, BrokenPool.because(error))

    # ---- start and end ---------------------------------------------------------------

    def _start_objects(self) -> tuple[Any, ...]:
        return self._initializer, self._initargs, self._kept()

    def _kept(self) -> list[tuple[str, Any]]:
        """What was broadcast, by token, for a worker that starts."""
        with self._lock:
            return list(self._broadcasts.items())

    def shutdown(
        self,
        wait: bool = True,
        *,
        cancel_futures: bool = False,
        interrupt: bool = False,
    ) -> None:
        """Take no more tasks; end the workers when those there are done.

        A map of which not all results were taken, and whose input has a length, is
        submitted to its end first, unless tasks are cancelled or interrupted here.

        Args:
            wait: Until then. A task that was interrupted and does not end, because it
                is in C code, is waited for 5 s more (or `replace_stuck`); then its
                worker is left running, with a `RuntimeWarning`.
            cancel_futures: Cancel the tasks that have not begun.
            interrupt: Interrupt those that run.
        """
        self._close(wait, cancel_futures, interrupt, cancel_futures or interrupt)

    def _close(
        self, wait: bool, cancel_futures: bool, interrupt: bool, drop_maps: bool
    ) -> None:
        if self._foreign:
            return  # nothing of it is here but its memory
        if not drop_maps:
            self._maps.complete()
        self._shut = True
        self._closing.set()
        if cancel_futures:
            self._scheduler.cancel_all()
        self._scheduler.close()
        if interrupt:
            for future in list(self._futures.values()):
                future.cancel(running=True)
        self._limits.watch_interrupted()
        self._scheduler.nudge()
        if wait:
            self._delivery.over.wait()
            ending.forget(self._model.pool)  # the core

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        # After an exception nobody will read the maps.
        self._close(True, False, False, drop_maps=kind is not None)


class _Core(Pool):
    """The pool as its threads hold it: another object with the same attributes.

    So the pool itself can be dropped: when it is, nobody can submit any more, and the
    core ends the workers as `shutdown(wait=False)` does. Futures hold the core.
    """

    @classmethod
    def of(cls, pool: Pool) -> Self:
        """The core of a pool that is being made."""
        core = cls.__new__(cls)
        pool.__dict__ = core.__dict__
        return core

    def _let_go(self) -> None:
        # The garbage collector may call this, on any thread and with any lock held: the
        # thread that hands out results sees to it.
        self._dropped = True
        self._scheduler.nudge()
