"""A worker's WSGI side: threads of this interpreter that serve and run the application.

See PEP 3333, and src/serve/wsgi.h for who does what when.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BufferedRandom, BufferedReader, FileIO
from typing import Any

from atoll import _atoll
from atoll._errors import ClientDisconnectedError
from atoll._server.plan import WSGI_THREADS, process_count
from atoll._server.settings import Settings
from atoll._server.witness import Witness

logger = logging.getLogger("atoll.server")

#: Seconds for an application's thread to come back after its client was cut off.
ABANDON_S = 2.0
#: Seconds between two looks at how long requests run, at least.
LOOK_LEAST_S = 0.02


class FileWrapper:
    """`wsgi.file_wrapper`: a file as an iterable of its blocks."""

    def __init__(self, filelike: Any, blksize: int = 65536) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def extent(self) -> tuple[int, int] | None:
        """The file's descriptor, and where in it the next byte to be read is.

        None where what is read may be anything else than what the descriptor has:
        `gzip.GzipFile`, for one, has a `fileno()` and a `tell()` too.
        """
        file = self.filelike
        raw = file.raw if type(file) in (BufferedReader, BufferedRandom) else file
        if type(raw) is not FileIO or file.closed:
            return None
        try:
            if type(file) is BufferedRandom:
                file.flush()
            return raw.fileno(), file.tell()
        except OSError:  # a pipe
            return None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if not data:
            raise StopIteration
        return data


def serve(
    settings: Settings,
    service: int,
    index: int,
    app: Callable[..., Any],
    ready: Callable[[], None],
    witness: Witness,
) -> None:
    """Serve `app` on threads of this interpreter until the service drains.

    Args:
        settings: How.
        service: Number of the `_atoll.Service`.
        index: Number of this worker, from 0.
        app: The WSGI application.
        ready: Called when the worker serves.
        witness: Is told of the threads.
    """
    count = settings.threads or WSGI_THREADS
    worker = _atoll.WsgiWorker(
        service=service,
        app=app,
        root_path=settings.root_path.rstrip("/"),
        # How many there are in all says `wsgi.multithread` and `wsgi.multiprocess`.
        threads=count * (settings.workers if settings.model == "threads" else 1),
        processes=process_count(settings),
        errors=sys.stderr,
        on_error=log_failure,
        file_wrapper=FileWrapper,
        gone_class=ClientDisconnectedError,
        index=index,
    )
    # Not waited for at the interpreter's end: one that never comes back shall not keep
    # the server from its own.
    threads = [
        threading.Thread(target=worker.work, name=f"wsgi-{i}", daemon=True)
        for i in range(count)
    ]
    for thread in threads:
        thread.start()
    timeout = settings.request_timeout
    witness.enter(
        lambda: worker.interrupt(timeout),
        [thread.ident or 0 for thread in threads],
    )
    ready()
    while not worker.wait_drain(max(timeout / 8, LOOK_LEAST_S) if timeout else None):
        worker.interrupt(timeout)
    worker.drain()
    if not worker.wait_drained(settings.timeout_drain or None):
        logger.warning("requests still run after %g s: cut off", settings.timeout_drain)
    worker.end()
    witness.leave()
    end = time.monotonic() + ABANDON_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def log_failure(
    environ: dict[str, Any] | None, error: BaseException | None, text: str
) -> None:
    """Log what went wrong in a request; called by the C side."""
    what = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}: " if environ else ""
    if isinstance(error, ClientDisconnectedError):
        logger.debug("%s%s: the client went away", what, text)
    else:
        logger.error("%s%s", what, text, exc_info=error)
