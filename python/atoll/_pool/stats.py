"""What a pool tells of itself: the types of `Pool.stats()`."""

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["PoolStats", "WorkerStats", "stats_of"]


class WorkerStats(TypedDict):
    """One worker of a pool.

    Attributes:
        worker: Its number, from 0.
        task: The number of the task that it runs; 0: none.
        function: What that calls, by name; None where it is not known.
        seconds: For which it has run.
        tasks: That ended on workers of this number.
        resident_bytes: Memory of the process; what Python objects take in the
            interpreter; None for threads, and where it is not known.
        restarts: How often a worker of this number was replaced.
        interpreter: Its id, for ``"interpreters"``.
        thread: Its native id, for ``"threads"``.
        process: Its id, for ``"processes"``.
    """

    worker: int
    task: int
    function: str | None
    seconds: float
    tasks: int
    resident_bytes: int | None
    restarts: int
    interpreter: NotRequired[int]
    thread: NotRequired[int]
    process: NotRequired[int]


class PoolStats(TypedDict):
    """A pool.

    Attributes:
        pool: Its number in this process, from 1.
        name: What it was called.
        model: ``"interpreters"``, ``"threads"`` or ``"processes"``.
        queued: Tasks that wait for a worker.
        unfinished: Tasks that wait or run.
        restarts: Workers that were replaced.
        workers: One entry for each.
    """

    pool: int
    name: str
    model: str
    queued: int
    unfinished: int
    restarts: int
    workers: list[WorkerStats]


def _name_of(function: Any) -> str:
    try:
        return str(getattr(function, "__qualname__", None) or type(function).__name__)
    except Exception:  # of an object that answers for its attributes itself
        return "?"


def stats_of(pool: "Pool") -> PoolStats:
    """A snapshot, from counters: no worker is asked."""
    return {
        "pool": pool._number,
        "name": pool._name,
        "model": pool._model_name,
        "queued": pool.queued,
        "unfinished": len(pool._futures),
        "restarts": pool._crew.restarts,
        "workers": [_worker_stats(pool, number) for number in range(pool._workers)],
    }


def _worker_stats(pool: "Pool", worker: int) -> WorkerStats:
    scheduler = pool._scheduler
    task_id = scheduler.current(worker)
    future = pool._futures.get(task_id) if task_id else None
    function = future._function if future is not None else None
    stats: WorkerStats = {
        "worker": worker,
        "task": task_id,
        "function": None if function is None else _name_of(function),
        "seconds": max(0.0, scheduler.running_seconds(task_id)) if task_id else 0.0,
        "tasks": scheduler.done(worker),
        "resident_bytes": pool._model.resident_bytes(worker),
        "restarts": pool._crew.restarts_of[worker],
    }
    stats.update(pool._model.place(worker))  # type: ignore[typeddict-item]
    return stats
