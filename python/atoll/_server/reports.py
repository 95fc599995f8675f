"""What workers report, and that they have ended, as the supervisor's loop hears it.

A report is a JSON line. A worker of this process has ended when its socket's other end
is closed; one that is a process, when its pidfd says so, which may be before the last of
its reports was read.
"""

import json
import os
import selectors
from collections.abc import Callable
from typing import Any

from atoll._server.hosts import WorkerRecord


class Reports:
    """Listens to workers; everything on the supervisor's thread.

    Args:
        selector: The supervisor's. The data of its keys are called when they are ready.
        heard: Is given each report, and whose it is.
        ended: Is told of each worker that has ended, once.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        heard: Callable[[WorkerRecord, dict[str, Any]], None],
        ended: Callable[[WorkerRecord], None],
    ) -> None:
        self._selector = selector
        self._heard = heard
        self._ended = ended

    def open(self, worker: WorkerRecord) -> None:
        """Listen to one that was started."""
        self._watch(worker.reader, lambda: self._take_some(worker))
        self.watch_death(worker)

    def watch_death(self, worker: WorkerRecord) -> None:
        """Hear of its end by `death_fd`, where it has that (by now)."""
        if worker.death_fd >= 0:
            self._watch(worker.death_fd, lambda: self._end(worker))

    def _watch(self, descriptor: int, action: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, action)

    def _take_some(self, worker: WorkerRecord) -> None:
        self._take(worker)
        if worker.reader < 0 and worker.death_fd < 0:
            self._ended(worker)

    def _take(self, worker: WorkerRecord) -> bool:
        """Hear what has come; False: nothing, or the end, after which nothing comes."""
        try:
            data = os.read(worker.reader, 65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            self._forget_reader(worker)
            return False
        *lines, worker.pending = (worker.pending + data).split(b"\n")
        for line in lines:
            self._heard(worker, json.loads(line))
        return True

    def _end(self, worker: WorkerRecord) -> None:
        while worker.reader >= 0 and self._take(worker):
            pass  # what it said last
        self._forget_reader(worker)
        self._selector.unregister(worker.death_fd)
        os.close(worker.death_fd)
        worker.death_fd = -1
        self._ended(worker)

    def _forget_reader(self, worker: WorkerRecord) -> None:
        if worker.reader >= 0:
            self._selector.unregister(worker.reader)
            os.close(worker.reader)
            worker.reader = -1
