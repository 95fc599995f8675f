"""Watching files for `--reload`: with watchfiles where it is installed."""

import fnmatch
import importlib
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

logger = logging.getLogger("atoll.server")

#: Seconds between two looks, without watchfiles.
LOOK_S = 0.5


class Watcher:
    """Calls `changed` when a file changes; a context manager around the watching.

    Args:
        folders: What to watch, with everything below.
        patterns: Of the names of the files that matter.
        changed: Called on a thread of the watcher, once for several changes that come
            together.
    """

    def __init__(
        self,
        folders: Iterable[str],
        patterns: Iterable[str],
        changed: Callable[[], None],
    ) -> None:
        self.folders = [str(Path(folder).resolve()) for folder in folders]
        self.patterns = tuple(patterns)
        self.changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="atoll-reload", daemon=True
        )

    def __enter__(self) -> Self:
        # Before the thread: what changes after this call is seen.
        self._before = self._look()
        self._thread.start()
        logger.info("watching %s for changes", ", ".join(self.folders))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _matters(self, path: str) -> bool:
        name = Path(path).name
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.patterns)

    def _watch(self) -> None:
        try:
            watchfiles: Any = importlib.import_module("watchfiles")
        except ImportError:
            self._look_again_and_again()
            return
        # A change between the first look and its own start would be missed: look once
        # more when it has started, which its first timeout says.
        for changes in watchfiles.watch(
            *self.folders,
            watch_filter=lambda _, path: self._matters(path),
            stop_event=self._stop,
            rust_timeout=500,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            if changes:
                self._tell(path for _, path in changes)
            elif self._before is not None:
                self._compare(self._look())
                self._before = None

    def _look_again_and_again(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._compare(self._look())

    def _look(self) -> "dict[str, tuple[int, int]] | None":
        found = {}
        for folder in self.folders:
            for path in Path(folder).rglob("*"):
                if self._matters(str(path)):
                    try:
                        status = path.stat()
                    except OSError:
                        continue
                    found[str(path)] = (status.st_mtime_ns, status.st_size)
        return found

    def _compare(self, now: "dict[str, tuple[int, int]] | None") -> None:
        before, self._before = self._before, now
        if before is not None and now is not None and before != now:
            self._tell(
                path
                for path in before.keys() | now.keys()
                if before.get(path) != now.get(path)
            )

    def _tell(self, paths: Iterable[str]) -> None:
        logger.info("changed: %s", ", ".join(sorted(paths)))
        self.changed()
