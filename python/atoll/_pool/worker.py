"""What a pool's workers run: in an interpreter, on a thread, in a process.

An interrupt is an exception that another thread sends, and so it may come when the
task that it was meant for is over. The scheduler knows (it marks the task under the
lock under which tasks end) and has the worker settle: wait for the exception to arrive
before it takes another task.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from atoll import _atoll, _remote, _wire
from atoll._atoll import SharedDict

if TYPE_CHECKING:
    from atoll._pool.handles import Arrived

__all__ = [
    "Broadcast",
    "TaskInterrupted",
    "work_in_interpreter",
    "work_on_thread",
]

_LOST_SECONDS = 5.0

delivered: defaultdict[int, int] = defaultdict(int)
_expected: defaultdict[int, int] = defaultdict(int)


class TaskInterrupted(BaseException):
    """Raised inside a running task that was cancelled or whose time is over."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        delivered[threading.get_ident()] += 1


def settle() -> None:
    """Wait for the interrupt that is under way to this thread.

    It is raised between two bytecodes, so that there is nothing to block on. One that
    was lost, because its sender failed, is given up after a while.

    Raises:
        TaskInterrupted: it came before this could count it. A second call counts it, and
            returns at once.
    """
    here = threading.get_ident()
    try:
        _expected[here] += 1
        until = time.monotonic() + _LOST_SECONDS
        while delivered[here] < _expected[here] and time.monotonic() < until:
            time.sleep(0.0005)
    except TaskInterrupted:
        pass
    _expected[here] = delivered[here]


# An exception on its way: itself packed where it can be, the name of its type, its
# text, its traceback.
type Report = tuple[bytes | SharedDict | None, str, str, str]


def describe(exception: BaseException) -> Report:
    """The report of an exception, with its traceback."""
    _, words = _wire.unpack(_remote.error(exception))
    described: Report = words
    return described


def report(exception: BaseException) -> Report | None:
    """What the pool is told of an exception; None for an interrupt."""
    if isinstance(exception, TaskInterrupted):
        return None
    return describe(exception)


# ---- objects that every worker keeps -------------------------------------------------

_kept: dict[str, Any] = {}


def keep(token: str, value: Any) -> None:
    """Keep a broadcast object in this worker."""
    _kept[token] = value


def drop(token: str) -> None:
    """Let it go."""
    _kept.pop(token, None)


def kept(token: str) -> Any:
    """The object that was broadcast as `token`."""
    try:
        return _kept[token]
    except KeyError:
        raise LookupError("the broadcast object was released") from None


class Broadcast:
    """An object that every worker of a pool keeps; made by `Pool.broadcast`.

    As an argument of a task it arrives as the object itself, without being sent again.
    """

    def __init__(self, token: str, value: Any, release: Callable[[str], None]) -> None:
        self._token = token
        self._release = release
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return kept, (self._token,)

    def release(self) -> None:
        """Let every worker drop it."""
        self._release(self._token)


# ---- chunks --------------------------------------------------------------------------


def run_chunk(
    function: Callable[..., Any], items: list[tuple[Any, ...]]
) -> tuple[float, list[Any], Report | None]:
    """Call `function` for each of `items`: seconds, results, the first error."""
    began = time.perf_counter()
    results = []
    failure = None
    try:
        for arguments in items:
            results.append(function(*arguments))
    except TaskInterrupted:
        raise
    except BaseException as exception:  # also sys.exit(): what came before is given
        failure = describe(exception)
    return time.perf_counter() - began, results, failure


# ---- interpreters and threads --------------------------------------------------------


def begin(
    initializer: Callable[..., Any] | None, initargs: tuple[Any, ...], keeps: Any
) -> Report | None:
    """What a worker does first: keep what was broadcast, call the initializer."""
    try:
        for token, value in keeps:
            keep(token, value)
        if initializer is not None:
            initializer(*initargs)
    except BaseException as exception:
        return describe(exception)
    return None


def begin_packed(start: bytes, arrived: "Arrived") -> Report | None:
    """`begin` with what a process is sent; its shared things have arrived."""
    try:
        with arrived:
            first, keeps = _atoll.loads(start, trusted=True)
            initializer, initargs = _atoll.loads(first, trusted=True)
    except BaseException as exception:
        return describe(exception)
    return begin(initializer, initargs, keeps)


def work_in_interpreter(
    address: int,
    workers: int,
    worker: int,
    turn: int,
    limit: int,
    heap_limit: int,
    start: SharedDict,
    keeps: SharedDict,
) -> None:
    """Run tasks until the scheduler is closed, or a limit is reached (0: none).

    Args:
        address: Of the scheduler.
        workers: How many it has.
        worker: The number of this one.
        turn: Which one of that number.
        limit: How many tasks it runs.
        heap_limit: Bytes above which it takes no other task.
        start: The initializer and its arguments, packed.
        keeps: What was broadcast, packed.
    """
    scheduler = _atoll.Scheduler(workers, address)
    failure = None
    try:
        initializer, initargs = start["start"]
        failure = begin(initializer, initargs, keeps["broadcasts"])
        if failure is None:
            scheduler.work(worker, limit, None, report, settle, heap_limit)
    except BaseException as exception:
        failure = describe(exception)
    finally:
        scheduler.notice(worker, (turn, failure))


def work_on_thread(
    scheduler: Any,
    worker: int,
    turn: int,
    limit: int,
    runner: Callable[[int], None],
    start: Any,
) -> None:
    """The same on a thread of this interpreter."""
    failure = None
    try:
        failure = begin(*start)
        if failure is None:
            scheduler.work(worker, limit, runner, report, settle)
    except BaseException as exception:
        failure = describe(exception)
    finally:
        scheduler.notice(worker, (turn, failure))
