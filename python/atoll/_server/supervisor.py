"""What watches over the workers: start them, replace them, pass on the signals.

Where they run is a host's affair (`hosts`): in this process, where the application is
never imported by the supervisor itself, or in child processes, each with a supervisor
of its own. The first worker loads the application; when that has succeeded the others
follow, so an application that cannot start says so once. A worker that ends without
being asked to is replaced, ever more slowly while it keeps ending.
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from atoll import top
from atoll._errors import AtollError
from atoll._server import listening, logs
from atoll._server.announcing import announce
from atoll._server.ending import Endings
from atoll._server.hosts import RESTART_FIRST_S, Host, Inside, WorkerRecord
from atoll._server.orders import Orders
from atoll._server.plan import Plan, is_free_threaded, make_plan
from atoll._server.processes import Processes
from atoll._server.replacing import Lives, Replacing
from atoll._server.reports import Reports
from atoll._server.settings import Settings
from atoll._server.signalling import signals_into
from atoll._server.signs import Signs
from atoll._server.stats import ServerStats, collect
from atoll._server.vigil import Vigil
from atoll._server.watching import Watcher
from atoll._server.witness import THE_FIRST

logger = logging.getLogger("atoll.server")

#: Seconds before a worker that died is replaced, at most.
RESTART_MOST_S = 30.0
#: A worker that lived this long starts again without a penalty.
RESTART_FORGIVEN_S = 60.0


class Supervisor:
    """Runs one server: `run()` returns the exit code.

    Args:
        settings: What to serve and how.
        app: The application itself, which is then served in this interpreter; None to
            import it.
        on_ready: Called with the addresses, [(host, port)], when the first worker
            serves.
        plan: What the settings amount to; None to find out.
        host: Where the workers run; None: what the plan says.
        orders: From the supervisor of the process above; None: this is the first one.
        beside_others: Other processes serve already.

    Raises:
        ValueError: The settings contradict each other.
    """

    def __init__(
        self,
        settings: Settings,
        app: Callable[..., Any] | None = None,
        on_ready: Callable[[list[tuple[str, int]]], None] | None = None,
        plan: Plan | None = None,
        host: Host | None = None,
        orders: Orders | None = None,
        beside_others: bool = False,
    ) -> None:
        self.settings = settings
        self.app = app
        self.plan = plan or make_plan(settings, app is not None)
        self.on_ready = on_ready
        self.orders = orders
        if host is None:
            if self.plan.processes:
                host = Processes(settings, self.plan)
            else:
                host = Inside(settings, self.plan, app)
        self.host: Host = host
        #: Why it did not start; None while all is well.
        self.failure: str | None = None
        count = self.plan.processes or self.plan.workers
        self.workers = [WorkerRecord(index) for index in range(count)]
        self._selector = selectors.DefaultSelector()
        self._replacing: Replacing[WorkerRecord] = Replacing()
        self._lives = Lives(settings)
        self._vigil: Vigil[WorkerRecord] = Vigil(settings, self._replace_stuck)
        self._signs = Signs(settings, self.host, self._replace_silent)
        self._endings = Endings(
            settings, self.plan, self.host, self._vigil.left, self._replace_left
        )
        self._starts = self._endings.starts
        self._reports = Reports(self._selector, self._take_report, self._ended)
        self._beside_others = beside_others
        self._served = self._all_served = False
        self._stopping = False
        self._exit_code = 0
        self._started_at = time.monotonic()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)

    # ---- from other threads ----

    def stop(self) -> None:
        """Ask the server to drain and end; from any thread."""
        with contextlib.suppress(OSError):
            self._wake_write.send(bytes([signal.SIGTERM]))

    def reload(self) -> None:
        """Ask for new workers in place of the old; from any thread."""
        with contextlib.suppress(OSError):
            self._wake_write.send(bytes([signal.SIGHUP]))

    def stats(self) -> ServerStats | None:
        """What the server has done so far; None unless it runs. From any thread."""
        service = self.host.service
        return None if service is None else collect(service, self._started_at)

    @property
    def left_some(self) -> bool:
        """Do threads run on that could not be ended?"""
        return bool(self._vigil.left)

    # ---- the main loop ----

    def run(self, signals: bool = True) -> int:
        """Serve until stopped.

        Args:
            signals: Receive SIGINT, SIGTERM, SIGHUP and SIGUSR1; only on the main
                thread.

        Returns:
            0 after an orderly stop, 1 where the server could not start.
        """
        logs.set_up(self.settings.log_level)
        try:
            self.host.open()
        except (OSError, ValueError, LookupError, AtollError) as error:
            self.failure = listening.explain(error)
            logger.error("%s", self.failure)
            self._close()
            return 1
        self._warn()
        if not self.plan.processes:  # each of them looks itself
            self._vigil.service = self.host.service
        with self._shown(), self._signals(signals):
            self._watch(self._wake_read.fileno(), self._take_signals)
            self._watch(self.host.service.spent(), self._take_spent)
            if self.orders is not None:
                self._watch(self.orders.fileno(), self._take_orders)
                if self.orders.has_some():
                    self._take_orders()
            if not self._stopping:
                self._start(self.workers[0])
            with self._watcher():
                while self._alive():
                    self._turn()
        self._close()
        return self._exit_code

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        """Meanwhile `atoll top` can see the server: the first process shows all."""
        forget = top.register("servers", self.stats)
        if self.orders is None:
            top.listen_if_asked()
        try:
            yield
        finally:
            forget()

    def _signals(self, wanted: bool) -> contextlib.AbstractContextManager[None]:
        if not wanted:
            return contextlib.nullcontext()
        return signals_into(self._wake_write.fileno())

    def _warn(self) -> None:
        plan = self.plan
        if plan.loops > 1 and not is_free_threaded() and self.orders is None:
            logger.warning(
                "%d threads of one interpreter take turns on this Python: only a"
                " free-threaded build runs them at the same time",
                plan.loops,
            )

    def _watch(self, descriptor: int, action: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, action)

    def _close(self) -> None:
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
        self.host.close()
        self._vigil.service = None  # who holds it keeps its sockets open

    def _watcher(self) -> contextlib.AbstractContextManager[object]:
        settings = self.settings
        if not settings.reload or self.orders is not None:
            return contextlib.nullcontext()
        folders = settings.reload_dirs or (settings.app_dir or ".",)
        return Watcher(folders, settings.reload_include, self.reload)

    def _everyone(self) -> list[WorkerRecord]:
        """All that are waited for."""
        return [
            w
            for w in (*self.workers, *self._replacing.others())
            if w not in self._vigil.left
        ]

    def _alive(self) -> bool:
        return any(w.running or w.restart_at is not None for w in self._everyone())

    def _turn(self) -> None:
        """Wait for something to happen, and see to it."""
        moments = [w.restart_at for w in self._everyone() if w.restart_at is not None]
        for moment in (
            self._lives.next_look(self.workers),
            self._vigil.next_look(),
            self._endings.next_look(self._everyone()),
            self._signs.next_look() if self.plan.processes else None,
        ):
            if moment is not None:
                moments.append(moment)
        timeout = max(0.0, min(moments) - time.monotonic()) if moments else None
        for key, _ in self._selector.select(timeout):
            # An earlier event of this turn may have ended what this one is about.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        now = time.monotonic()
        for worker in self._everyone():
            if worker.restart_at is not None and worker.restart_at <= now:
                self._start(worker)
        if self.plan.processes:
            self._signs.look(self._everyone())
        self._vigil.look(self._everyone())
        self._endings.look(self._everyone(), self._served)
        if not self._stopping and self._lives.is_due(self.workers):
            self._see_who_is_spent()

    def _take_spent(self) -> None:
        """A worker has had its requests, or its share of them."""
        self.host.service.clear_spent()
        if not self._stopping:
            self._see_who_is_spent()

    def _see_who_is_spent(self) -> None:
        if self.plan.processes:
            return  # each of them looks itself
        stats = self.host.stats()
        spent = self._lives.spent(self.workers, stats)
        for worker in self.workers:
            if worker.ready and worker.index not in spent:
                for thread, requests in self._lives.next_counts(worker, stats):
                    self.host.service.set_most(thread, requests)
        if self.orders is None or self.plan.place == "interpreter":
            self._replace(spent, "has had its time", "spent")
        elif spent:
            self.orders.report(event="spent")

    # ---- signals and orders ----

    def _take_signals(self) -> None:
        # Once each: a terminal and what runs this may both pass Ctrl-C on.
        for number in dict.fromkeys(self._wake_read.recv(64)):
            if self.orders is not None:
                # The process above says what to do. Who ends this one alone gets it.
                if number == signal.SIGTERM and not self._stopping:
                    self._drain()
                continue
            if number == signal.SIGUSR1:
                self._reopen_logs()
            if number == signal.SIGHUP:
                self._reload_certificates()
                self._reload()
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            if self._stopping:
                logger.warning("stopped at once, with requests running")
                logging.shutdown()
                os._exit(1)
            logger.info("stopping: running requests are being finished")
            self._drain()

    def _take_orders(self) -> None:
        assert self.orders is not None
        for order in self.orders.take():
            if order == "stop":
                self._drain()
            elif order == "retire":
                self._drain(others=True)
            elif order == "sign":
                self.orders.report(event="alive")
            elif order == "certificates":
                self._reload_certificates()
            elif order == "logs":
                self._reopen_logs()
            elif order == "orphaned":
                logger.critical("the process above is gone")
                logging.shutdown()
                os._exit(1)

    def _drain(self, others: bool = False) -> None:
        """Everyone ends; `others`: workers of other processes go on."""
        self._stopping = True
        for worker in self.workers:
            worker.restart_at = None
        running = [w for w in self._everyone() if w.running]
        self.host.drain_all(running, others)
        for worker in self._everyone():
            self._endings.give_time(worker)
            if self._vigil.is_stuck(worker):
                self._vigil.give_up(worker)
            if worker.running and not worker.ready:
                self._endings.hurry(worker)
        self._endings.give_all_time()
        if not self._served and self.failure is None and self.orders is None:
            logger.info("%s had not started yet", self.settings.app)

    def _reload_certificates(self) -> None:
        try:
            running = [w for w in self._everyone() if w.running]
            self.host.reload_certificates(running)
        except ValueError as error:
            logger.error("the certificates stay as they were: %s", error)
        else:
            if self.settings.ssl_certfile and self.orders is None:
                logger.info("the certificates were read again")

    def _reopen_logs(self) -> None:
        try:
            self.host.reopen_logs([w for w in self._everyone() if w.running])
        except OSError as error:
            logger.error("the access log stays where it was: %s", error)
        else:
            logger.info("the access log was opened again")

    # ---- new workers in place of old ones ----

    def _reload(self) -> None:
        if self.plan.place == "main" and not self.plan.processes:
            logger.warning("this application is not imported by workers: no reload")
        elif self._served and not self._stopping:
            self._pass_over()
            self.host.renew()
            self._replace([w.index for w in self.workers], "reloads", "reload")

    def _replace(self, indexes: list[int], why: str, counted: str) -> None:
        for index in self._replacing.want(indexes):
            logger.info("worker %d %s", index, why)
            self.host.service.count_restart(counted)
        self._start_successor()

    def _replace_stuck(self, worker: WorkerRecord) -> None:
        if self._stopping or worker in self._replacing.retired:
            self._vigil.give_up(worker)  # it drains; its successor serves, if any
        elif self.plan.place == "interpreter":
            self._replace([worker.index], "is stuck", "stuck")
        elif self.orders is not None:
            self.orders.report(event="stuck")

    def _replace_silent(self, worker: WorkerRecord) -> None:
        if self._stopping:
            return
        if worker in self._replacing.retired:
            logger.warning("worker %d was stuck: killed", worker.index)
            self.host.kill(worker)
        else:
            self._replace([worker.index], "is stuck", "stuck")

    def _replace_left(self, worker: WorkerRecord) -> None:
        if worker in self.workers and not self._stopping:
            self._replace([worker.index], "does not start", "died")

    def _start_successor(self) -> None:
        """One at a time: the next starts when this one serves."""
        index = self._replacing.next()
        if index is not None and not self._stopping:
            self._replacing.successor = WorkerRecord(index)
            self._start(self._replacing.successor)

    def _succeed(self, successor: WorkerRecord) -> None:
        """It serves: its predecessor finishes, and gives its connections away."""
        old = self.workers[successor.index]
        self.workers[successor.index] = successor
        self._replacing.successor = None
        old.restart_at = None
        if old.running:
            self._replacing.retired.append(old)
            if self._vigil.is_stuck(old):
                self._vigil.give_up(old)
            elif self._signs.is_stuck(old):
                logger.warning("worker %d was stuck: killed", old.index)
                self.host.kill(old)
            elif old.ready:
                self._finish(old)
            else:
                old.drain_when_ready = True
        logger.info("worker %d: a new one serves", successor.index)
        self._start_successor()

    def _pass_over(self) -> None:
        """A successor that does not get to serving shall not keep newer code waiting."""
        successor = self._replacing.successor
        if successor is None or not self._starts.is_overdue(successor):
            return
        logger.warning("worker %d: the new one is passed over", successor.index)
        self._replacing.successor = None
        self._replacing.retired.append(successor)
        if self.plan.processes:
            self.host.kill(successor)
        else:
            successor.drain_when_ready = True

    def _finish(self, worker: WorkerRecord) -> None:
        self.host.drain(worker)
        self._endings.give_time(worker)

    # ---- workers ----

    def _start(self, worker: WorkerRecord) -> None:
        worker.starts()
        worker.requests_most = self._lives.requests_most()
        worker.lifetime = self._lives.lifetime()
        worker.beside_others = self._served or self._beside_others
        try:
            self.host.start(worker)
        except (OSError, RuntimeError) as error:  # others may serve, and go on
            worker.running = False
            self._take_leave(worker, f"it cannot be started: {error}")
            return
        self._reports.open(worker)

    def _take_report(self, worker: WorkerRecord, report: dict[str, Any]) -> None:
        event = report["event"]
        if event == "ready":
            worker.threads = report["threads"]
            self._ready(worker)
        elif event == "failed":
            worker.failure = report["text"]
        elif event == "alive":
            self._signs.answered(worker)
        elif event == "stack" and report["thread"] == THE_FIRST:
            self._starts.answered(worker, report["text"])
        elif event == "stack":
            self._vigil.answered(report["thread"], report["text"])
        elif event == "stuck" and not self._stopping:
            if worker not in self._replacing.retired:  # those have a time to end
                self._replace([worker.index], "is stuck", "stuck")
        elif event == "replaced":
            worker.threads = report["threads"]
            self.host.service.count_restart("died")
            if self._stopping or worker in self._replacing.retired:
                self._finish(worker)  # the new thread has not heard of it
            else:
                self._count_requests(worker)
        elif event == "lost":
            # One of its threads cannot be had: the others end, and it starts anew.
            worker.threads = report["threads"]
            self._starts.forget(worker)
            self._finish(worker)
        elif event == "late":
            self._starts.give_up(worker)
        elif event == "born":
            self.host.born(worker, report["pid"])
            self._reports.watch_death(worker)
        elif event == "spent" and not self._stopping:
            self._replace([worker.index], "has had its time", "spent")

    def _ready(self, worker: WorkerRecord) -> None:
        worker.ready, worker.kill_at = True, None
        self._starts.forget(worker)
        if self._stopping:
            self._endings.give_time(worker)
        if worker.drain_when_ready:
            self._finish(worker)
            return
        if worker is self._replacing.successor:
            self._succeed(worker)
            self._count_requests(worker)
            return
        self._count_requests(worker)
        if not self._served:
            self._served = True
            self._announce()
            for other in self.workers:
                if other is not worker and not self._stopping:
                    self._start(other)
        if all(w.ready for w in self.workers):
            count = len(self.workers)
            if self.plan.model == "threads" and not self.plan.processes:
                count = self.plan.loops
            if count > 1 and self.orders is None:
                logger.info("all %d workers serve", count)
            if self.orders is not None and not self._all_served:
                self.orders.report(event="ready", threads=[])
            self._all_served = True

    def _count_requests(self, worker: WorkerRecord) -> None:
        """Hear of it when it has had its requests."""
        if not self.plan.processes:
            for thread, requests in self._lives.next_counts(worker, self.host.stats()):
                self.host.service.set_most(thread, requests)

    def _announce(self) -> None:
        if self.orders is not None:
            return
        announce(self.settings, self.plan, self.host)
        if self.on_ready is not None:
            self.on_ready(self.host.addresses())

    def _ended(self, worker: WorkerRecord) -> None:
        self._vigil.ended(worker)
        self._signs.ended(worker)
        self._starts.forget(worker)
        how = self.host.reap(worker)
        worker.running, worker.ready, worker.kill_at = False, False, None
        self._take_leave(worker, worker.failure or how)

    def _take_leave(self, worker: WorkerRecord, why: str) -> None:
        if worker in self._replacing.retired:
            self._replacing.retired.remove(worker)
            return
        if worker is self._replacing.successor:
            self._replacing.give_up()
            if not self._stopping:
                logger.error(
                    "the old workers go on: %s does not start any more:\n%s",
                    self.settings.app,
                    why or "its interpreter ended",
                )
            return
        if self._stopping:
            return
        if not self._served:
            self.failure = why or "its interpreter ended"
            self._exit_code = 1
            if self.orders is not None:
                self.orders.report(event="failed", text=self.failure)
            else:
                logger.error("%s does not start:\n%s", self.settings.app, self.failure)
            self._drain()
            return
        if time.monotonic() - worker.started_at > RESTART_FORGIVEN_S:
            worker.delay = RESTART_FIRST_S
        self.host.service.count_restart("died")
        logger.error(
            "worker %d ended%s; another starts in %g s",
            worker.index,
            f":\n{why}" if "\n" in why else f": {why}" if why else "",
            worker.delay,
        )
        worker.restart_at = time.monotonic() + worker.delay
        worker.delay = min(worker.delay * 2, RESTART_MOST_S)


def run_process(supervisor: Supervisor) -> int:
    """Run it as what this process is there for.

    Returns:
        The exit code. It does not return where workers are left, or the supervisor has
        failed beside them: an orderly end of the process would wait for threads that
        may be stuck, and an interpreter in which one runs cannot be ended.
    """
    try:
        code = supervisor.run()
    except Exception:
        logger.critical("the supervisor failed, and the server with it", exc_info=True)
        code = 1
    else:
        if not supervisor.left_some:
            return code
    top.close()
    logging.shutdown()
    os._exit(code)
