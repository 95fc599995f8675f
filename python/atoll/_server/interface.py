"""Which protocol an application speaks: ASGI or WSGI."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

Interface = Literal["auto", "asgi", "wsgi"]


def find_interface(app: Callable[..., Any]) -> Literal["asgi", "wsgi"]:
    """Tell by how `app` may be called.

    A coroutine function, or an object whose `__call__` is one, speaks ASGI; what takes
    two positional arguments, environ and start_response, speaks WSGI; everything else,
    ASGI again (three arguments, or ASGI 2's one).
    """
    call = app if inspect.isclass(app) else getattr(app, "__call__", app)  # noqa: B004
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return "asgi"
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return "asgi"
    positional = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    needed = [p for p in positional if p.default is p.empty]
    return "wsgi" if len(needed) <= 2 <= len(positional) else "asgi"
