"""What ends a task before it is done: it is cancelled, its time is over, it is given up.

A task is on a queue, where the scheduler can take it off, or it runs, and then its
worker is sent an exception, marked in the scheduler first: the worker waits for it
before it takes another task. What is in C code does not hear of it, and has its worker
given up after a while, where that was asked for.
"""

import heapq
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from atoll._pool.future import Cancelled, PoolFuture
from atoll._pool.results import LostWorker

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["Limits", "late"]

# What is to happen to a task at a time: its running time may be over, its deadline is
# there, or it was interrupted and should have ended by now.
TIMEOUT, DEADLINE, STUCK = range(3)
STUCK_SECONDS = 5.0  # for an interrupted task to end in, where the pool shuts down


def late() -> TimeoutError:
    """What a task ends with whose time is over."""
    return TimeoutError("the task's time is over")


class Limits:
    """The alarms of a pool's tasks, and the ends that they bring."""

    def __init__(self, pool: "Pool", replace_stuck: float | None) -> None:
        self._pool = pool
        self._scheduler = pool._scheduler
        self._replace_stuck = replace_stuck
        self._lock = threading.Lock()
        # (when, task, kind, seconds that were asked for)
        self._alarms: list[tuple[float, int, int, float]] = []  # guarded: _lock
        self._earliest: float | None = None
        # Held while a task goes from a worker back to the queue, and while a task is
        # looked for to be interrupted: until the interrupt is sent to its worker.
        self.moving = threading.Lock()

    # ---- alarms ----------------------------------------------------------------------

    def alarm(self, task_id: int, kind: int, seconds: float) -> None:
        """Look at the task in `seconds`."""
        when = time.monotonic() + seconds
        with self._lock:
            if len(self._alarms) > 2 * len(self._pool._futures) + 1000:
                # Most are of tasks that are over.
                unfinished = set(self._pool._futures)
                self._alarms = [a for a in self._alarms if a[1] in unfinished]
                heapq.heapify(self._alarms)
            heapq.heappush(self._alarms, (when, task_id, kind, seconds))
            earlier = self._earliest is None or when < self._earliest
        if earlier:
            self._scheduler.nudge()

    def wait_seconds(self) -> float | None:
        """Seconds until the next alarm; None: there is none."""
        with self._lock:
            self._earliest = self._alarms[0][0] if self._alarms else None
            if self._earliest is None:
                return None
            return max(0.0, self._earliest - time.monotonic())

    def expire(self) -> None:
        """See to every alarm whose time has come."""
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._alarms or self._alarms[0][0] > now:
                    return
                _, task_id, kind, seconds = heapq.heappop(self._alarms)
            future = self._pool._futures.get(task_id)
            if future is None:
                continue
            if kind == STUCK:
                self.abandon(task_id)
                continue
            if kind == TIMEOUT:
                # It ends `seconds` after it began, which is not before now if it has
                # not begun.
                left = seconds - max(0.0, self._scheduler.running_seconds(task_id))
                if left > 0:
                    with self._lock:
                        entry = (time.monotonic() + left, task_id, kind, seconds)
                        heapq.heappush(self._alarms, entry)
                    continue
            if self._scheduler.cancel(task_id):
                self._pool._delivery.drop(task_id, late())
                continue
            self._pool._delivery.fail(future, late())
            self.interrupt(future)

    # ---- cancelling ------------------------------------------------------------------

    def cancel(self, future: PoolFuture[Any], running: bool) -> bool:
        """As `PoolFuture.cancel`."""
        task_id = future._task_id
        if self._scheduler.cancel(task_id):
            self._pool._delivery.drop(task_id, Cancelled())
            return True
        return running and self.interrupt(future)

    def interrupt(self, future: PoolFuture[Any]) -> bool:
        """Interrupt a task that runs."""
        task_id = future._task_id
        with self.moving:  # one at a time: the second finds the first's mark
            future._interrupt = True
            worker = self._scheduler.running(task_id, True)
            # Where it is not running now, it may have been put back in the queue,
            # and even be taken from there by the time that is looked into.
            cancelled = worker == -1 and self._scheduler.cancel(task_id)
            if worker == -1 and not cancelled:
                worker = self._scheduler.running(task_id, True)
                if worker == -1:
                    return False
            # One for each task: the worker waits for one, and a second that was under
            # way would hit the next task.
            if worker >= 0 and not future._interrupt_sent:
                future._interrupt_sent = True
                self._pool._model.interrupt(worker)
        if cancelled:
            self._pool._delivery.drop(task_id, Cancelled())
        elif self._replace_stuck is not None:
            self.alarm(task_id, STUCK, self._replace_stuck)
        elif self._pool._shut:
            self.alarm(task_id, STUCK, STUCK_SECONDS)
        return True

    # ---- giving up -------------------------------------------------------------------

    def stuck(self) -> list[int]:
        """The workers whose task was interrupted and goes on."""
        late = [
            self._scheduler.running(task_id)
            for task_id, future in list(self._pool._futures.items())
            if future._interrupt
        ]
        return sorted(worker for worker in late if worker >= 0)

    def watch_interrupted(self) -> None:
        """Give up what was interrupted, if it has not ended soon; at shutdown."""
        for future in list(self._pool._futures.values()):
            if future._interrupt:
                self.alarm(future._task_id, STUCK, STUCK_SECONDS)

    def abandon(self, task_id: int) -> bool:
        """Give up the task and the worker that runs it; False where none does."""
        pool = self._pool
        if pool._model.can_kill:
            worker = self._scheduler.running(task_id)
            if worker >= 0:
                pool._model.kill(worker)
            return bool(worker >= 0)
        worker = self._scheduler.abandon(task_id)
        if worker < 0:
            return False
        text = (
            f"worker {worker} of {pool._name} runs a task that does not end; it is "
            "left running"
        )
        pool._delivery.drop(task_id, LostWorker(text))
        pool._crew.leave(worker)
        warnings.warn(text, RuntimeWarning, stacklevel=4)
        return True
