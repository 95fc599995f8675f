"""The server's log lines, the same in every interpreter."""

import logging

logger = logging.getLogger("atoll.server")


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
