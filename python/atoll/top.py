"""What `atoll top` sees: a process tells of its pools and servers on a Unix socket.

`listen()` opens the socket, or the environment does: with ``ATOLL_TOP=1`` a process
listens from its first `Pool` or server on. Only its own user and root can ask, and all
they can send is one short line. The numbers come from counters, so that no worker is
asked and none is slowed down; the share of the time for which an interpreter's GIL is
taken is sampled for a tenth of a second, while somebody looks.
"""

import atexit
import contextlib
import json
import os
import socket
import stat
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from atoll import _atoll

__all__ = ["close", "folder", "listen", "register", "snapshot"]

type Provider = Callable[[], Mapping[str, Any] | None]

VERSION = 1  # of what is answered
_REQUEST = b"stats\n"
_REQUEST_BYTES = 64  # no request is longer
_PATIENCE_SECONDS = 2.0  # for a client to send, and to take the answer
_SAMPLE_SECONDS = 0.1
_CREDENTIALS = struct.Struct("3i")  # SO_PEERCRED: process, user, group

_lock = threading.Lock()
_providers: dict[int, tuple[str, Provider]] = {}  # guarded: _lock
_listener: "_Listener | None" = None  # guarded: _lock
_started_at = time.monotonic()


def register(kind: str, provider: Provider) -> Callable[[], None]:
    """Have `atoll top` show something.

    Args:
        kind: The list that it goes in: ``"pools"``, ``"servers"``, or one of your own.
        provider: Called for each look, on a thread of its own: what `json` can write,
            or None for nothing now. Its ``"workers"``, where it has any, are a list of
            dicts, of which ``"interpreter"`` (an id of this process), ``"thread"`` (a
            native id) or ``"process"`` have the shares of GIL and CPU added to them.

    Returns:
        What takes it out again.
    """
    token = id(provider)
    with _lock:
        while token in _providers:
            token += 1
        _providers[token] = kind, provider

    def forget() -> None:
        with _lock:
            _providers.pop(token, None)

    return forget


def folder() -> Path:
    """Where the sockets of this user are: below XDG_RUNTIME_DIR, or in /tmp."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "atoll"
    return Path("/tmp") / f"atoll-{os.geteuid()}"


def listen(path: str | os.PathLike[str] | None = None) -> Path:
    """Open the socket, if it is not open; mode 0600.

    Args:
        path: Of the socket; by default `folder()`/PID.sock, where `atoll top` finds it.

    Returns:
        Its path.

    Raises:
        RuntimeError: It is open at another path, or this is not the main interpreter.
        PermissionError: The folder is somebody else's, or open to others.
        OSError: It cannot be opened; for one because another process listens there.
    """
    global _listener
    if _atoll.interpreter_here() != 0:
        raise RuntimeError("only the main interpreter listens: it sees all the others")
    with _lock:
        if _listener is not None and _listener.process_id != os.getpid():
            _listener = None  # the parent's, before a fork
        if _listener is None:
            _listener = _Listener(None if path is None else Path(path).absolute())
        elif path is not None and Path(path).absolute() != _listener.path:
            raise RuntimeError(f"already listening at {_listener.path}")
        return _listener.path


def close() -> None:
    """Close the socket; nothing happens where none is open."""
    global _listener
    with _lock:
        listener, _listener = _listener, None
    if listener is not None:
        listener.close()


def listen_if_asked() -> None:
    """`listen` where ATOLL_TOP says so: 1, or the path of a socket."""
    asked = os.environ.get("ATOLL_TOP", "")
    if asked in ("", "0") or _listener is not None or _atoll.interpreter_here() != 0:
        return
    try:
        listen(None if asked == "1" else asked)
    except OSError as error:
        warnings.warn(f"ATOLL_TOP: {error}", RuntimeWarning, stacklevel=3)


# ---- what is told ----------------------------------------------------------------


def _pools() -> Iterator[dict[str, Any]]:
    ending = sys.modules.get("atoll._pool.ending")
    if ending is not None:
        for pool in sorted(ending.living(), key=lambda pool: pool._number):
            yield dict(pool.stats())


def _cpu_seconds(place: str) -> float | None:
    """Of a thread or process, by its folder in /proc."""
    try:
        with open(f"/proc/{place}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _interpreter_of(thread: int) -> int | None:
    """The interpreter whose owner a thread is: src/interp/owner.c names it after it."""
    try:
        with open(f"/proc/self/task/{thread}/comm") as file:
            kind, _, number = file.read().strip().partition("-")
    except OSError:
        return None
    return int(number) if kind == "atoll" and number.isdecimal() else None


def _add_shares(lists: dict[str, list[dict[str, Any]]]) -> float | None:
    """Add what workers use to each; the share of the main interpreter's GIL."""
    workers = [
        worker
        for things in lists.values()
        for thing in things
        for worker in thing.get("workers", ())
    ]
    for worker in workers:
        elsewhere = worker.get("process") not in (None, 0, os.getpid())
        if worker.get("thread") and "interpreter" not in worker and not elsewhere:
            interpreter = _interpreter_of(worker["thread"])
            if interpreter is not None:
                worker["interpreter"] = interpreter
    inside = [worker for worker in workers if "interpreter" in worker]
    ids = [0, *(int(worker["interpreter"]) for worker in inside)]
    main, *shares = _atoll.gil_shares(ids, _SAMPLE_SECONDS)
    for worker, share in zip(inside, shares, strict=True):
        worker["gil"] = share
    for worker in workers:
        process = worker.get("process")
        if worker.get("thread"):
            thread = worker["thread"]
            worker["cpu_seconds"] = _cpu_seconds(f"{process or 'self'}/task/{thread}")
        elif process:
            worker["cpu_seconds"] = _cpu_seconds(str(process))
        if process not in (None, 0, os.getpid()):
            worker.setdefault("resident_bytes", _resident_bytes(str(process)))
    return main


def snapshot() -> dict[str, Any]:
    """All that there is to tell now; it takes a tenth of a second."""
    lists: dict[str, list[dict[str, Any]]] = {"pools": list(_pools()), "servers": []}
    with _lock:
        providers = list(_providers.values())
    for kind, provider in providers:
        told = provider()
        if told is not None:
            lists.setdefault(kind, []).append(dict(told))
    gil = _add_shares(lists)
    return {
        "version": VERSION,
        "process": os.getpid(),
        "command": sys.orig_argv,
        "python": sys.version.split()[0],
        "uptime": time.monotonic() - _started_at,
        "time": time.monotonic(),
        "gil": gil,
        "memory_bytes": _resident_bytes("self"),
        **lists,
    }


def _resident_bytes(process: str) -> int | None:
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None  # it has ended


# ---- the socket ------------------------------------------------------------------


def _make_folder() -> Path:
    place = folder()
    with contextlib.suppress(FileExistsError):
        place.mkdir(0o700)
    found = place.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or found.st_mode & 0o077
    ):
        raise PermissionError(f"{place} is not a folder of this user's alone")
    return place


class _Listener:
    """The socket, and the thread that answers on it, one client after the other."""

    def __init__(self, path: Path | None) -> None:
        self.process_id = os.getpid()
        self.path = path or _make_folder() / f"{self.process_id}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind()
        except BaseException:
            self._socket.close()
            raise
        self._inode = self.path.lstat().st_ino
        atexit.register(self.close)
        threading.Thread(target=self._serve, name="atoll-top", daemon=True).start()

    def _bind(self) -> None:
        address = str(self.path)
        try:
            self._socket.bind(address)
        except OSError:
            # What a process left that was killed is taken over; nothing else is.
            if not self.path.is_socket() or _is_alive(address):
                raise
            self.path.unlink()
            self._socket.bind(address)
        self.path.chmod(0o600)  # before anybody can connect
        self._socket.listen(8)

    def close(self) -> None:
        atexit.unregister(self.close)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._socket.close()
        with contextlib.suppress(OSError):
            if self.process_id == os.getpid() and (
                self.path.lstat().st_ino == self._inode
            ):
                self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return  # closed
            with client, contextlib.suppress(OSError):
                _answer(client)


def _is_alive(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


def _request(client: socket.socket) -> bytes | None:
    """The one line of a request; None where it does not come as it should."""
    until = time.monotonic() + _PATIENCE_SECONDS
    line = b""
    while not line.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0 or len(line) >= _REQUEST_BYTES:
            return None
        client.settimeout(left)
        part = client.recv(_REQUEST_BYTES - len(line))
        if not part:
            return None
        line += part
    return line


def _answer(client: socket.socket) -> None:
    credentials = client.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    _, user, _ = _CREDENTIALS.unpack(credentials)
    if user not in (0, os.geteuid()):
        return
    line = _request(client)
    if line is None:
        return
    answer: dict[str, Any]
    if line != _REQUEST:
        answer = {"version": VERSION, "error": "the only request is: stats"}
    else:
        try:
            answer = snapshot()
        except Exception as error:  # of a provider: the socket stays
            text = f"{type(error).__name__}: {error}"
            answer = {"version": VERSION, "error": text}
    client.settimeout(_PATIENCE_SECONDS)
    client.sendall(json.dumps(answer, default=str).encode() + b"\n")
