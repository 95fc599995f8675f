"""`atoll serve`: an ASGI or WSGI application on every core."""

import dataclasses
import faulthandler
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from atoll._server.check import find_fault
from atoll._server.checking import LEVEL_ALIASES, LEVELS
from atoll._server.plan import make_plan
from atoll._server.settings import Settings
from atoll._server.supervisor import Supervisor, run_process
from atoll.cli import serve_config

_DEFAULTS = Settings(app="")


def _option(
    name: str, field: str, help: str, **extra: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A click option for a field of Settings, with its default and type."""
    default = getattr(_DEFAULTS, field)
    if isinstance(default, int | float) and not isinstance(default, bool):
        extra.setdefault("metavar", "NUMBER")
    return click.option(
        name,
        field,
        cls=serve_config.ServeOption,
        default=default,
        type=extra.pop("type", type(default)),
        show_default=True,
        help=help,
        **extra,
    )


@click.command(
    cls=serve_config.ServeCommand,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "ATOLL",
    },
)
@click.argument("app", envvar="ATOLL_APP")
@click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    callback=serve_config.read_config,
    metavar="FILE",
    help="TOML file with a [serve] table of these options.",
)
@click.option(
    "--env-file",
    is_eager=True,
    expose_value=False,
    callback=serve_config.read_env_file,
    type=click.Path(exists=True, dir_okay=False),
    help="File of NAME=value lines for the environment.",
)
@_option("--host", "host", "Name or address to listen on; '' for all.")
@_option(
    "--port",
    "port",
    "TCP port; 0: any that is free.",
    type=click.IntRange(0, 65535),
)
@_option(
    "--workers",
    "workers",
    "How many serve, of each process where there are several.",
    type=click.IntRange(1, 256),
    envvar="WEB_CONCURRENCY",
)
@_option(
    "--model",
    "model",
    "What a worker is; auto: threads without a GIL, else interpreters.",
    type=click.Choice(["auto", "interpreters", "threads", "processes"]),
)
@_option(
    "--processes",
    "processes",
    "So many processes, each with its workers; 0: this one.",
    type=click.IntRange(0, 256),
)
@click.option(
    "--preload", is_flag=True, help="Import APP once, and fork processes that serve it."
)
@click.option(
    "--app-per-thread", is_flag=True, help="With threads: a copy of APP for each."
)
@_option(
    "--interface",
    "interface",
    "What APP speaks.",
    type=click.Choice(["auto", "asgi", "wsgi"]),
)
@_option(
    "--threads",
    "threads",
    "Threads of each worker; 0: 4 for WSGI, 1 for ASGI (no GIL).",
    type=click.IntRange(0, 1024),
)
@_option(
    "--loop",
    "loop",
    "Event loop.",
    type=click.Choice(["auto", "uvloop", "asyncio"]),
)
@click.option("--factory", is_flag=True, help="APP is a function that makes the app.")
@_option("--app-dir", "app_dir", "Folder to import APP from (default: this one).")
@_option(
    "--lifespan",
    "lifespan",
    "ASGI lifespan.",
    type=click.Choice(["auto", "on", "off"]),
)
@click.option(
    "--static",
    multiple=True,
    metavar="PREFIX=FOLDER",
    callback=serve_config.check_mounts,
    help="Serve files, without the app; repeatable.",
)
@_option("--root-path", "root_path", "Prefix under which a proxy mounts the app.")
@_option(
    "--log-level",
    "log_level",
    "Least level that is logged.",
    metavar=f"[{'|'.join(LEVELS)}]",  # warn, fatal and trace are understood too
    type=click.Choice([*LEVELS, *LEVEL_ALIASES], case_sensitive=False),
)
@click.option("--reload", is_flag=True, help="Reload when a file changes.")
@click.option(
    "--reload-dir",
    "reload_dirs",
    multiple=True,
    help="Folder to watch; again for more (default: the app's).",
)
@click.option(
    "--reload-include",
    "reload_include",
    multiple=True,
    default=_DEFAULTS.reload_include,
    show_default=True,
    help="Pattern of files that matter; again for more.",
)
@_option("--max-requests", "max_requests", "Requests of a worker's life; 0: any.")
@_option("--max-requests-jitter", "max_requests_jitter", "At most so many more.")
@_option("--max-worker-lifetime", "max_worker_lifetime", "Seconds; 0: any.")
@_option(
    "--max-worker-lifetime-jitter",
    "max_worker_lifetime_jitter",
    "At most so many more.",
)
@_option("--max-worker-memory", "max_worker_memory", "MB of Python objects; 0: any.")
@_option("--stuck-after", "stuck_after", "Seconds of silence to a stack in the log.")
@_option("--request-timeout", "request_timeout", "Seconds to a response; 0: any.")
@_option(
    "--replace-stuck-after",
    "replace_stuck_after",
    "Seconds of silence to a worker's end; 0: any.",
)
@click.option(
    "--access-log/--no-access-log",
    default=None,
    help="Log each request (default: with a file or a format).",
)
@_option(
    "--access-log-file",
    "access_log_file",
    "File for that; '-': standard output. SIGUSR1 opens it again.",
)
@_option(
    "--access-log-format",
    "access_log_format",
    "common, combined, json, or atoms as in '%(h)s %(r)s %(s)s'.",
)
@_option("--uds", "uds", "Unix socket to listen on instead.")
@_option("--fd", "fd", "Descriptor of a listening socket to use instead.")
@click.option(
    "--proxy-headers/--no-proxy-headers",
    default=True,
    help="Believe Forwarded and X-Forwarded-* of trusted proxies.",
)
@_option(
    "--forwarded-allow-ips",
    "forwarded_allow_ips",
    "Trusted proxies: addresses, networks, 'unix' or '*'.",
    envvar="FORWARDED_ALLOW_IPS",
)
@click.option("--proxy-protocol", is_flag=True, help="Expect PROXY headers.")
@_option("--backlog", "backlog", "Connections that may wait to be accepted.")
@_option("--timeout-head", "timeout_head", "Seconds for a request's head; 0: none.")
@_option("--timeout-body", "timeout_body", "Seconds without a byte of a body.")
@_option("--timeout-keep-alive", "timeout_keep_alive", "Seconds between two requests.")
@_option("--timeout-write", "timeout_write", "Seconds without a client's reading.")
@_option("--timeout-drain", "timeout_drain", "Seconds for requests to end at a stop.")
@_option("--limit-request-line", "limit_request_line", "Bytes of a request's line.")
@_option("--limit-head", "limit_head", "Bytes of a request's head.")
@_option("--limit-headers", "limit_headers", "Header fields of a request.")
@_option("--limit-body", "limit_body", "Bytes of a request's body; 0: no limit.")
@_option(
    "--limit-concurrency",
    "limit_concurrency",
    "Requests of each worker at a time, then 503; 0: any.",
    type=click.IntRange(0),
)
@_option(
    "--max-connections",
    "max_connections",
    "Connections, of all processes; 0: 90 % of the open files of each.",
    type=click.IntRange(0),
)
@_option(
    "--max-queue-delay",
    "max_queue_delay",
    "Seconds a request may wait before 503; 0: any.",
    type=click.FloatRange(0),
)
@_option("--metrics-path", "metrics_path", "Metrics for Prometheus, e.g. /metrics.")
@_option("--health-path", "health_path", "Answered 200 while the process lives.")
@_option("--ready-path", "ready_path", "Answered 200 while requests are welcome.")
@_option(
    "--control-bind",
    "control_bind",
    "Have these paths at host:port or unix:path instead.",
)
@_option("--timeout-handshake", "timeout_handshake", "Seconds for a TLS handshake.")
@click.option("--http2/--no-http2", default=True, help="Offer HTTP/2 over TLS.")
@_option("--h2-streams", "h2_streams", "Requests of a connection at a time.")
@_option("--h2-stream-window", "h2_stream_window", "Unread bytes of a request's body.")
@_option("--h2-connection-window", "h2_connection_window", "And of a connection.")
@_option("--h2-resets", "h2_resets", "Requests given up each second, then the end.")
@_option("--h2-control", "h2_control", "PINGs and the like each second, then the end.")
@click.option("--ssl-certfile", multiple=True, help="PEM file; again for other hosts.")
@click.option("--ssl-keyfile", multiple=True, help="Its key, in the same order.")
@_option("--ssl-keyfile-password", "ssl_keyfile_password", "Password of the keys.")
@_option("--ssl-ca-certs", "ssl_ca_certs", "PEM file of clients' authorities.")
@_option(
    "--ssl-cert-reqs",
    "ssl_cert_reqs",
    "Clients' certificates: 0 none, 1 optional, 2 required.",
    type=click.IntRange(0, 2),
)
@_option("--ssl-ciphers", "ssl_ciphers", "Ciphers of TLS 1.2, as OpenSSL has them.")
@_option("--ws-max-size", "ws_max_size", "Bytes of a WebSocket message.")
@_option("--ws-max-queue", "ws_max_queue", "WebSocket messages that may wait.")
@_option("--ws-ping-interval", "ws_ping_interval", "Seconds of silence to a ping.")
@_option("--ws-ping-timeout", "ws_ping_timeout", "Seconds to answer a ping.")
@_option("--ws-per-message-deflate", "ws_per_message_deflate", "Compress messages.")
@click.option(
    "--check",
    "check",
    is_flag=True,
    help="Serve nothing: say whether APP would be served, and exit with 0 or 1.",
)
@click.option(
    "--in-main",
    "in_main",
    is_flag=True,
    hidden=True,
    help="Serve from a thread of the main interpreter (for debugging).",
)
def serve(in_main: bool, check: bool, app_dir: str, **fields: Any) -> None:
    """Serve the ASGI or WSGI application APP ("module:attribute").

    Ctrl-C, or SIGTERM, finishes the running requests and ends with 0; a second one ends
    at once.
    """
    try:
        settings = Settings(app_dir=app_dir or os.getcwd(), **fields)  # noqa: PTH109
        plan = make_plan(settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if check:
        if (fault := find_fault(settings, plan)) is not None:
            raise click.ClickException(fault)
        click.echo(f"{settings.app} can be served by {plan.describe()}")
        return
    faulthandler.enable()
    if in_main:
        plan = dataclasses.replace(plan, workers=1, place="main")
    sys.exit(run_process(Supervisor(settings, plan=plan)))
