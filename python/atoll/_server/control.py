"""What the server does by itself: limits, health, metrics and the access log."""

import resource
from typing import Any

from atoll._server.settings import Settings

#: Where the server's own paths are on a listener of their own, unless they are set.
DEFAULT_PATHS = ("/metrics", "/health", "/ready")


def set_up(service: Any, settings: Settings, threads: int, is_first: bool) -> None:
    """Tell an `_atoll.Service` of it, before its first worker; starts the guard.

    Args:
        service: The service.
        settings: What to tell it.
        threads: How many serve when all have started.
        is_first: No process above has the listener of the server's own paths.

    Raises:
        ValueError: A path, an address or the access log's format is none.
        OSError: The address cannot be listened on, or the log not be opened.
    """
    service.set_overload(
        settings.max_queue_delay,
        settings.limit_concurrency,
        settings.max_connections,
        most_connections(),
    )
    paths = (settings.metrics_path, settings.health_path, settings.ready_path)
    if settings.control_bind:
        if not is_first:
            paths = ("", "", "")
        elif not any(paths):
            paths = DEFAULT_PATHS
    service.set_control(*paths, threads)
    if settings.control_bind and is_first:
        service.listen_control(*parse_bind(settings.control_bind))
    if settings.logs_access():
        service.log_access(settings.access_log_file, settings.access_log_format)
    if (settings.control_bind and is_first) or settings.max_queue_delay:
        service.start_guard()


def most_connections() -> int:
    """Nine tenths of the descriptors, so that the application has some; 0: any."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft * 9 // 10


def parse_bind(text: str) -> tuple[str, int]:
    """Host and port of "host:port", "[address]:port" or ":port"; -1 for "unix:path".

    Raises:
        ValueError: It is none of these.
    """
    if text.startswith("unix:"):
        return text.removeprefix("unix:"), -1
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"--control-bind {text!r} is neither host:port nor unix:path")
    if int(port) > 65535:
        raise ValueError(f"--control-bind {text!r}: a port is at most 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, int(port)
