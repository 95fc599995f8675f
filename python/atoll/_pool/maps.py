"""Maps: many calls as few tasks, fed as their results are asked for."""

import collections
import itertools
import queue
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from atoll import _atoll
from atoll._errors import ClosedError, NotShareableError
from atoll._pool.checks import count_of
from atoll._pool.future import PoolFuture
from atoll._pool.results import rebuilt
from atoll._pool.worker import run_chunk

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["Maps"]

_ITEM = re.compile(r"args\[1\]\[(\d+)\]\[(\d+)\]")
_RESULT = re.compile(r"result\[1\]\[(\d+)\]")
_CHUNK_SECONDS = 0.005
_LARGEST_CHUNK = 4096


class Maps:
    """The maps of a pool that are under way."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._feeds: weakref.WeakSet[Feed] = weakref.WeakSet()  # guarded: _lock

    def begin(
        self,
        pool: "Pool",
        fn: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        *,
        ordered: bool,
        ends: bool,
    ) -> Iterator[Any]:
        """The results of `fn` called with each of `items`; the first calls begin now.

        Args:
            pool: The pool as its user has it, which stays as long as the results do.
            fn: The function.
            items: Its arguments.
            timeout: Seconds from now for every result.
            chunksize: Calls in a task; None: as measured.
            buffersize: Calls ahead of the result that is asked for; None: some.
            ordered: Results come in the order of `items`.
            ends: `items` come to an end some time.
        """
        chunksize = count_of("chunksize", chunksize)
        buffersize = count_of("buffersize", buffersize)
        timeout = _atoll.seconds(timeout)
        if self._pool._shut:
            raise self._pool._closed_error()
        feed = Feed(pool, fn, items, chunksize, buffersize, ordered)
        deadline = None if timeout is None else time.monotonic() + timeout
        feed.fill()  # as Executor.map does
        if ends and buffersize is None:
            with self._lock:
                self._feeds.add(feed)
        return feed.results(deadline)

    def complete(self) -> None:
        """Submit all that the maps will ask for: the pool is about to take no more."""
        with self._lock:
            feeds = list(self._feeds)
        for feed in feeds:
            try:
                feed.fill(complete=True)
            except Exception as error:  # of the input, say: for who takes the results
                feed.failure = error


def _as_mapped(error: NotShareableError, first: int) -> NotShareableError:
    """`error`, of a chunk whose first call was number `first`, in the caller's words."""
    words = str(error)
    if found := _ITEM.match(words):
        place = f"iterables[{found[2]}][{first + int(found[1])}]"
    elif found := _RESULT.match(words):
        place = f"results[{first + int(found[1])}]"
    else:
        return NotShareableError(re.sub(r"^args\[0\]", "fn", words))
    return NotShareableError(place + words[found.end() :])


class Feed:
    """The chunks of a map that are under way."""

    def __init__(
        self,
        pool: "Pool",
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
        self.begun = 0  # calls, in all
        self.ordered = ordered
        self.under_way: collections.deque[tuple[PoolFuture[Any], range]] = (
            collections.deque()
        )
        self.done: queue.SimpleQueue[PoolFuture[Any]] = queue.SimpleQueue()
        self.counts: dict[PoolFuture[Any], range] = {}
        self.lock = threading.Lock()  # reading the items and queueing them is one step
        self.failure: BaseException | None = None  # why there is no more to read

    def fill(self, complete: bool = False) -> None:
        """Submit as many chunks as may be ahead, or all that are left."""
        with self.lock:
            if self.failure is None:
                self._fill(complete)

    def _fill(self, complete: bool) -> None:
        chunks = self.pool.workers * 2 + 2
        while (
            complete
            or self.buffersize
            or len(self.under_way) + len(self.counts) < chunks
        ):
            size = self.size
            if self.buffersize is not None:
                size = min(size, self.buffersize - self.ahead)
            chunk = list(itertools.islice(self.items, size)) if size > 0 else []
            if not chunk:
                return
            try:
                future = self.pool.submit(run_chunk, self.fn, chunk)
            except NotShareableError as error:
                raise _as_mapped(error, self.begun) from error.__cause__
            except ClosedError:
                # What was submitted is still given.
                self.failure = ClosedError(
                    "the pool was shut down before this map had read all of its "
                    "input: take the results before that, or let the input have a "
                    "length"
                )
                self.failure.__suppress_context__ = True
                return
            future._function = self.fn  # for people
            calls = range(self.begun, self.begun + len(chunk))
            self.begun = calls.stop
            self.ahead += len(chunk)
            if self.ordered:
                self.under_way.append((future, calls))
            else:
                self.counts[future] = calls
                future.add_done_callback(self.done.put)  # type: ignore[arg-type]

    def _next(self, deadline: float | None) -> tuple[PoolFuture[Any], range] | None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self.ordered:
            if not self.under_way:
                return None
            future, calls = self.under_way[0]
            try:
                future.result(left)
            except NotShareableError:
                pass  # results() says it
            self.under_way.popleft()
            return future, calls
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
                future, calls = step
                try:
                    seconds, results, error = future.result()
                except NotShareableError as refused:
                    raise _as_mapped(refused, calls.start) from refused.__cause__
                self._measured(len(calls), seconds)
                self.ahead -= len(calls)
                if error is None:
                    self.fill()
                yield from results
                if error is not None:
                    raise rebuilt(error)
            if self.failure is not None:
                raise self.failure
        finally:
            for future, _ in self.under_way:
                future.cancel()
            for future in list(self.counts):
                future.cancel()
