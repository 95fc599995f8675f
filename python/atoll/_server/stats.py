"""What a server tells of itself: the types of `Server.stats()`.

All of it is read from counters in C, in no worker's interpreter: it comes at once,
also while Python is busy.
"""

import time
from typing import Any, TypedDict


class Histogram(TypedDict):
    """A distribution over time.

    Attributes:
        count: Observations.
        sum: Of all of them, seconds.
        buckets: Upper bound in seconds, and how many observations were at most that
            long; the last bound is infinite.
    """

    count: int
    sum: float
    buckets: list[tuple[float, int]]


class WorkerStats(TypedDict):
    """One worker, the ones that it replaced included: no count goes back.

    Attributes:
        worker: Its number, from 0, through all processes.
        process: The system's number of its process; 0 while it has none.
        thread: Native id of its thread; 0 while it has none.
        state: "serves", "drains" (no other has taken its place yet), or "absent".
        stuck: Seconds for which something has waited that the worker has not begun
            with, or for which it is busy with one thing; 0.0 where it keeps up.
        connections: That it has now.
        running: Requests and WebSockets that it has now.
        memory_bytes: What Python objects take in its interpreter; None where that is
            not known: in the main interpreter, and without the GIL. Of an interpreter
            in another process, as of the last second in which it served.
        accepted: Connections that came to it.
        refused: Connections over `max_connections`.
        requests: Requests whose head was read.
        lost: Requests whose client went before the answer's end.
        overload: Requests answered 503 by `max_queue_delay`.
        crowded: Requests answered 503 by `limit_concurrency`.
        received_bytes: From clients, without TLS.
        sent_bytes: To clients, without TLS.
        logged: Lines given to the access log.
        unlogged: Lines of the access log dropped because the disk was slow.
        responses: By class, "1xx" to "5xx".
        latency: From a request's head to the end of its answer.
        queue_delay: From a request's arrival to the application.
        loop_lag: From readiness of the sockets to the event loop, for each batch
            that brings a request over a connection that was there before.
        gil_wait: For the interpreter's GIL; the event loop's is sampled each second.
    """

    worker: int
    process: int
    thread: int
    state: str
    stuck: float
    connections: int
    running: int
    memory_bytes: int | None
    accepted: int
    refused: int
    requests: int
    lost: int
    overload: int
    crowded: int
    received_bytes: int
    sent_bytes: int
    logged: int
    unlogged: int
    responses: dict[str, int]
    latency: Histogram
    queue_delay: Histogram
    loop_lag: Histogram
    gil_wait: Histogram


class ServerStats(TypedDict):
    """A server.

    Attributes:
        uptime: Seconds since it began to listen.
        restarts: Workers that were replaced, by reason: "reload", "spent" (its
            requests, lifetime or memory), "stuck", "died".
        workers: One entry for each.
    """

    uptime: float
    restarts: dict[str, int]
    workers: list[WorkerStats]


def collect(service: Any, started_at: float) -> ServerStats:
    """The numbers of an `_atoll.Service` that listens since `time.monotonic()`."""
    return {
        "uptime": time.monotonic() - started_at,
        "restarts": service.restarts(),
        "workers": service.workers(),
    }
