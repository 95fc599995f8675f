"""What the log says when the server serves: where it listens."""

import logging

from atoll._server.hosts import Host
from atoll._server.plan import Plan
from atoll._server.settings import Settings

logger = logging.getLogger("atoll.server")


def announce(settings: Settings, plan: Plan, host: Host) -> None:
    """Say where the application is, and the server's own paths."""
    for name, port in host.addresses():
        scheme = "https" if settings.ssl_certfile else "http"
        logger.info(
            "listening on %s (%s, %s)",
            _place(scheme, name, port),
            settings.app,
            plan.describe(),
        )
    for name, port in host.service.control_addresses():
        logger.info("control on %s", _place("http", name, port))


def _place(scheme: str, host: str, port: int) -> str:
    if port < 0:
        return f"unix:{host}"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
