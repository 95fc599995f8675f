"""`atoll.Pool`: one executor over interpreters, threads and processes."""

import asyncio
import collections
import heapq
import itertools
import os
import queue
import sys
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal, Self

from atoll import _atoll, _pool_worker, _wire
from atoll._errors import AtollError, ClosedError, Full, NotShareableError
from atoll._interpreter import _result
from atoll._pool_future import PoolFuture, finish_all
from atoll._pool_models import MODELS, ProcessModel, ThreadModel
from atoll._pool_worker import Broadcast

__all__ = ["Broadcast", "BrokenProcess", "LostWorker", "Pool", "PoolFuture"]

_VALUE, _ERROR, _CANCELLED, _NOTICE, _REFUSED = range(5)

_CHUNK_SECONDS = 0.005
_LARGEST_CHUNK = 4096

# What is to happen to a task at a time: its running time may be over, its deadline is
# there, or it was interrupted and should have ended by now.
_TIMEOUT, _DEADLINE, _STUCK = range(3)
_STUCK_SECONDS = 5.0  # for an interrupted task to end in, where the pool shuts down

_pools: weakref.WeakSet["Pool"] = weakref.WeakSet()


class BrokenProcess(AtollError, BrokenProcessPool):
    """The process that ran the task died; only this task is lost."""


class LostWorker(AtollError):
    """The task did not end when it was told to, and its worker was replaced."""


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


class Pool(Executor):
    """Workers that stay warm, and run what is submitted to them in parallel.

    A `concurrent.futures.Executor`. Functions may be lambdas, nested, or of `__main__`;
    arguments and results are copies (but for shared things: channels, buffers), except
    on the model ``"threads"``, where they are the objects themselves.

    Args:
        workers: How many; by default as many as CPUs this process may use.
        model: ``"interpreters"``, ``"threads"``, ``"processes"``, or ``"auto"``:
            threads on a free-threaded build, else interpreters. See `model_reason`.
        initializer: Called in each worker before its first task. When it raises, the
            pool is broken: all its tasks fail with that exception.
        initargs: Its arguments.
        max_tasks_per_worker: After so many tasks a worker is replaced by a new one.
        max_memory_per_worker: Bytes of resident memory above which a process is
            replaced after its task; only for ``"processes"``, the others share theirs.
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
        if workers is None:
            workers = os.process_cpu_count() or 1
        for what, value in (
            ("workers", workers),
            ("max_tasks_per_worker", max_tasks_per_worker),
            ("max_memory_per_worker", max_memory_per_worker),
            ("max_queued", max_queued),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{what} must be at least 1")
        if when_full not in ("wait", "raise"):
            raise ValueError("when_full must be 'wait' or 'raise'")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be callable")
        self._model_name, self._reason = _chosen(model)
        if max_memory_per_worker is not None and self._model_name != "processes":
            raise ValueError(
                "max_memory_per_worker needs model='processes': "
                f"{self._model_name} share the memory of this process"
            )
        self._scheduler = _atoll.Scheduler(workers)
        self._workers = workers
        self._name = name
        self._limit = max_tasks_per_worker or 0
        self._max_memory = max_memory_per_worker
        self._max_queued = max_queued
        self._when_full = when_full
        self._timeout = timeout
        self._replace_stuck = replace_stuck
        self._initializer, self._initargs = initializer, initargs
        self._broadcasts: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._next_id = self._numbers.__next__
        self._futures: dict[int, PoolFuture] = {}
        self._lock = threading.Lock()
        # Held while a task goes from a worker back to the queue, and while a task is
        # looked for to be interrupted: until the interrupt is sent to its worker.
        self._moving = threading.Lock()
        self._deadlines: list[tuple[float, int, int, float]] = []  # guarded: _lock
        self._turns: collections.Counter[int] = collections.Counter()
        self._earliest: float | None = None
        self._alive: set[int] = set()
        self._shut = False
        self._broken: BaseException | None = None
        self._over = threading.Event()
        self._restarts = 0
        if self._model_name == "threads":
            self._start_objects()
        else:
            self._start_data()  # what cannot be sent is told now
        self._model = MODELS[self._model_name](self)
        self._submit_call = self._model.submit
        for worker in range(workers):
            self._start_worker(worker)
            self._alive.add(worker)
        _pools.add(self)
        self._collector = threading.Thread(
            target=self._collect, name=f"{name}-results", daemon=True
        )
        self._collector.start()

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

    def stats(self) -> dict[str, Any]:
        """A snapshot: model, queue, and what each worker does (0: nothing)."""
        return {
            "model": self._model_name,
            "queued": self.queued,
            "unfinished": len(self._futures),
            "restarts": self._restarts,
            "workers": [
                {
                    "worker": worker,
                    "task": self._scheduler.current(worker),
                    "resident_bytes": self._model.resident_bytes(worker),
                }
                for worker in range(self._workers)
            ],
        }

    def __repr__(self) -> str:
        state = "shut down" if self._shut else f"{len(self._futures)} unfinished"
        return f"<atoll.Pool of {self._workers} {self._model_name}, {state}>"

    # ---- submitting ------------------------------------------------------------------

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PoolFuture:
        """Queue ``fn(*args, **kwargs)``.

        Raises:
            NotShareableError: The function or an argument cannot be sent; the message
                names the path to it.
            ClosedError: The pool is shut down.
            Full: The queue is full, and `when_full` is ``"raise"``.
        """
        if self._shut or self._max_queued is not None or self._timeout is not None:
            return self._submit(fn, args, kwargs, self._timeout)
        task_id = self._next_id()
        future = PoolFuture(self, task_id)
        self._futures[task_id] = future
        try:
            self._submit_call(task_id, (fn, args, kwargs), -1)
        except BaseException as error:
            raise self._not_submitted(task_id, error) from error.__cause__
        return future

    def _not_submitted(self, task_id: int, error: BaseException) -> BaseException:
        self._futures.pop(task_id, None)
        if isinstance(error, ClosedError):
            return self._closed_error()
        return error

    def _closed_error(self) -> BaseException:
        if self._broken is not None:
            return self._broken
        return ClosedError("cannot schedule new futures after shutdown")

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        worker: int = -1,
    ) -> PoolFuture:
        if self._shut:
            raise self._closed_error()
        if self._max_queued is not None and worker < 0:
            self._wait_for_room()
        task_id = self._next_id()
        future = PoolFuture(self, task_id)
        self._futures[task_id] = future
        try:
            self._submit_call(task_id, (fn, args, kwargs), worker)
        except BaseException as error:
            raise self._not_submitted(task_id, error) from error.__cause__
        if timeout is not None:
            self._set_alarm(task_id, _TIMEOUT, timeout)
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

    def _set_alarm(self, task_id: int, kind: int, seconds: float) -> None:
        when = time.monotonic() + seconds
        with self._lock:
            if len(self._deadlines) > 2 * len(self._futures) + 1000:
                # Most are of tasks that are over.
                unfinished = set(self._futures)
                self._deadlines = [d for d in self._deadlines if d[1] in unfinished]
                heapq.heapify(self._deadlines)
            heapq.heappush(self._deadlines, (when, task_id, kind, seconds))
            earlier = self._earliest is None or when < self._earliest
        if earlier:
            self._scheduler.nudge()

    async def run(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Await ``fn(*args, **kwargs)``; on any asyncio loop.

        A cancelled await cancels the task, also where it runs.

        Args:
            timeout: Seconds that it may run; `TimeoutError` after that. For a limit
                that counts the time in the queue too there is `asyncio.timeout`.
        """
        future = self._submit(fn, args, kwargs, timeout or self._timeout)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.cancel(running=True)
            raise

    def submit_with(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> PoolFuture:
        """`submit` with limits of its own; past one, the future raises `TimeoutError`.

        Args:
            timeout: Seconds that it may run, from when a worker takes it; by default
                the pool's.
            deadline: Seconds from now in which it must be over, the time in the queue
                included.
        """
        if timeout is None:
            timeout = self._timeout
        future = self._submit(fn, args, kwargs or {}, timeout)
        if deadline is not None:
            self._set_alarm(future._task_id, _DEADLINE, deadline)
        return future

    # ---- maps ------------------------------------------------------------------------

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """Call `fn` with the items of `iterables`, in parallel; results in order.

        The iterables are read as results are: never more than `buffersize` calls ahead.

        Args:
            timeout: Seconds from now for each result; then `TimeoutError`.
            chunksize: How many calls go in one task; by default as many as take about
                5 ms, as measured.
            buffersize: How many calls may be ahead of the result that is asked for.
            progress: Show a progress bar.
        """
        items = zip(*iterables, strict=False)
        results = self._chunks(fn, items, timeout, chunksize, buffersize, ordered=True)
        return self._with_progress(results, iterables, progress)

    def imap_unordered(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """`map` with results in the order in which they come."""
        items = zip(*iterables, strict=False)
        results = self._chunks(fn, items, timeout, chunksize, buffersize, ordered=False)
        return self._with_progress(results, iterables, progress)

    def _chunks(
        self,
        fn: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        *,
        ordered: bool,
    ) -> Iterator[Any]:
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be at least 1")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be at least 1")
        if self._shut:
            raise self._closed_error()
        feed = _Feed(self, fn, items, chunksize, buffersize, ordered)
        deadline = None if timeout is None else time.monotonic() + timeout
        feed.fill()  # begin now, as Executor.map does
        return feed.results(deadline)

    def _with_progress(
        self, results: Iterator[Any], iterables: tuple[Any, ...], progress: bool
    ) -> Iterator[Any]:
        if not progress:
            return results
        from rich.progress import track

        lengths = [len(i) for i in iterables if hasattr(i, "__len__")]
        return iter(
            track(results, total=min(lengths) if lengths else None, description="")
        )

    # ---- objects that every worker keeps ---------------------------------------------

    def broadcast(self, value: Any) -> Broadcast:
        """Send an object to every worker once, now; those that start later get it too.

        Raises:
            NotShareableError: It cannot be sent.
        """
        token = uuid.uuid4().hex
        if self._model_name == "threads":
            _pool_worker.keep(token, value)
            return Broadcast(token, value, self._release)
        with self._lock:
            self._broadcasts[token] = value
        self._everywhere(_pool_worker.keep, token, value)
        return Broadcast(token, value, self._release)

    def _release(self, token: str) -> None:
        self._broadcasts.pop(token, None)
        if self._model_name == "threads":
            _pool_worker.drop(token)
        elif not self._shut:
            self._everywhere(_pool_worker.drop, token)

    def _everywhere(self, fn: Callable[..., Any], *args: Any) -> None:
        sent = [self._submit(fn, args, {}, None, w) for w in range(self._workers)]
        for future in sent:
            future.result()

    # ---- cancelling ------------------------------------------------------------------

    def _cancel(self, future: PoolFuture, running: bool) -> bool:
        task_id = future._task_id
        if self._scheduler.cancel(task_id):
            self._drop(task_id, CancelledError())
            return True
        if not running:
            return False
        return self._interrupt(future)

    def _interrupt(self, future: PoolFuture) -> bool:
        """Interrupt a task that runs."""
        task_id = future._task_id
        with self._moving:  # one at a time: the second finds the first's mark
            future._interrupt = True
            worker = self._scheduler.running(task_id, True)
            # Where it is not running now, it may have been put back in the queue,
            # and even be taken from there by the time that is looked into.
            cancelled = worker == -1 and self._scheduler.cancel(task_id)
            if worker == -1 and not cancelled:
                worker = self._scheduler.running(task_id, True)
                if worker == -1:
                    return False
            # One for each task: the worker waits for one, and a second that was under
            # way would hit the next task.
            if worker >= 0 and not future._interrupt_sent:
                future._interrupt_sent = True
                self._model.interrupt(worker)
        if cancelled:
            self._drop(task_id, CancelledError())
            return True
        if self._replace_stuck is not None:
            self._set_alarm(task_id, _STUCK, self._replace_stuck)
        elif self._shut:
            self._set_alarm(task_id, _STUCK, _STUCK_SECONDS)
        return True

    def _drop(self, task_id: int, exception: BaseException) -> None:
        future = self._futures.pop(task_id, None)
        if isinstance(self._model, ThreadModel):
            self._model.forget(task_id)
        if future is not None:
            finish_all([(future, None, exception)])

    def stuck(self) -> list[int]:
        """The workers that were told to end their task and have not: they are in C."""
        late = [
            self._scheduler.running(task_id)
            for task_id, future in list(self._futures.items())
            if future._interrupt
        ]
        return sorted(worker for worker in late if worker >= 0)

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
        return task_id != 0 and self._abandon(task_id)

    def _abandon(self, task_id: int) -> bool:
        if isinstance(self._model, ProcessModel):
            worker = self._scheduler.running(task_id)
            if worker >= 0:
                self._model.kill(worker)
            return bool(worker >= 0)
        worker = self._scheduler.abandon(task_id)
        if worker < 0:
            return False
        text = (
            f"worker {worker} of {self._name} runs a task that does not end; it is "
            "left running"
        )
        self._drop(task_id, LostWorker(text))
        self._turns[worker] += 1  # what it says when it ends is not heard
        self._care(worker, self._model.leave)
        warnings.warn(text, RuntimeWarning, stacklevel=3)
        return True

    def kill(self, worker: int) -> None:
        """End a worker process at once, and start another; its task is lost.

        Raises:
            ValueError: The model is not ``"processes"``: nothing else can be ended from
                outside.
        """
        if not isinstance(self._model, ProcessModel):
            raise ValueError("only a process can be killed")
        self._model.kill(worker)

    # ---- results ---------------------------------------------------------------------

    def _collect(self) -> None:
        try:
            while self._alive or self._futures:
                now = time.monotonic()
                with self._lock:
                    self._earliest = self._deadlines[0][0] if self._deadlines else None
                    earliest = self._earliest
                wait = None if earliest is None else max(0.0, earliest - now)
                self._deliver(self._scheduler.collect(wait))
                if earliest is not None:
                    self._expire()
        finally:
            self._over.set()

    def _deliver(self, batch: list[tuple[int, int, int, Any]]) -> None:
        finished: list[tuple[PoolFuture, Any, BaseException | None]] = []
        pop = self._futures.pop
        in_place = self._model_name == "threads"
        for task_id, outcome, worker, value in batch:
            if outcome == _NOTICE:
                self._noticed(worker, value)
                continue
            if in_place:
                future = pop(task_id, None)
                if outcome == _VALUE:
                    result, error = self._model.result(task_id, value)
                else:
                    result, error = None, self._error(outcome, value, future)
            else:
                future = pop(task_id, None)
                result, error = value, None
                if outcome != _VALUE:
                    result, error = None, self._error(outcome, value, future)
            if future is not None:
                finished.append((future, result, error))
        finish_all(finished)

    def _error(
        self, outcome: int, value: Any, future: PoolFuture | None
    ) -> BaseException:
        if outcome == _CANCELLED:
            return CancelledError()
        if isinstance(value, BaseException):
            return value
        if isinstance(value, tuple) and value[0] == "crash":
            _, code, process_id = value
            return BrokenProcess(
                f"process {process_id} ended with code {code} while it ran the task"
            )
        if value is None:
            if future is not None and future._interrupt:
                return CancelledError()
            return AtollError("the task was lost, and so was the report of why")
        error = _rebuilt(value)
        if outcome == _REFUSED and isinstance(error, NotShareableError):
            return NotShareableError(f"{error} (what the task returned)")
        return error

    def _expire(self) -> None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._deadlines or self._deadlines[0][0] > now:
                    return
                _, task_id, kind, seconds = heapq.heappop(self._deadlines)
            future = self._futures.get(task_id)
            if future is None:
                continue
            if kind == _STUCK:
                self._abandon(task_id)
                continue
            if kind == _TIMEOUT:
                # It ends `seconds` after it began, which is not before now if it has
                # not begun.
                left = seconds - max(0.0, self._scheduler.running_seconds(task_id))
                if left > 0:
                    with self._lock:
                        entry = (time.monotonic() + left, task_id, kind, seconds)
                        heapq.heappush(self._deadlines, entry)
                    continue
            late = TimeoutError("the task's time is over")
            if self._scheduler.cancel(task_id):
                self._drop(task_id, late)
                continue
            finish_all([(future, None, late)])
            self._interrupt(future)

    def _noticed(
        self, worker: int, notice: tuple[int, _pool_worker.Report | None]
    ) -> None:
        turn, failure = notice
        if turn != self._turns[worker]:
            return  # one that was left, and has come to its end after all
        if failure is not None:
            self._break(_rebuilt(failure))
        self._care(worker, self._model.ended)

    def _care(self, worker: int, end: Callable[[int], None]) -> None:
        # Ending and starting block: not on the thread that delivers.
        threading.Thread(
            target=self._renew,
            args=(worker, end),
            name=f"{self._name}-care",
            daemon=True,
        ).start()

    def _start_worker(self, worker: int) -> None:
        self._turns[worker] += 1
        self._model.start(worker, self._turns[worker])

    def _renew(self, worker: int, end: Callable[[int], None]) -> None:
        end(worker)
        again = self._broken is None and (not self._shut or self.queued > 0)
        if again:
            try:
                self._restarts += 1
                self._start_worker(worker)
                return
            except BaseException as error:
                self._break(error)
        self._alive.discard(worker)
        self._scheduler.nudge()

    def _break(self, error: BaseException) -> None:
        self._broken = error
        self._shut = True
        self._scheduler.close()
        self._scheduler.cancel_all()
        for worker in range(self._workers):
            self._scheduler.stop_worker(worker, True)
        lost: list[tuple[PoolFuture, Any, BaseException | None]] = [
            (future, None, error)
            for task_id, future in list(self._futures.items())
            if self._scheduler.running(task_id) < 0
        ]
        for future, _, _ in lost:
            self._futures.pop(future._task_id, None)
        finish_all(lost)

    # ---- start and end ---------------------------------------------------------------

    def _start_objects(self) -> tuple[Any, ...]:
        with self._lock:
            return self._initializer, self._initargs, list(self._broadcasts.items())

    def _start_data(self) -> bytes:
        data: bytes = _atoll.dumps(self._start_objects(), "initializer")
        return data

    def shutdown(
        self,
        wait: bool = True,
        *,
        cancel_futures: bool = False,
        interrupt: bool = False,
    ) -> None:
        """Take no more tasks; end the workers when those there are done.

        Args:
            wait: Until then. A task that was interrupted and does not end, because it
                is in C code, is waited for 5 s more (or `replace_stuck`); then its
                worker is left running, with a `RuntimeWarning`.
            cancel_futures: Cancel the tasks that have not begun.
            interrupt: Interrupt those that run.
        """
        self._shut = True
        if cancel_futures:
            self._scheduler.cancel_all()
        self._scheduler.close()
        if interrupt:
            for future in list(self._futures.values()):
                future.cancel(running=True)
        for future in list(self._futures.values()):
            if future._interrupt:
                self._set_alarm(future._task_id, _STUCK, _STUCK_SECONDS)
        self._scheduler.nudge()
        if wait:
            self._over.wait()
            _pools.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown(wait=True)


class _Feed:
    """The chunks of a map that are under way."""

    def __init__(
        self,
        pool: Pool,
        fn: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
    ) -> None:
        self.pool, self.fn, self.items = pool, fn, items
        self.fixed = chunksize
        self.size = chunksize or 1
        self.buffersize = buffersize
        self.ahead = 0
        self.ordered = ordered
        self.under_way: collections.deque[tuple[PoolFuture, int]] = collections.deque()
        self.done: queue.SimpleQueue[PoolFuture] = queue.SimpleQueue()
        self.counts: dict[PoolFuture, int] = {}

    def fill(self) -> None:
        """Submit as many chunks as may be ahead."""
        chunks = self.pool.workers * 2 + 2
        while len(self.under_way) + len(self.counts) < chunks or self.buffersize:
            size = self.size
            if self.buffersize is not None:
                size = min(size, self.buffersize - self.ahead)
            chunk = list(itertools.islice(self.items, size)) if size > 0 else []
            if not chunk:
                return
            future = self.pool.submit(_pool_worker.run_chunk, self.fn, chunk)
            self.ahead += len(chunk)
            if self.ordered:
                self.under_way.append((future, len(chunk)))
            else:
                self.counts[future] = len(chunk)
                future.add_done_callback(self.done.put)  # type: ignore[arg-type]

    def _next(self, deadline: float | None) -> tuple[PoolFuture, int] | None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self.ordered:
            if not self.under_way:
                return None
            future, count = self.under_way[0]
            future.result(left)
            self.under_way.popleft()
            return future, count
        if not self.counts:
            return None
        try:
            future = self.done.get(timeout=left)
        except queue.Empty:
            raise TimeoutError from None
        return future, self.counts.pop(future)

    def _measured(self, count: int, seconds: float) -> None:
        if self.fixed is None:
            wanted = int(_CHUNK_SECONDS * count / max(seconds, 1e-9))
            self.size = max(1, min(wanted, self.size * 4, _LARGEST_CHUNK))

    def results(self, deadline: float | None) -> Iterator[Any]:
        """Yield what the chunks give; cancel the rest when that is not wanted."""
        try:
            while (step := self._next(deadline)) is not None:
                future, count = step
                seconds, results, error = future.result()
                self._measured(count, seconds)
                self.ahead -= count
                if error is None:
                    self.fill()
                yield from results
                if error is not None:
                    raise _rebuilt(error)
        finally:
            for future, _ in self.under_way:
                future.cancel()
            for future in list(self.counts):
                future.cancel()


def _rebuilt(report: _pool_worker.Report) -> BaseException:
    try:
        _result(_wire.pack((False, report)))
    except BaseException as error:
        return error.with_traceback(None)
    return AtollError("a report of an error that holds none")


def _end_all() -> None:
    for pool in list(_pools):
        pool.shutdown(wait=False, cancel_futures=True, interrupt=True)
    for pool in list(_pools):
        pool._over.wait(10)


# Before non-daemon threads are joined and interpreters closed, as concurrent.futures
# does it.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
