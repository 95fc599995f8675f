"""Run Python in parallel inside one process.

Interpreters with a GIL each, free threads and processes behind one API; every C
extension imports in each of them. See https://peps.python.org/pep-0684/ and
https://peps.python.org/pep-0734/ for what CPython gives and this package completes.
"""

from typing import TYPE_CHECKING

from atoll._atoll import (
    AtomicInt,
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
)
from atoll._buffer import SharedArray, SharedBuffer, open_shared, transfer
from atoll._channel import Broadcast, Channel, Subscription, select
from atoll._dict import SharedDict
from atoll._enable import enable
from atoll._errors import (
    AtollError,
    BrokenBarrierError,
    ClosedError,
    Empty,
    Full,
    InterpreterError,
    LaggedError,
    NotShareableError,
    OwnerDeadError,
    RemoteTraceback,
    RequestTimeout,
)
from atoll._interpreter import Interpreter, get_current, list_interpreters

if TYPE_CHECKING:
    from atoll._pool.executor import BrokenPool, BrokenProcess, LostWorker, Pool
    from atoll._server.server import Server
    from atoll._server.stats import Histogram, ServerStats, WorkerStats
    from atoll._struct import Struct, StructArray

__all__ = [
    "AtollError",
    "AtomicInt",
    "Barrier",
    "BoundedSemaphore",
    "Broadcast",
    "BrokenBarrierError",
    "BrokenPool",
    "BrokenProcess",
    "Channel",
    "ClosedError",
    "Condition",
    "Empty",
    "Event",
    "Full",
    "Histogram",
    "Interpreter",
    "InterpreterError",
    "LaggedError",
    "Lock",
    "LostWorker",
    "NotShareableError",
    "OwnerDeadError",
    "Pool",
    "RLock",
    "RemoteTraceback",
    "RequestTimeout",
    "Semaphore",
    "Server",
    "ServerStats",
    "SharedArray",
    "SharedBuffer",
    "SharedDict",
    "Struct",
    "StructArray",
    "Subscription",
    "WorkerStats",
    "__version__",
    "enable",
    "get_current",
    "list_interpreters",
    "open_shared",
    "select",
    "transfer",
]

__version__: str


def __getattr__(name: str) -> object:
    # Not every interpreter pays for these: the server's part, and importlib.metadata,
    # the largest import of all.
    if name in ("BrokenPool", "BrokenProcess", "LostWorker", "Pool"):
        from atoll._pool import executor

        return getattr(executor, name)
    if name in ("Struct", "StructArray"):
        from atoll import _struct

        return getattr(_struct, name)
    if name == "Server":
        from atoll._server.server import Server

        return Server
    if name in ("Histogram", "ServerStats", "WorkerStats"):
        from atoll._server import stats

        return getattr(stats, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("atoll")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
