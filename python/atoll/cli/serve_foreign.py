"""Options of uvicorn and gunicorn, in atoll's words.

What means the same is taken; what atoll has no choice in is taken where it chooses
what atoll does anyway; the rest is refused with a word of what to use.
"""

from collections.abc import Callable, Iterable

import click

#: Another name for an option.
SAME = {
    "--h11-max-incomplete-event-size": "--limit-head",
    "--timeout-graceful-shutdown": "--timeout-drain",
    "--graceful-timeout": "--timeout-drain",
    "--check-config": "--check",
    "--limit-max-requests": "--max-requests",
    "--limit-max-requests-jitter": "--max-requests-jitter",
    "--limit-request-fields": "--limit-headers",
    "--keep-alive": "--timeout-keep-alive",
    "--blocking-threads": "--threads",
    "--worker-connections": "--limit-concurrency",
    "--access-logfile": "--access-log-file",
    "--access-logformat": "--access-log-format",
    "--access-log-fmt": "--access-log-format",
    "--chdir": "--app-dir",
    "--pythonpath": "--app-dir",
    "--preload-app": "--preload",
    "--certfile": "--ssl-certfile",
    "--keyfile": "--ssl-keyfile",
    "--ca-certs": "--ssl-ca-certs",
    "--cert-reqs": "--ssl-cert-reqs",
    "--ciphers": "--ssl-ciphers",
    "--http2-initial-window-size": "--h2-stream-window",
    "--http2-max-concurrent-streams": "--h2-streams",
    "--websocket-max-message-size": "--ws-max-size",
    "-w": "--workers",
}

#: What to say of an option that is refused.
REFUSED = {
    "--limit-request-field_size": "use --limit-head",
    "--timeout": "use --stuck-after and --replace-stuck-after",
    "-t": "use --stuck-after and --replace-stuck-after",
    "--log-config": "configure the logger 'atoll.server' in APP",
    "--daemon": "let systemd or a container run it",
    "-D": "let systemd or a container run it",
    "--user": "let systemd or a container set it",
    "-u": "let systemd or a container set it",
    "--group": "let systemd or a container set it",
    "-g": "let systemd or a container set it",
    "--umask": "let systemd or a container set it",
    "-m": "let systemd or a container set it",
    "--pid": "systemd and containers know the process",
    "-p": "write --port; systemd and containers know the process",
    "-c": "use --config, of a TOML file",
    "--env": "use --env-file",
    "-e": "use --env-file",
    "--error-logfile": "it logs to standard error",
    "--log-file": "it logs to standard error",
    "--statsd-host": "use --metrics-path",
    "--proxy-allow-from": "use --forwarded-allow-ips",
    "--timeout-worker-healthcheck": "use --stuck-after and --replace-stuck-after",
    "--header": "let APP or the proxy in front send it",
    "--no-server-header": "a Server header of APP takes its place",
    "--no-date-header": "a Date header of APP takes its place",
    "--reload-exclude": "use --reload-include",
    "--version": "use atoll --version",
}


def _bind(value: str) -> list[str]:
    """gunicorn's --bind: HOST, HOST:PORT, unix:PATH or fd://NUMBER."""
    if value.startswith("unix:"):
        return ["--uds", value.removeprefix("unix:").removeprefix("//")]
    if value.startswith("fd://"):
        return ["--fd", value.removeprefix("fd://")]
    host, colon, port = value.rpartition(":")
    if not colon or value.endswith("]"):
        host, port = value, "8000"
    return ["--host", host.strip("[]"), "--port", port]


def _worker_class(value: str) -> list[str]:
    """gunicorn's classes: which protocol they speak."""
    name = value.rpartition(".")[2]
    if name.startswith("Uvicorn") or value == "asgi":
        return ["--interface", "asgi"]
    if value in ("sync", "gthread", "gevent", "eventlet", "tornado"):
        return ["--interface", "wsgi"]
    raise click.UsageError(
        f"atoll serve has no worker class {value!r}: use --interface and --threads."
    )


def _only(option: str, *values: str) -> Callable[[str], list[str]]:
    """A choice that atoll does not offer: taken where it makes no difference."""

    def check(value: str) -> list[str]:
        if value not in values:
            raise click.UsageError(
                f"atoll serve has no {option} {value}: there is one implementation."
            )
        return []

    return check


#: Options whose value says what they are in atoll's words.
READ: dict[str, Callable[[str], list[str]]] = {
    "--bind": _bind,
    "-b": _bind,
    "--worker-class": _worker_class,
    "-k": _worker_class,
    "--http": _only("--http", "auto", "h11", "httptools"),
    "--ws": _only("--ws", "auto", "websockets", "websockets-sansio", "wsproto"),
    "--asgi-version": lambda _: [],
    "--worker-tmp-dir": lambda _: [],
}

#: Flags without a value that change nothing here.
IDLE = frozenset(
    {"--use-colors", "--no-use-colors", "--server-header", "--date-header"}
    | {"--no-sendfile", "--reuse-port", "--no-control-socket"}
)


def translate(arguments: Iterable[str], known: Iterable[str]) -> list[str]:
    """The command line in atoll's words.

    Args:
        arguments: What the user wrote.
        known: atoll's own options, which are never translated.

    Raises:
        click.UsageError: An option that has no counterpart; it says what to use.
    """
    own = set(known)
    found: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*found, argument, *rest]
        name, equals, value = argument.partition("=")
        if name in own:
            found.append(argument)
        elif name in SAME:
            found.append(SAME[name] + equals + value)
        elif name in READ:
            if not equals:
                if not rest:
                    raise click.UsageError(f"Option {name!r} requires an argument.")
                value = rest.pop(0)
            found += READ[name](value)
        elif name in REFUSED:
            raise click.UsageError(f"atoll serve has no {name}: {REFUSED[name]}.")
        elif name not in IDLE:
            found.append(argument)
    return found
