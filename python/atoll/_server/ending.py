"""Ends that are forced: of workers that were asked to end, and do not.

A process is killed. A thread cannot be ended from outside: it is left, and the process
ends without it. Who serves has the time that `timeout_drain` says and somewhat more;
who only starts has nothing to finish, and may never get to where it is asked to end.
"""

import logging
import time
from collections.abc import Callable, Sequence

from atoll._server.hosts import Host, WorkerRecord
from atoll._server.plan import Plan
from atoll._server.settings import Settings
from atoll._server.starting import Starts

logger = logging.getLogger("atoll.server")

#: Seconds beyond `timeout_drain` after which the end of a process is forced.
KILL_AFTER_S = 10.0
#: The same for a thread, which is only left: its lifespan and interpreter have so long.
LEAVE_AFTER_S = 5.0
#: Seconds for workers to end that are still starting.
LEAVE_STARTING_S = 0.5
#: The same where others serve: theirs takes a while mostly, and the start may be over.
LEAVE_SUCCESSOR_S = 3.0
#: The same for a process, which does that by itself as long as it can.
KILL_SUCCESSOR_S = 5.0


class Endings:
    """Forces ends when they are due; everything on the supervisor's thread.

    Args:
        settings: `timeout_drain`.
        plan: What a worker is.
        host: Where they run.
        left: Workers that nobody waits for any more; more are added.
        replace: Has a worker replaced that was left while the server goes on.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        host: Host,
        left: list[WorkerRecord],
        replace: Callable[[WorkerRecord], None],
    ) -> None:
        #: Tells of those that start, where they are.
        self.starts: Starts[WorkerRecord] = Starts(settings, host, self._let_go)
        self._patience_s = settings.timeout_drain
        self._processes = plan.processes > 0
        self._workers = plan.workers
        self._host = host
        self._left = left
        self._replace = replace
        self._leave_at: float | None = None

    # ---- who has how long ----

    def give_time(self, worker: WorkerRecord) -> None:
        """It was asked to end; a process has so long for it."""
        if self._processes and worker.running and self._patience_s:
            worker.kill_at = time.monotonic() + self._patience_s + KILL_AFTER_S

    def hurry(self, worker: WorkerRecord) -> None:
        """It was asked to end before it serves."""
        if self._processes and worker.beside_others and self._workers > 1:
            return  # some of its workers may serve: it looks itself
        patience = LEAVE_STARTING_S
        if worker.beside_others:
            patience = KILL_SUCCESSOR_S if self._processes else LEAVE_SUCCESSOR_S
        worker.kill_at = time.monotonic() + patience

    def give_all_time(self) -> None:
        """Everyone was asked to end, and no thread is waited for longer than this."""
        if self._patience_s and not self._processes:
            self._leave_at = time.monotonic() + self._patience_s + LEAVE_AFTER_S

    # ---- when it is over ----

    def next_look(self, workers: Sequence[WorkerRecord]) -> float | None:
        """When to look again (`time.monotonic()`); None: nothing is due."""
        moments = [worker.kill_at for worker in workers if worker.kill_at is not None]
        if self._leave_at is not None:
            moments.append(self._leave_at)
        if (moment := self.starts.next_look(workers)) is not None:
            moments.append(moment)
        return min(moments, default=None)

    def look(self, workers: Sequence[WorkerRecord], served: bool) -> None:
        """Force what is due; `served`: the server has served before."""
        now = time.monotonic()
        for worker in workers:
            if worker.kill_at is not None and worker.kill_at <= now:
                worker.kill_at = None
                self._force(worker)
        self.starts.look(workers)
        if self._leave_at is not None and self._leave_at <= now:
            self._leave_at = None
            for worker in workers:
                if worker.running and worker not in self._left:
                    self._leave(worker, served)

    def _force(self, worker: WorkerRecord) -> None:
        if worker.ready:
            logger.error("worker %d does not end: killed", worker.index)
        if worker.beside_others and not worker.ready:
            self.starts.give_up(worker)
        else:
            self._let_go(worker)

    def _let_go(self, worker: WorkerRecord) -> None:
        if self._processes:
            self._host.kill(worker)
        else:
            if worker not in self._left:  # another of its threads may be the reason
                self._left.append(worker)
            self._replace(worker)

    def _leave(self, worker: WorkerRecord, served: bool) -> None:
        if served:
            logger.error("worker %d does not end: it is left", worker.index)
        self.starts.forget(worker)
        self._left.append(worker)
