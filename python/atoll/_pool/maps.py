"""Maps: many calls as few tasks, fed as their results are asked for."""

import collections
import itertools
import queue
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from atoll._errors import NotShareableError
from atoll._pool.future import PoolFuture
from atoll._pool.results import rebuilt
from atoll._pool.worker import run_chunk

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["mapped", "with_progress"]

_ITEM = re.compile(r"args\[1\]\[(\d+)\]\[(\d+)\]")
_RESULT = re.compile(r"result\[1\]\[(\d+)\]")
_CHUNK_SECONDS = 0.005
_LARGEST_CHUNK = 4096


def mapped(
    pool: "Pool",
    fn: Callable[..., Any],
    items: Iterator[tuple[Any, ...]],
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
    *,
    ordered: bool,
) -> Iterator[Any]:
    """The results of `fn` called with each of `items`; the first calls begin now."""
    if chunksize is not None and chunksize < 1:
        raise ValueError("chunksize must be at least 1")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be at least 1")
    if pool._shut:
        raise pool._closed_error()
    feed = Feed(pool, fn, items, chunksize, buffersize, ordered)
    deadline = None if timeout is None else time.monotonic() + timeout
    feed.fill()  # as Executor.map does
    return feed.results(deadline)


def with_progress(
    results: Iterator[Any], iterables: tuple[Iterable[Any], ...]
) -> Iterator[Any]:
    """`results` with a progress bar."""
    from rich.progress import track

    lengths = [len(i) for i in iterables if isinstance(i, Sized)]
    return iter(track(results, total=min(lengths) if lengths else None, description=""))


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
        self.under_way: collections.deque[tuple[PoolFuture, range]] = (
            collections.deque()
        )
        self.done: queue.SimpleQueue[PoolFuture] = queue.SimpleQueue()
        self.counts: dict[PoolFuture, range] = {}

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
            try:
                future = self.pool.submit(run_chunk, self.fn, chunk)
            except NotShareableError as error:
                raise _as_mapped(error, self.begun) from error.__cause__
            future._function = self.fn  # for people
            calls = range(self.begun, self.begun + len(chunk))
            self.begun = calls.stop
            self.ahead += len(chunk)
            if self.ordered:
                self.under_way.append((future, calls))
            else:
                self.counts[future] = calls
                future.add_done_callback(self.done.put)  # type: ignore[arg-type]

    def _next(self, deadline: float | None) -> tuple[PoolFuture, range] | None:
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
        finally:
            for future, _ in self.under_way:
                future.cancel()
            for future in list(self.counts):
                future.cancel()
