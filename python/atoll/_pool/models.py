"""The models of a pool: how its workers start, are interrupted, and end.

Processes are in `processes`.
"""

import threading
from typing import TYPE_CHECKING, Any

from atoll import _atoll, _wire
from atoll._atoll import SharedDict
from atoll._errors import ClosedError
from atoll._interpreter import Interpreter
from atoll._pool import worker as _worker

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["InterpreterModel", "Model", "ThreadModel", "join"]


def join(thread: threading.Thread) -> None:
    """Wait for a thread; not for one whose start was cut off before there was any."""
    try:
        thread.join()
    except RuntimeError:
        pass


# What a worker begins with is called in the path to what cannot be sent.
START = "initializer", "initargs"


class Model:
    """A model; its methods are called with a worker's number."""

    name: str
    can_kill = False  # `kill` ends a worker from outside
    start_takes_long = False  # `start` comes back when there is a worker
    submit_is_plain = False  # `submit` does no more than the desk's
    # (value, exception or None) by task, where results are objects already when the
    # scheduler hears of them.
    values: dict[int, tuple[Any, BaseException | None]] | None = None

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool

    def pack_start(self, start: tuple[Any, Any]) -> None:
        """Keep the initializer and its arguments for every worker that starts.

        What cannot be sent is told now. And packing may import, which other threads
        cannot while this one imports the module that makes the pool.

        Raises:
            NotShareableError: A worker cannot have them.
        """

    def submit(self, task_id: int, call: tuple[Any, Any, Any], worker: int) -> None:
        """Queue a call (function, args, kwargs)."""
        raise NotImplementedError

    def start(self, worker: int, turn: int) -> None:
        """Start the worker; it sends a notice (turn, failure or None) when it ends.

        Raises:
            Exception: It could not be started. Where that shows later it is said by
                `start_error` when the notice has come.
        """
        raise NotImplementedError

    def start_error(self, worker: int) -> Exception | None:
        """Why a worker that ended was none: the system did not let it start."""
        return None

    def has(self, worker: int) -> bool:
        """Has it been started, and not ended?"""
        raise NotImplementedError

    def interrupt(self, worker: int) -> None:
        """Raise `TaskInterrupted` in what the worker runs."""
        raise NotImplementedError

    def ended(self, worker: int) -> None:
        """Clean up after a worker that has said that it ended. May block."""
        raise NotImplementedError

    def leave(self, worker: int) -> None:
        """Let go of a worker that does not end."""
        raise NotImplementedError

    def kill(self, worker: int) -> None:
        """End the worker at once, where that is possible."""
        raise ValueError("only a process can be killed")

    def forget(self, task_id: int) -> None:
        """The task is over, and its result is not wanted."""

    def resident_bytes(self, worker: int) -> int | None:
        """Memory of the worker, where it has its own."""
        return None

    def place(self, worker: int) -> dict[str, int]:
        """Where it runs: "interpreter" and "thread", or "process", by number."""
        return {}


class InterpreterModel(Model):
    """Interpreters of this process, each with its own GIL."""

    name = "interpreters"
    start_takes_long = True
    submit_is_plain = True

    def __init__(self, pool: "Pool") -> None:
        super().__init__(pool)
        self._running: dict[int, tuple[Interpreter, Any]] = {}

    def pack_start(self, start: tuple[Any, Any]) -> None:
        _wire.pack(start, START)  # what cannot be sent is told by these names
        self._start = SharedDict(start=start)  # packed once, for any number

    def submit(self, task_id: int, call: tuple[Any, Any, Any], worker: int) -> None:
        self.pool._scheduler.submit(task_id, *call, worker)

    def start(self, worker: int, turn: int) -> None:
        interpreter = Interpreter(name=f"{self.pool._name}-{worker}")
        heap_limit = self.pool._max_memory or 0
        if heap_limit and _atoll.heap_bytes(interpreter.id) is None:
            interpreter.close()
            raise ValueError(
                "max_memory_per_worker: this process keeps no account of what its "
                "interpreters hold (no GIL, another allocator, such as "
                "PYTHONMALLOC or python -X dev asks for, or interpreters that were "
                "there before atoll)"
            )
        scheduler = self.pool._scheduler
        arguments = (
            scheduler.share(),
            self.pool._workers,
            worker,
            turn,
            self.pool._limit,
            heap_limit,
            self._start,
            SharedDict(broadcasts=self.pool._kept()),
        )
        job = _atoll.interpreter_post(
            interpreter.id,
            _wire.pack((_worker.work_in_interpreter, arguments, {})),
            True,
        )
        self._running[worker] = interpreter, job

    def interrupt(self, worker: int) -> None:
        interpreter, job = self._running[worker]
        try:
            _atoll.interpreter_interrupt(
                interpreter.id, job, "atoll._pool.worker:TaskInterrupted"
            )
        except ClosedError:
            pass

    def has(self, worker: int) -> bool:
        return worker in self._running

    def ended(self, worker: int) -> None:
        interpreter, _ = self._running.pop(worker)
        interpreter.close()

    def resident_bytes(self, worker: int) -> int | None:
        held = self._running.get(worker)
        return None if held is None else _atoll.heap_bytes(held[0].id)

    def place(self, worker: int) -> dict[str, int]:
        held = self._running.get(worker)
        return {} if held is None else {"interpreter": held[0].id}

    def leave(self, worker: int) -> None:
        interpreter, _ = self._running.pop(worker)
        _atoll.interpreter_close_begin(interpreter.id, None)
        _atoll.interpreter_reap(interpreter.id)


class ThreadModel(Model):
    """Threads of this interpreter: parallel where there is no GIL."""

    name = "threads"

    def __init__(self, pool: "Pool") -> None:
        super().__init__(pool)
        pool._scheduler.share_gil()
        self._threads: dict[int, threading.Thread] = {}
        self._calls: dict[int, tuple[Any, Any, Any]] = {}
        self.values: dict[int, tuple[Any, BaseException | None]] = {}

    def submit(self, task_id: int, call: tuple[Any, Any, Any], worker: int) -> None:
        self._calls[task_id] = call
        try:
            self.pool._scheduler.submit_number(task_id, worker)
        except BaseException:
            del self._calls[task_id]
            raise

    def _run(self, task_id: int) -> None:
        function, args, kwargs = self._calls.pop(task_id)
        args = tuple(a.value if type(a) is _worker.Broadcast else a for a in args)
        try:
            self.values[task_id] = function(*args, **kwargs), None
        except _worker.TaskInterrupted:
            raise
        except BaseException as exception:
            self.values[task_id] = None, exception

    def start(self, worker: int, turn: int) -> None:
        thread = threading.Thread(
            target=_worker.work_on_thread,
            args=(
                self.pool._scheduler,
                worker,
                turn,
                self.pool._limit,
                self._run,
                self.pool._start_objects(),
            ),
            name=f"{self.pool._name}-{worker}",
            daemon=True,
        )
        self._threads[worker] = thread
        thread.start()

    def interrupt(self, worker: int) -> None:
        thread = self._threads[worker]
        _atoll.interrupt_thread(thread.ident or 0, _worker.TaskInterrupted)

    def has(self, worker: int) -> bool:
        return worker in self._threads

    def ended(self, worker: int) -> None:
        join(self._threads.pop(worker))

    def place(self, worker: int) -> dict[str, int]:
        thread = self._threads.get(worker)
        return {} if thread is None else {"thread": thread.native_id or 0}

    def leave(self, worker: int) -> None:
        del self._threads[worker]

    def forget(self, task_id: int) -> None:
        self._calls.pop(task_id, None)
        self.values.pop(task_id, None)
