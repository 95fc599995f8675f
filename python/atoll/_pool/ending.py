"""The pools of this interpreter: what becomes of them when it ends, or forks.

As with the executors of the standard library, what was submitted is done before the
program ends, whether or not anybody shut the pool down; unless the program ends by
Ctrl-C, or Ctrl-C is pressed while it waits.
"""

import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["forget", "living", "remember"]

_LAST_SECONDS = 10.0  # for what was interrupted to end in

_pools: weakref.WeakSet["Pool"] = weakref.WeakSet()
_lock = threading.Lock()


def remember(pool: "Pool") -> None:
    """The pool has begun."""
    with _lock:
        _pools.add(pool)


def forget(pool: "Pool") -> None:
    """It has ended."""
    with _lock:
        _pools.discard(pool)


def living() -> list["Pool"]:
    """Those that have begun and not ended."""
    with _lock:
        return list(_pools)


def _end_all() -> None:
    pools = living()
    try:
        if isinstance(getattr(sys, "last_exc", None), KeyboardInterrupt):
            raise KeyboardInterrupt
        for pool in pools:
            pool.shutdown(wait=False)
        for pool in pools:
            pool._delivery.over.wait()
    except KeyboardInterrupt:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True, interrupt=True)
        for pool in pools:
            pool._delivery.over.wait(_LAST_SECONDS)


def _leave_all() -> None:
    """In the child of a fork: it has none of the threads, and their locks as they were.

    Nothing here takes one of them.
    """
    global _lock
    for pool in list(_pools):
        pool._foreign = pool._shut = True
    _lock = threading.Lock()
    _pools.clear()


# Before non-daemon threads are joined and interpreters closed, as concurrent.futures
# does it.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_leave_all)
