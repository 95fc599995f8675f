"""joblib on atoll: ``parallel_config(backend="atoll")``, and so scikit-learn's `n_jobs`.

Importing this module registers the backend::

    import atoll.joblib
    from joblib import parallel_config

    with parallel_config(backend="atoll", n_jobs=2):
        search.fit(X, y)

Tasks run in the workers of an `atoll.Pool`, which stay warm between calls: modules that
a task imported are there for the next one. The options of the backend are those of the
pool: ``parallel_config(backend="atoll", model="processes")``.

See https://joblib.readthedocs.io/en/stable/custom_parallel_backend.html.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import (
    AutoBatchingMixin,
    ParallelBackendBase,
    SequentialBackend,
)

from atoll._pool.executor import Pool

__all__ = ["AtollBackend", "close_pools"]

_pools: dict[tuple[int, str], Pool] = {}
_pools_lock = threading.Lock()


def _warm_pool(workers: int, model: str) -> Pool:
    """The process's pool of so many workers of that model, made when asked for first."""
    with _pools_lock:
        pool = _pools.get((workers, model))
        if pool is None:
            pool = Pool(workers, model, name="atoll-joblib")  # type: ignore[arg-type]
            _pools[workers, model] = pool
        return pool


def close_pools() -> None:
    """Shut down the warm pools, and with them give back their workers' memory.

    The next parallel call makes new ones. Any thread of the main interpreter.
    """
    with _pools_lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.shutdown(cancel_futures=True)


atexit.register(close_pools)


class AtollBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """joblib's view of an `atoll.Pool`.

    Args:
        model: ``"auto"``, ``"interpreters"``, ``"threads"`` or ``"processes"``; see
            `atoll.Pool`.
    """

    supports_retrieve_callback = True
    supports_timeout = True

    def __init__(self, *args: Any, model: str = "auto", **options: Any) -> None:
        super().__init__(*args, **options)
        self._model = model
        self._pool: Pool | None = None
        self._futures: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers `n_jobs` stands for; -1: all CPUs, -2: all but one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        cpus = os.process_cpu_count() or 1
        return max(cpus + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Get the pool ready for a call of `parallel`; how many workers it has."""
        self.parallel = parallel
        self._model = options.get("model", self._model)
        workers = self.effective_n_jobs(n_jobs)
        self._pool = _warm_pool(workers, self._model)
        return workers

    def submit(
        self,
        func: Callable[[], Any],
        callback: Callable[[Future[Any]], None] | None = None,
    ) -> Future[Any]:
        """Queue a batch of calls; `callback` gets the future when it is done."""
        if self._pool is None:
            raise RuntimeError("configure() comes before submit()")
        future = self._pool.submit(func)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The batch's results, or its exception raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A task failed: drop those that wait. Running ones end unheard."""
        for future in list(self._futures):
            future.cancel()
        if not ensure_ready:
            self._pool = None

    def terminate(self) -> None:
        """The call is over; the pool stays warm for the next. See `close_pools`."""
        self.reset_batch_stats()

    def get_nested_backend(self) -> tuple[SequentialBackend, None]:
        """Parallel calls inside a task run one after the other: the cores are taken."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


register_parallel_backend("atoll", AtollBackend)
