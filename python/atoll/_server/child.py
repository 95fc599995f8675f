"""A child process of the server: one that serves, or the template of such.

    python -c "from atoll._server.child import main; main()" ROLE DESCRIPTOR

DESCRIPTOR is the socket to the process above.
"""

import contextlib
import faulthandler
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll import _atoll
from atoll._server import inquest, logs
from atoll._server.hosts import Inside
from atoll._server.loading import AppError, app_traceback, load_app
from atoll._server.orders import Orders
from atoll._server.plan import Plan
from atoll._server.settings import Settings
from atoll._server.supervisor import Supervisor, run_process


def main() -> None:
    """The process; ends by SystemExit."""
    faulthandler.enable()
    _keep_descriptors()
    role, descriptor = sys.argv[1:]
    sys.argv[1:] = []
    control = socket.socket(fileno=int(descriptor))
    if role == "template":
        sys.exit(template(control))
    orders = Orders(control)
    try:
        order = orders.take_first()
    except EOFError:
        sys.exit(1)
    sys.exit(serve(orders, order))


def _keep_descriptors() -> None:
    """What came from the process above is not for programs that the application runs.

    They would keep the port, and the boards, when the server is gone.
    """
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder itself is closed by now
            if int(entry.name) > 2:
                os.set_inheritable(int(entry.name), False)


def serve(
    orders: Orders, order: dict[str, Any], app: Callable[..., Any] | None = None
) -> int:
    """Serve until told to stop.

    Args:
        orders: From the process above.
        order: The first: settings, plan, name, sockets, who is above, and whether other
            processes serve already.
        app: The application, where it is imported already.

    Returns:
        The exit code.
    """
    if not _dies_with(order["parent"]):
        return 1
    settings = Settings(**order["settings"])
    plan = Plan(**order["plan"])
    plan_here = Plan(plan.model, 0, plan.workers, plan.loops, plan.place)
    logs.set_up(settings.log_level, order["name"])
    host = Inside(
        settings,
        plan_here,
        app,
        order["sockets"],
        order["passage"],
        order["board"],
        order["name"],
    )
    supervisor = Supervisor(
        settings,
        app,
        plan=plan_here,
        host=host,
        orders=orders,
        beside_others=order["beside_others"],
    )
    return run_process(supervisor)


def template(control: socket.socket) -> int:
    """Import the application, and fork a process that serves it for each message.

    An application that cannot be imported is told to each of them instead.
    """
    first = json.loads(control.recv(1 << 20) or b"null")
    if first is None or not _dies_with(first["parent"]):
        return 1
    settings = Settings(**first["settings"])
    logs.set_up(settings.log_level)
    app, failure = None, ""
    # The process above may ask for the stack of an import that takes long.
    faulthandler.register(inquest.SIGNAL, file=control, all_threads=False)
    control.sendall(b"importing")
    try:
        app = load_app(settings.app, settings.app_dir, settings.factory)
    except AppError as error:
        failure = str(error)
    except BaseException as error:
        failure = app_traceback(error)
    _settle()
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 1)
        except ConnectionResetError:  # closed, with words of ours that were not read
            return 0
        if not message:
            return 0
        os.set_inheritable(descriptors[0], False)
        orders = Orders(socket.socket(fileno=descriptors[0]))
        if app is None:
            orders.report(event="failed", text=failure)
        elif _fork_twice(orders):
            faulthandler.unregister(inquest.SIGNAL)
            control.close()
            return serve(orders, json.loads(message), app)
        orders.close()


def _settle() -> None:
    """What is alive now will be shared: the collector shall not write to it."""
    others = threading.active_count() - 1
    if others:
        logs.logger.warning(
            "importing the application has started %d threads: the processes that"
            " serve it do not have them",
            others,
        )
    gc.collect()
    gc.freeze()


def _fork_twice(orders: Orders) -> bool:
    """True in the grandchild, once it is a child of the process above."""
    with warnings.catch_warnings():
        # That threads are not copied is said by _settle().
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return False
        between = os.getpid()
        grandchild = os.fork()
    if grandchild:
        orders.report(event="born", pid=grandchild)
        os._exit(0)
    # Its end makes us the child of the process above, and only then may we ask to die
    # with our parent. A pidfd tells of an exit after its orphans were given away.
    try:
        descriptor = os.pidfd_open(between)
    except ProcessLookupError:
        return True  # gone already
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.close(descriptor)
    return True


def _dies_with(parent: int) -> bool:
    """Die when the parent does; False where it has already."""
    _atoll.die_with_parent(signal.SIGKILL)
    return os.getppid() == parent
