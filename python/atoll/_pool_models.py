"""The three models of a pool: how its workers start, are interrupted, and end."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from atoll import _atoll, _pool_worker, _wire
from atoll._errors import ClosedError
from atoll._interpreter import Interpreter

if TYPE_CHECKING:
    from atoll._pool import Pool

__all__ = ["MODELS", "CrashWord", "Model"]

type CrashWord = tuple[str, int | None, int]


class Model:
    """A model; its methods are called with a worker's number."""

    name: str

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool

    def submit(self, task_id: int, call: tuple[Any, Any, Any], worker: int) -> None:
        """Queue a call (function, args, kwargs)."""
        raise NotImplementedError

    def start(self, worker: int, turn: int) -> None:
        """Start the worker; it sends a notice (turn, failure or None) when it ends."""
        raise NotImplementedError

    def interrupt(self, worker: int) -> None:
        """Raise `TaskInterrupted` in what the worker runs."""
        raise NotImplementedError

    def ended(self, worker: int) -> None:
        """Clean up after a worker that has said that it ended. May block."""
        raise NotImplementedError

    def leave(self, worker: int) -> None:
        """Let go of a worker that does not end."""
        raise NotImplementedError

    def result(self, task_id: int, value: Any) -> tuple[Any, BaseException | None]:
        """The result of a task whose outcome is a value."""
        return value, None

    def resident_bytes(self, worker: int) -> int | None:
        """Memory of the worker, where it has its own."""
        return None


class InterpreterModel(Model):
    """Interpreters of this process, each with its own GIL."""

    name = "interpreters"

    def __init__(self, pool: "Pool") -> None:
        super().__init__(pool)
        self._running: dict[int, tuple[Interpreter, Any]] = {}

    def submit(self, task_id: int, call: tuple[Any, Any, Any], worker: int) -> None:
        self.pool._scheduler.submit(task_id, *call, worker)

    def start(self, worker: int, turn: int) -> None:
        interpreter = Interpreter(name=f"{self.pool._name}-{worker}")
        scheduler = self.pool._scheduler
        arguments = (
            scheduler.share(),
            self.pool._workers,
            worker,
            turn,
            self.pool._limit,
            self.pool._start_data(),
        )
        job = _atoll.interpreter_post(
            interpreter.id,
            _wire.pack((_pool_worker.work_in_interpreter, arguments, {})),
            True,
        )
        self._running[worker] = interpreter, job

    def interrupt(self, worker: int) -> None:
        interpreter, job = self._running[worker]
        try:
            _atoll.interpreter_interrupt(
                interpreter.id, job, "atoll._pool_worker:TaskInterrupted"
            )
        except ClosedError:
            pass

    def ended(self, worker: int) -> None:
        interpreter, _ = self._running.pop(worker)
        interpreter.close()

    def leave(self, worker: int) -> None:
        interpreter, _ = self._running.pop(worker)
        _atoll.interpreter_close_begin(interpreter.id, None)
        _atoll.interpreter_reap(interpreter.id)


class ThreadModel(Model):
    """Threads of this interpreter: parallel where there is no GIL."""

    name = "threads"

    def __init__(self, pool: "Pool") -> None:
        super().__init__(pool)
        self._threads: dict[int, threading.Thread] = {}
        self._calls: dict[int, tuple[Any, Any, Any]] = {}
        self._values: dict[int, tuple[Any, BaseException | None]] = {}

    def submit(self, task_id: int, call: tuple[Any, Any, Any], worker: int) -> None:
        self._calls[task_id] = call
        try:
            self.pool._scheduler.submit_number(task_id, worker)
        except BaseException:
            del self._calls[task_id]
            raise

    def _run(self, task_id: int) -> None:
        function, args, kwargs = self._calls.pop(task_id)
        args = tuple(a.value if type(a) is _pool_worker.Broadcast else a for a in args)
        try:
            self._values[task_id] = function(*args, **kwargs), None
        except _pool_worker.TaskInterrupted:
            raise
        except BaseException as exception:
            self._values[task_id] = None, exception

    def start(self, worker: int, turn: int) -> None:
        thread = threading.Thread(
            target=_pool_worker.work_on_thread,
            args=(
                self.pool._scheduler,
                worker,
                turn,
                self.pool._limit,
                self._run,
                self.pool._start_objects(),
            ),
            name=f"{self.pool._name}-{worker}",
            daemon=True,
        )
        self._threads[worker] = thread
        thread.start()

    def interrupt(self, worker: int) -> None:
        thread = self._threads[worker]
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0),
            ctypes.py_object(_pool_worker.TaskInterrupted),
        )

    def ended(self, worker: int) -> None:
        self._threads.pop(worker).join()

    def leave(self, worker: int) -> None:
        del self._threads[worker]

    def result(self, task_id: int, value: Any) -> tuple[Any, BaseException | None]:
        return self._values.pop(task_id)

    def forget(self, task_id: int) -> None:
        """The task was cancelled."""
        self._calls.pop(task_id, None)
        self._values.pop(task_id, None)


_COMMAND = "import sys; from atoll._pool_worker import process_main; process_main({})"


class ProcessModel(Model):
    """Processes, spawned; each is fed by a thread here.

    The signal SIGUSR1 interrupts a task there, and SIGINT is ignored: Ctrl-C reaches
    the whole process group, and this process alone decides what it means.
    """

    name = "processes"

    def __init__(self, pool: "Pool") -> None:
        super().__init__(pool)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._threads: dict[int, threading.Thread] = {}

    def submit(self, task_id: int, call: tuple[Any, Any, Any], worker: int) -> None:
        self.pool._scheduler.submit_bytes(task_id, _dump_call(call), worker)

    def start(self, worker: int, turn: int) -> None:
        start = self.pool._start_data()
        thread = threading.Thread(
            target=self._feed,
            args=(worker, turn, start),
            name=f"{self.pool._name}-{worker}",
            daemon=True,
        )
        self._threads[worker] = thread
        thread.start()

    def _spawn(
        self, worker: int, start: bytes
    ) -> tuple[socket.socket, _pool_worker.Report | None]:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = dict(os.environ)
            environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
            process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND.format(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        self._processes[worker] = process
        try:
            _pool_worker.send_block(
                ours, _pool_worker.CALL, _atoll.dumps((self.pool._limit, start))
            )
            _, answer = _pool_worker.receive_block(ours)
            failure: _pool_worker.Report | None = _atoll.loads(answer, trusted=True)
        except (EOFError, OSError):
            code = process.wait()
            failure = _pool_worker.describe(
                RuntimeError(f"a worker process ended with code {code} as it started")
            )
        return ours, failure

    def _feed(self, worker: int, turn: int, start: bytes) -> None:
        failure: _pool_worker.Report | None = None
        try:
            sock, failure = self._spawn(worker, start)
            with sock:
                if failure is None:
                    self._feed_process(worker, sock)
        except BaseException as exception:
            failure = _pool_worker.describe(exception)
        finally:
            self.pool._scheduler.notice(worker, (turn, failure))

    def _feed_process(self, worker: int, sock: socket.socket) -> None:
        scheduler = self.pool._scheduler
        done = 0
        while not self.pool._limit or done < self.pool._limit:
            taken = scheduler.take_bytes(worker)
            if taken is None:
                try:
                    _pool_worker.send_block(sock, _pool_worker.STOP, b"")
                except OSError:
                    pass
                return
            task, _, data = taken
            done += 1
            answer = self._ask(worker, sock, data)
            if answer is None:
                with self.pool._moving:  # nobody looks for the task meanwhile
                    settled = scheduler.put_back(task)
            else:
                settled = scheduler.finish_bytes(task, *answer)
            if not settled:
                self._settle(sock)
            if self._processes[worker].returncode is not None:
                return
            if self._too_large(worker):
                return

    def _ask(
        self, worker: int, sock: socket.socket, data: bytes
    ) -> tuple[int, bytes] | None:
        """The process' outcome and answer; None: it died and never had the call."""
        try:
            _pool_worker.send_block(sock, _pool_worker.CALL, data)
            outcome, answer = _pool_worker.receive_block(sock)
            return outcome, answer
        except (BrokenPipeError, ConnectionResetError):
            # Nobody is there to send to; or, as Linux tells it, the other end closed
            # with bytes that it had not read, and those of the call are the last ones.
            self._dead(worker)
            return None
        except (EOFError, OSError):
            word: CrashWord = ("crash", *self._dead(worker))
            return 1, _atoll.dumps(word)

    def _dead(self, worker: int) -> tuple[int | None, int]:
        process = self._processes[worker]
        process.kill()
        return process.wait(), process.pid

    def _settle(self, sock: socket.socket) -> None:
        with self.pool._moving:
            pass  # whoever marked the task has sent its signal, and to this process
        try:
            _pool_worker.send_block(sock, _pool_worker.SETTLE, b"")
        except OSError:
            # It has ended, after its last task or by itself. Nothing is lost but the
            # signal; the next call finds out.
            pass

    def _too_large(self, worker: int) -> bool:
        limit = self.pool._max_memory
        return limit is not None and (self.resident_bytes(worker) or 0) > limit

    def interrupt(self, worker: int) -> None:
        process = self._processes.get(worker)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGUSR1)

    def kill(self, worker: int) -> None:
        """End the process at once; its task ends with `BrokenProcess`."""
        process = self._processes.get(worker)
        if process is not None:
            process.kill()

    def ended(self, worker: int) -> None:
        self._threads.pop(worker).join()
        process = self._processes.pop(worker, None)
        if process is not None:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def resident_bytes(self, worker: int) -> int | None:
        process = self._processes.get(worker)
        if process is None:
            return None
        try:
            with open(f"/proc/{process.pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None


def _dump_call(call: tuple[Any, Any, Any]) -> bytes:
    return _atoll.dumps(call, "call")


MODELS: dict[str, Callable[["Pool"], Model]] = {
    "interpreters": InterpreterModel,
    "threads": ThreadModel,
    "processes": ProcessModel,
}
