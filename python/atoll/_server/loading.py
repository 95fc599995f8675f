"""Finding the application: "module:attribute" to a callable."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class AppError(Exception):
    """The application cannot be had; the message says why, for the user."""


def load_app(name: str, app_dir: str = "", factory: bool = False) -> Callable[..., Any]:
    """Import the application `name`.

    Args:
        name: "module:attribute"; ":attribute" may be left out where it is "app".
        app_dir: Folder to put first on `sys.path`, or "".
        factory: Call what was found, without arguments, to get the application.

    Raises:
        AppError: The name has no module or attribute of that kind.
        Exception: Whatever importing the module or calling the factory raises.
    """
    module_name, _, attribute = name.partition(":")
    attribute = attribute or "app"
    if not module_name:
        raise AppError(f"{name!r} is not of the form 'module:attribute'")
    if app_dir and app_dir not in sys.path:
        sys.path.insert(0, str(Path(app_dir).resolve()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only the module asked for: one that it imports in turn is the app's own
        # error, and is shown with its traceback.
        if error.name and (module_name + ".").startswith(error.name + "."):
            where = app_dir or "the current folder and sys.path"
            raise AppError(f"no module named {error.name!r} in {where}") from None
        raise
    app: Any = module
    for part in attribute.split("."):
        try:
            app = getattr(app, part)
        except AttributeError:
            raise AppError(f"module {module_name!r} has no {attribute!r}") from None
    if factory:
        app = app()
    if not callable(app):
        raise AppError(f"{name!r} is not callable: {type(app).__name__}")
    return app  # type: ignore[no-any-return]


def as_asgi3(app: Any) -> Callable[..., Any]:
    """`app` itself, or, for an ASGI 2 class or function, what wraps it as ASGI 3."""
    if not isinstance(app, type):
        return app  # type: ignore[no-any-return]

    async def single(scope: Any, receive: Any, send: Any) -> None:
        await app(scope)(receive, send)

    return single
