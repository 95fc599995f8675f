"""What a server is told: one frozen record, plain enough to cross interpreters."""

import dataclasses
from typing import Any, Literal

from atoll._server.checking import checked

Lifespan = Literal["auto", "on", "off"]
Loop = Literal["auto", "asyncio", "uvloop"]
Interface = Literal["auto", "asgi", "wsgi"]
Model = Literal["auto", "interpreters", "threads", "processes"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to serve one application.

    Raises:
        TypeError, ValueError: A value that cannot be; see `checking`.

    Attributes:
        app: Where it is: "module:attribute", the attribute may have dots.
        app_dir: Folder put first on `sys.path`, or "".
        factory: Call the attribute to get the application.
        host: Name or address to listen on; "" for every address of the machine.
        port: TCP port; 0 lets the system choose.
        uds: Path of a Unix socket to listen on instead, or "".
        fd: Descriptor of a listening socket to use instead, or -1.
        proxy_headers: Believe `Forwarded` and `X-Forwarded-*` of trusted proxies.
        forwarded_allow_ips: Who is trusted: addresses and networks with commas between,
            "unix" for Unix sockets, "*" for everyone.
        proxy_protocol: Every connection begins with a PROXY header, version 1 or 2;
            who is not trusted is refused.
        backlog: Connections that may wait to be accepted.
        workers: How many workers serve, of each process where there are several.
        model: What a worker is: an interpreter with its own GIL, a thread of one
            interpreter, or a process; "auto" takes threads on a free-threaded build,
            interpreters otherwise.
        processes: So many processes, each with its workers; 0: this one alone.
        preload: Import the application once, in a process whose forks serve it.
        app_per_thread: With threads: a copy of the application for each.
        interface: What the application speaks; "auto" finds out.
        threads: Threads of each worker that run a WSGI application, 0 for four; on a
            free-threaded build, event loops of an ASGI application, 0 for one.
        loop: Event loop of a worker: "uvloop", "asyncio", or "auto" for uvloop where it
            is installed.
        lifespan: Whether the application speaks ASGI's lifespan protocol.
        root_path: ASGI's `root_path`: the prefix under which a proxy mounts the
            application.
        reload: Put new workers in place of the old ones when a file changes.
        reload_dirs: Folders that are watched; none: `app_dir`.
        reload_include: Patterns of the names of files that matter.
        max_requests: After so many a worker is replaced; 0: never.
        max_requests_jitter: At most so many more, by chance, for each worker.
        max_worker_lifetime: Seconds after which a worker is replaced; 0: never.
        max_worker_lifetime_jitter: At most so many more, by chance, for each worker.
        max_worker_memory: Megabytes of Python objects after which a worker is replaced,
            looked at each second; 0: never. Only interpreters know, not the main one.
        stuck_after: Seconds without a sign of life after which the log gets a worker's
            Python stack; 0: never, as for the next two.
        request_timeout: Seconds to the begin of a response; then the request gets a
            `RequestTimeout`, or its task is cancelled, and the client 503.
        replace_stuck_after: Seconds without a sign of life after which a worker is
            replaced and its requests are answered 503.
        static: Folders of static files, "PREFIX=FOLDER" each.
        log_level: Name of a `logging` level; "warn", "fatal" and uvicorn's "trace", which
            is "debug" here, are understood.
        access_log: Log each request; None: where a file or a format is given.
        access_log_file: File to append the access log to; "-" for standard output.
        access_log_format: "common", "combined", "json", or a format with atoms such as
            %(h)s.
        timeout_head: Seconds for a request's head to arrive; 0: no limit, as for all.
        timeout_body: Seconds without a byte of a body that the application wants.
        timeout_keep_alive: Seconds between two requests of a connection.
        timeout_write: Seconds without the client's taking a byte.
        timeout_drain: Seconds for running requests to end when the server stops.
        limit_request_line: Bytes of a request's first line.
        limit_head: Bytes of a request's head.
        limit_headers: Header fields of a request.
        limit_body: Bytes of a request's body; 0: no limit.
        limit_concurrency: Requests and WebSockets of each worker at a time, the next is
            answered 503; 0: any number.
        max_connections: Connections of the server, all its processes, at a time: above
            it one that rests makes room for a new one, or that is answered 503. 0: any
            number. So is done in any case above nine tenths of the descriptors that a
            process may open.
        max_queue_delay: Seconds that requests may wait for the application. Once all
            that come to their turn have waited longer, for a tenth of a second, those
            that have are answered 503; so are those that wait for workers that are all
            stuck. 0: any time.
        metrics_path: Path of metrics for Prometheus, or "".
        health_path: Path that is answered 200 while the process lives, or "".
        ready_path: Path that is answered 200 while requests are welcome, otherwise 503;
            or "".
        control_bind: Where these three paths are, and nothing else: "host:port" or
            "unix:path"; they have defaults then: /metrics, /health, /ready. "": where
            the application is.
        timeout_handshake: Seconds for a TLS handshake.
        http2: Offer HTTP/2 to clients over TLS.
        h2_streams: Requests of an HTTP/2 connection at a time.
        h2_stream_window: Bytes of a body that may lie unread, for each request.
        h2_connection_window: And for all requests of a connection.
        h2_resets: Requests of a connection that may be given up before their answer,
            each second: more is an attack (rapid reset), and ends it.
        h2_control: PING, SETTINGS, PRIORITY and empty frames of a connection each
            second; likewise.
        ssl_certfile: PEM files of certificates with their chains; the first is for
            clients that name no host, the others by the host that is named. None: no
            TLS.
        ssl_keyfile: PEM files of their private keys, in the same order; where there are
            none, the keys are in the certificates' files.
        ssl_keyfile_password: Of the keys, or "".
        ssl_ca_certs: PEM file of those who sign clients' certificates, or "".
        ssl_cert_reqs: Whether a client needs one, as `ssl.VerifyMode`: 0 no, 1 a good
            one if any, 2 yes.
        ssl_ciphers: Of TLS 1.2, in OpenSSL's notation; "" for OpenSSL's own choice.
        ws_max_size: Bytes of a WebSocket message, inflated.
        ws_max_queue: WebSocket messages that may wait for the application; above that
            the client is not read.
        ws_ping_interval: Seconds without a byte of a WebSocket's client until it is
            sent a ping; 0: never.
        ws_ping_timeout: Seconds for the answer to that; 0: no limit.
        ws_per_message_deflate: Agree to compress WebSocket messages.
    """

    app: str
    app_dir: str = ""
    factory: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str = ""
    fd: int = -1
    proxy_headers: bool = True
    forwarded_allow_ips: str = "127.0.0.1,::1,unix"
    proxy_protocol: bool = False
    backlog: int = 2048
    workers: int = 1
    model: Model = "auto"
    processes: int = 0
    preload: bool = False
    app_per_thread: bool = False
    interface: Interface = "auto"
    threads: int = 0
    loop: Loop = "auto"
    lifespan: Lifespan = "auto"
    root_path: str = ""
    static: tuple[str, ...] = ()
    log_level: str = "info"
    reload: bool = False
    reload_dirs: tuple[str, ...] = ()
    reload_include: tuple[str, ...] = ("*.py",)
    max_requests: int = 0
    max_requests_jitter: int = 0
    max_worker_lifetime: float = 0.0
    max_worker_lifetime_jitter: float = 0.0
    max_worker_memory: int = 0
    stuck_after: float = 10.0
    request_timeout: float = 0.0
    replace_stuck_after: float = 60.0
    access_log: bool | None = None
    access_log_file: str = "-"
    access_log_format: str = "combined"
    timeout_head: float = 10.0
    timeout_body: float = 30.0
    timeout_keep_alive: float = 60.0
    timeout_write: float = 30.0
    timeout_drain: float = 30.0
    limit_request_line: int = 8190
    limit_head: int = 65536
    limit_headers: int = 100
    limit_body: int = 0
    limit_concurrency: int = 0
    max_connections: int = 0
    max_queue_delay: float = 10.0
    metrics_path: str = ""
    health_path: str = ""
    ready_path: str = ""
    control_bind: str = ""
    timeout_handshake: float = 10.0
    http2: bool = True
    h2_streams: int = 100
    h2_stream_window: int = 262144
    h2_connection_window: int = 1048576
    h2_resets: int = 100
    h2_control: int = 1000
    ssl_certfile: tuple[str, ...] = ()
    ssl_keyfile: tuple[str, ...] = ()
    ssl_keyfile_password: str = ""
    ssl_ca_certs: str = ""
    ssl_cert_reqs: int = 0
    ssl_ciphers: str = ""
    ws_max_size: int = 16 * 1024 * 1024
    ws_max_queue: int = 32
    ws_ping_interval: float = 20.0
    ws_ping_timeout: float = 20.0
    ws_per_message_deflate: bool = True

    def __post_init__(self) -> None:
        for name, value in checked(self).items():
            object.__setattr__(self, name, value)

    def logs_access(self) -> bool:
        """Is there an access log?"""
        if self.access_log is not None:
            return self.access_log
        return (self.access_log_file, self.access_log_format) != ("-", "combined")

    def to_dict(self) -> dict[str, Any]:
        """The record as a plain dict of str, int, float, bool and tuples of str."""
        return dataclasses.asdict(self)
