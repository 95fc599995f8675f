"""The server's log lines, the same in every interpreter."""

import logging
import time
from typing import Any

logger = logging.getLogger("atoll.server")
access = logging.getLogger("atoll.access")


def set_up(level: str, who: str = "server") -> None:
    """Send the "atoll" loggers to stderr, unless the program has set them up itself.

    Args:
        level: Name of a `logging` level, in any case.
        who: Whose lines they are: the server's, or those of a worker.
    """
    root = logging.getLogger("atoll")
    root.setLevel(level.upper())
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s {who} %(levelname)s %(message)s", "%H:%M:%S")
    )
    root.addHandler(handler)
    root.propagate = False


def log_access(scope: dict[str, Any], status: int, size: int, seconds: float) -> None:
    """One line for a request, in the common log format and its time in ms."""
    client = scope.get("client") or ("-", 0)
    target = (scope["raw_path"] or b"").decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    access.info(
        '%s - - [%s] "%s %s HTTP/%s" %d %d %.1fms',
        client[0],
        time.strftime("%d/%b/%Y:%H:%M:%S %z"),
        scope.get("method", "GET"),
        target,
        scope["http_version"],
        status,
        size,
        seconds * 1000,
    )
