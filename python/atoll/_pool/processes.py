"""Worker processes: each is fed by a thread here, through a socket.

The other end is `worker_process`.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from atoll import _atoll, _wire
from atoll._pool import worker_process as _there
from atoll._pool.handles import Arrived, Bundle, Things, collect
from atoll._pool.memory import Memory, dump
from atoll._pool.models import START, Model, join
from atoll._pool.results import ERROR, REFUSED, VALUE, rebuilt
from atoll._pool.worker import Report, describe

if TYPE_CHECKING:
    from atoll._pool.executor import Pool

__all__ = ["ProcessModel"]

# Why `Scheduler.feed` comes back; feed_state in src/bind/pool_feed.c.
_OVER, _LIMIT, _SETTLE, _CALL, _ANSWER, _UNREAD, _GONE, _FAULT = range(8)

_ANSWERS = VALUE, ERROR, REFUSED

# What a process begins with is called in the path to what cannot be sent.
_FIRST = "initializer", "broadcasts"

# How many calls with memory of their own may wait: each has a file open.
_MEMORIES = 200

type CrashWord = tuple[str, str]

_COMMAND = "from atoll._pool.worker_process import main; main({})"


class ProcessModel(Model):
    """Processes, spawned; each is fed by a thread here.

    The signal SIGUSR1 interrupts a task there, and SIGINT is ignored: Ctrl-C reaches
    the whole process group, and this process alone decides what it means.
    """

    name = "processes"
    can_kill = True

    def __init__(self, pool: "Pool") -> None:
        super().__init__(pool)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._threads: dict[int, threading.Thread] = {}
        # What calls have beside their bytes, by task.
        self._memories: dict[int, Memory] = {}
        self._things: dict[int, Things] = {}
        self.values: dict[int, tuple[Any, BaseException | None]] = {}
        self._start_errors: dict[int, OSError] = {}
        self._lost: dict[int, int] = {}  # worker -> the task that `kill` was to end

    def pack_start(self, start: tuple[Any, Any]) -> None:
        self._start, self._start_things = collect(lambda: _atoll.dumps(start, START))

    def submit(self, task_id: int, call: tuple[Any, Any, Any], worker: int) -> None:
        apart = len(self._memories) < _MEMORIES
        data, memory, things = dump(call, _wire.CALL, apart)
        if memory is not None:
            self._memories[task_id] = memory
        if things:
            self._things[task_id] = things
        try:
            beside = memory is not None or bool(things)
            self.pool._scheduler.submit_bytes(task_id, data, worker, beside)
        except BaseException:
            self.forget(task_id)
            raise

    def start(self, worker: int, turn: int) -> None:
        start, things = collect(
            lambda: _atoll.dumps((self._start, self.pool._kept()), _FIRST)
        )
        things.update(self._start_things)
        thread = threading.Thread(
            target=self._feed,
            args=(worker, turn, start, things),
            name=f"{self.pool._name}-{worker}",
            daemon=True,
        )
        self._threads[worker] = thread
        thread.start()

    def start_error(self, worker: int) -> Exception | None:
        return self._start_errors.pop(worker, None)

    def _spawn(self, worker: int) -> socket.socket:
        """Start a process; the socket that leads to it.

        Raises:
            OSError: The system refused: too many open files, for one.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                environment = dict(os.environ)
                environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
                self._processes[worker] = subprocess.Popen(
                    [sys.executable, "-c", _COMMAND.format(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                )
        except BaseException:
            ours.close()
            raise
        return ours

    def _greet(
        self, worker: int, ours: socket.socket, start: bytes, things: Things
    ) -> Report | None:
        """Tell a new process what to begin with; why it failed."""
        try:
            data, bundle = _atoll.dumps((self.pool._limit, start)), Bundle.of(things)
            _there.send_block(ours, _there.CALL, data, None, bundle)
            _, answer, _, _ = _there.receive_block(ours)
            failure: Report | None = _atoll.loads(answer, trusted=True)
            return failure
        except (EOFError, OSError):
            code = self._processes[worker].wait()
            return describe(
                RuntimeError(f"a worker process ended with code {code} as it started")
            )

    def _feed(self, worker: int, turn: int, start: bytes, things: Things) -> None:
        failure: Report | None = None
        try:
            try:
                sock = self._spawn(worker)
            except OSError as error:
                self._start_errors[worker] = error
                return
            with sock:
                failure = self._greet(worker, sock, start, things)
                if failure is None:
                    self._feed_process(worker, sock)
        except BaseException as exception:
            failure = describe(exception)
        finally:
            self.pool._scheduler.notice(worker, (turn, failure))

    def _feed_process(self, worker: int, sock: socket.socket) -> None:
        scheduler = self.pool._scheduler
        left = self.pool._limit
        while True:
            # As many as it can by itself, but where each has something to look at after.
            most = 1 if self.pool._max_memory is not None else left
            taken = scheduler.feed(worker, sock.fileno(), most)
            state, done, task, task_id, data, descriptor = taken
            if state == _OVER:
                try:
                    _there.send_block(sock, _there.STOP, b"")
                except OSError:
                    pass
                return
            settled = state != _SETTLE
            if task is not None:
                settled = self._finish(
                    worker, sock, state, task, task_id, data, descriptor
                )
                del task, data, taken
            if not settled:
                self._settle(sock)
            if self._limit_is_reached(worker, left, done):
                return
            left -= done if left else 0

    def _limit_is_reached(self, worker: int, left: int, done: int) -> bool:
        """Does the process take no more tasks after `done` of the `left` (0: any)?"""
        ended = self._processes[worker].returncode is not None
        return ended or bool(left and done >= left) or self._too_large(worker)

    def _finish(
        self,
        worker: int,
        sock: socket.socket,
        state: int,
        task: Any,
        task_id: int,
        data: bytes,
        descriptor: int,
    ) -> bool:
        """See to a task that `feed` did not end; False: an interrupt is under way."""
        scheduler = self.pool._scheduler
        try:
            answer = self._answer(worker, sock, state, task_id, data, descriptor)
        except BaseException as error:  # no memory, say: it is not known what was said
            self._dead(worker)
            answer = ERROR, _atoll.dumps(describe(error))
        if answer is None and self._lost.pop(worker, 0) == task_id:
            answer = self._crash(worker)  # it is not to be tried again
        if answer is not None:
            self._memories.pop(task_id, None)
            self._things.pop(task_id, None)
            return scheduler.finish_bytes(task, *answer)
        with self.pool._limits.moving:  # nobody looks for the task meanwhile
            settled = scheduler.put_back(task)
        if self.pool._broken is not None:  # nobody will take it
            self.pool._break(self.pool._broken)
        return settled

    def _answer(
        self,
        worker: int,
        sock: socket.socket,
        state: int,
        task_id: int,
        data: bytes,
        descriptor: int,
    ) -> tuple[int, bytes] | None:
        """The process' outcome and answer; None: it died and never had the call."""
        if state == _UNREAD:
            self._dead(worker)
            return None
        if state == _GONE:
            return self._crash(worker)
        if state == _FAULT:
            return self._misread(worker, data.decode(errors="replace"))
        memory = bundle = None
        if state == _CALL:
            memory = self._memories.get(task_id)
            try:
                bundle = Bundle.of(self._things.get(task_id, {}), memory)
            except OSError as error:  # nothing was said yet
                return ERROR, _atoll.dumps(describe(error))
        try:
            if state == _CALL:
                _there.send_block(sock, _there.CALL, data, memory, bundle)
                came = _there.receive_block(sock, _ANSWERS)
            else:
                came = _there.receive_rest(sock, data, descriptor, _ANSWERS)
        except (BrokenPipeError, ConnectionResetError):
            # Nobody is there to send to; or, as Linux tells it, the other end closed
            # with bytes that it had not read, and those of the call are the last ones.
            self._dead(worker)
            return None
        except EOFError:
            return self._crash(worker)
        except (OSError, ValueError, OverflowError) as error:
            return self._misread(worker, str(error))
        return self._take(task_id, *came)

    def _take(
        self,
        task_id: int,
        outcome: int,
        answer: Any,
        buffers: list[memoryview],
        arrived: Arrived,
    ) -> tuple[int, bytes]:
        """The outcome and answer, of which what came beside it has become objects."""
        if outcome != VALUE and not arrived:
            return outcome, answer
        try:
            with arrived:
                said = _atoll.loads(answer, trusted=True, apart=buffers)
                error = None if outcome == VALUE else rebuilt(said)
            self.values[task_id] = (said[0], None) if error is None else (None, error)
        except BaseException as error:
            self.values[task_id] = None, error
        return VALUE, b""

    def _crash(self, worker: int) -> tuple[int, bytes]:
        code, process_id = self._dead(worker)
        text = f"process {process_id} ended with code {code} while it ran the task"
        word: CrashWord = "crash", text
        return ERROR, _atoll.dumps(word)

    def _misread(self, worker: int, why: str) -> tuple[int, bytes]:
        """The answer cannot be read, and nobody knows where another would begin."""
        _, process_id = self._dead(worker)
        text = (
            f"process {process_id} was ended, since its answer could not be read: {why}"
        )
        word: CrashWord = "crash", text
        return ERROR, _atoll.dumps(word)

    def _dead(self, worker: int) -> tuple[int | None, int]:
        process = self._processes[worker]
        process.kill()
        return process.wait(), process.pid

    def _settle(self, sock: socket.socket) -> None:
        with self.pool._limits.moving:
            pass  # whoever marked the task has sent its signal, and to this process
        try:
            _there.send_block(sock, _there.SETTLE, b"")
            # Before the next task can be interrupted: two signals that wait are one,
            # and the one for that task would be taken for this one's.
            _there.receive_block(sock)
        except (EOFError, OSError):
            # It has ended, after its last task or by itself. Nothing is lost but the
            # signal; the next call finds out.
            pass

    def forget(self, task_id: int) -> None:
        self._memories.pop(task_id, None)
        self._things.pop(task_id, None)
        self.values.pop(task_id, None)

    def _too_large(self, worker: int) -> bool:
        limit = self.pool._max_memory
        return limit is not None and (self.resident_bytes(worker) or 0) > limit

    def interrupt(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGUSR1)

    def kill(self, worker: int) -> None:
        """End the process at once; its task ends with `BrokenProcess`."""
        if not 0 <= worker < self.pool._workers:
            raise IndexError("no such worker")
        process = self._processes.get(worker)
        if process is not None:
            # The task may be on its way: then the process dies before it has it.
            self._lost[worker] = self.pool._scheduler.current(worker)
            process.kill()

    def has(self, worker: int) -> bool:
        return worker in self._threads

    def ended(self, worker: int) -> None:
        join(self._threads.pop(worker))
        process = self._processes.pop(worker, None)
        if process is not None:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def place(self, worker: int) -> dict[str, int]:
        process = self._processes.get(worker)
        return {} if process is None else {"process": process.pid}

    def resident_bytes(self, worker: int) -> int | None:
        process = self._processes.get(worker)
        if process is None:
            return None
        try:
            with open(f"/proc/{process.pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None
