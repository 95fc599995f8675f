"""Dask on atoll: a `Pool` as local scheduler, and inside the workers of a cluster.

As local scheduler, for graphs whose tasks hold the GIL::

    import atoll.dask
    total = array.sum().compute(scheduler=atoll.dask.get)

Inside each worker of a cluster, where it takes the place of the thread pool::

    dask worker tcp://scheduler:8786 --preload atoll.dask --nthreads 4

The worker then runs its tasks in as many interpreters as it has threads, in one process.
Its thread pool stays as the executor "threads": for tasks that ask for their worker, or
that share something with it, there is ``dask.annotate(executor="threads")``.
See https://docs.dask.org/en/stable/scheduling.html and
https://docs.dask.org/en/stable/deploying-cli.html#preload-scripts.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Hashable, Mapping
from typing import Any

from atoll._pool.executor import Pool

__all__ = ["close_pool", "dask_setup", "dask_teardown", "get", "use_in_worker"]

_lock = threading.Lock()
_pool: Pool | None = None


def _local_pool() -> Pool:
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool(name="atoll-dask")
        return _pool


def close_pool() -> None:
    """Shut down the local scheduler's pool; the next `get` makes a new one."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(cancel_futures=True)


atexit.register(close_pool)


class _Submitter:
    """What Dask's local schedulers ask of an executor: `submit`, and its size."""

    def __init__(self, pool: Pool) -> None:
        self.submit = pool.submit
        self._max_workers = pool.workers


def get(
    dsk: Mapping[Any, Any],
    keys: Hashable | list[Any],
    *,
    pool: Pool | None = None,
    **options: Any,
) -> Any:
    """Compute `keys` of the graph `dsk` in an `atoll.Pool`: a Dask scheduler.

    Args:
        dsk: The graph.
        keys: A key, or nested lists of them.
        pool: The pool to use; by default one that stays warm for the process, with as
            many workers as there are CPUs.
        **options: Those of `dask.multiprocessing.get`.

    Returns:
        The values, in the shape of `keys`.

    Raises:
        Exception: Whatever a task raised.
    """
    from dask import multiprocessing

    return multiprocessing.get(
        dsk, keys, pool=_Submitter(pool or _local_pool()), **options
    )


def use_in_worker(worker: Any, pool: Pool | None = None) -> Pool:
    """Have a `distributed.Worker` run its tasks in `pool`.

    Args:
        worker: The worker; its number of threads says how many workers a pool made
            here has.
        pool: The pool, or None for a new one.

    Returns:
        The pool; the worker shuts it down when it closes. The thread pool that was there
        is its executor "threads".
    """
    if pool is None:
        pool = Pool(worker.state.nthreads, name="atoll-dask")
    worker.executors.setdefault("threads", worker.executors["default"])
    worker.executors["default"] = pool
    return pool


async def dask_setup(worker: Any) -> None:
    """Called by ``dask worker --preload atoll.dask`` when the worker starts."""
    if not hasattr(worker, "executors"):
        raise TypeError(
            "atoll.dask is preloaded by workers; without a nanny: the process itself "
            f"must be the worker, this is a {type(worker).__name__}"
        )
    use_in_worker(worker)


async def dask_teardown(worker: Any) -> None:
    """Called when the worker closes: its interpreters end with it."""
    pool = worker.executors.get("default")
    if isinstance(pool, Pool):
        await asyncio.get_running_loop().run_in_executor(
            None, lambda: pool.shutdown(cancel_futures=True)
        )
