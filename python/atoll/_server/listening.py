"""The service with its sockets, limits, certificates and static files."""

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from atoll import _atoll
from atoll._server.settings import Settings


def make_service(settings: Settings) -> Any:
    """An `_atoll.Service` that listens nowhere yet.

    Raises:
        ValueError: A limit, a list of addresses, a certificate or a folder that cannot
            be used.
        OSError: A folder of static files that is not there.
    """
    service = _atoll.Service(
        request_line_bytes=settings.limit_request_line,
        head_bytes=settings.limit_head,
        header_count=settings.limit_headers,
        body_bytes=settings.limit_body,
        head_timeout=settings.timeout_head,
        body_timeout=settings.timeout_body,
        idle_timeout=settings.timeout_keep_alive,
        write_timeout=settings.timeout_write,
        handshake_timeout=settings.timeout_handshake,
        forwarded_allow=settings.forwarded_allow_ips,
        proxy_headers=settings.proxy_headers,
        proxy_protocol=settings.proxy_protocol,
        ws_message_bytes=settings.ws_max_size,
        ws_queue=settings.ws_max_queue,
        ws_ping_interval=settings.ws_ping_interval,
        ws_ping_timeout=settings.ws_ping_timeout,
        ws_deflate=settings.ws_per_message_deflate,
    )
    service.set_h2(
        settings.h2_streams,
        settings.h2_stream_window,
        settings.h2_connection_window,
        settings.h2_resets,
        settings.h2_control,
    )
    set_tls(service, settings)
    for mount in settings.static:
        prefix, _, folder = mount.partition("=")
        service.mount(prefix, folder)
    return service


def open_sockets(service: Any, settings: Settings) -> None:
    """Listen where the settings say, or on what systemd has opened.

    Raises:
        OSError: The address cannot be had.
        ValueError: A descriptor that is no listening socket.
    """
    inherited = [settings.fd] if settings.fd >= 0 else _from_systemd()
    if settings.uds:
        service.listen_unix(settings.uds, settings.backlog)
    elif inherited:
        adopt_sockets(service, inherited)
    else:
        service.listen(settings.host, settings.port, settings.backlog)


def explain(error: Exception) -> str:
    """What is wrong, for the user, and a way out where there is a common one."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    way_out = {
        errno.EADDRINUSE: "; choose another --port, or 0 for any that is free",
        errno.EACCES: "; ports below 1024 need CAP_NET_BIND_SERVICE, or a socket unit"
        " of systemd",
    }
    if error.strerror.startswith("cannot listen on ") and " port " in error.strerror:
        return error.strerror + way_out.get(error.errno or 0, "")
    return error.strerror


def adopt_sockets(service: Any, descriptors: Iterable[int]) -> None:
    """Listen on copies of those sockets."""
    for descriptor in descriptors:
        service.adopt(descriptor)


def close_sockets(service: Any, settings: Settings) -> None:
    """Take away the names of the Unix sockets that were opened; not of others' there."""
    opened = (*service.addresses(), *service.control_addresses())
    bind = settings.control_bind
    for path in (settings.uds, bind[5:] if bind.startswith("unix:") else ""):
        if path and (path, -1) in opened:
            with contextlib.suppress(OSError):
                Path(path).unlink()


def set_tls(service: Any, settings: Settings) -> None:
    """Read the certificates, at the start and again at SIGHUP.

    Raises:
        ValueError: A file cannot be used; what was set before stays.
    """
    if not settings.ssl_certfile:
        if settings.ssl_keyfile:
            raise ValueError("a private key needs its certificate: --ssl-certfile")
        return
    keys: tuple[str | None, ...] = settings.ssl_keyfile
    if not keys:
        keys = (None,) * len(settings.ssl_certfile)
    if len(keys) != len(settings.ssl_certfile):
        raise ValueError("there must be a private key for each certificate")
    service.set_tls(
        tuple(zip(settings.ssl_certfile, keys, strict=True)),
        settings.ssl_keyfile_password or None,
        settings.ssl_ca_certs or None,
        settings.ssl_cert_reqs,
        settings.ssl_ciphers or None,
        settings.http2,
    )


def _from_systemd() -> list[int]:
    """The sockets that systemd has opened for this process (sd_listen_fds(3))."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return list(range(3, 3 + int(count)))
