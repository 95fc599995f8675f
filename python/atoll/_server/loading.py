"""Finding the application: "module:attribute" to a callable."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from inspect import CO_VARARGS
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from atoll._server.checking import nearest


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
    if not module_name or module_name.startswith(".") or "/" in module_name:
        raise AppError(f"{name!r} is not of the form 'module:attribute'{_hint(name)}")
    if app_dir and app_dir not in sys.path:
        sys.path.insert(0, str(Path(app_dir).resolve()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only the module asked for: one that it imports in turn is the app's own
        # error, and is shown with its traceback.
        if error.name and (module_name + ".").startswith(error.name + "."):
            where = app_dir or "the current folder and sys.path"
            raise AppError(
                f"no module named {error.name!r} in {where}{_hint(name)}"
            ) from None
        raise
    app: Any = module
    for part in attribute.split("."):
        try:
            app = getattr(app, part)
        except AttributeError:
            near = nearest(part, vars(app)) if app is module else None
            hint = f"; did you mean '{module_name}:{near}'?" if near else ""
            if app is module and (found := _framework_module(module)):
                hint = f"; did you mean '{found}:application'?"
            raise AppError(
                f"module {module_name!r} has no {attribute!r}{hint}"
            ) from None
    if factory:
        app = app()
    if not callable(app):
        raise AppError(f"{name!r} is not callable: {type(app).__name__}")
    if not factory and _is_factory(app):
        raise AppError(f"{name!r} needs no arguments: if it makes the app, --factory")
    return app  # type: ignore[no-any-return]


def _is_factory(app: Any) -> bool:
    """Is it a function like `create_app(config=None)`? No protocol calls one so."""
    if not isinstance(app, FunctionType) or app.__code__.co_flags & CO_VARARGS:
        return False
    count = app.__code__.co_argcount
    return count <= 1 and count == len(app.__defaults__ or ())


def _framework_module(module: ModuleType) -> str:
    """Where Django put the application of the project `module`, or ""."""
    for path in map(Path, getattr(module, "__path__", ())):
        for name in ("asgi", "wsgi"):
            if (path / f"{name}.py").is_file():
                return f"{module.__name__}.{name}"
    return ""


def _hint(name: str) -> str:
    """What to write where the name is a file's."""
    file, colon, attribute = name.partition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.stem.isidentifier():
        return ""
    *folders, last = path.with_suffix("").parts
    named = f"{last}{colon}{attribute}"
    if folders:
        return f"; {file} is a file: write --app-dir {path.parent} {named}"
    return f"; {file} is a file: write {named}"


def load_copies(
    name: str, app_dir: str, factory: bool, count: int
) -> list[Callable[..., Any]]:
    """Several applications of that name, each its own.

    A factory is called for each. Otherwise the module that is named is executed again
    for each further copy, while what it imports is shared; `sys.modules` keeps the
    first.

    Raises:
        AppError, Exception: As `load_app`.
    """
    apps = [load_app(name, app_dir, factory)]
    module_name = name.partition(":")[0]
    first = sys.modules[module_name]
    while len(apps) < count:
        if not factory:
            spec = importlib.util.find_spec(module_name)
            if spec is None or spec.loader is None:
                raise AppError(f"{module_name!r} cannot be executed again")
            module = importlib.util.module_from_spec(spec)
            # As long as it runs it is the module of that name: dataclasses and the
            # like look for themselves there.
            sys.modules[module_name] = module
            try:
                spec.loader.exec_module(module)
                apps.append(load_app(name, app_dir, factory))
            finally:
                sys.modules[module_name] = first
        else:
            apps.append(load_app(name, app_dir, factory))
    return apps


def as_asgi3(app: Any) -> Callable[..., Any]:
    """`app` itself, or, for an ASGI 2 class or function, what wraps it as ASGI 3."""
    if not isinstance(app, type):
        return app  # type: ignore[no-any-return]

    async def single(scope: Any, receive: Any, send: Any) -> None:
        await app(scope)(receive, send)

    return single


def app_traceback(error: BaseException) -> str:
    """The traceback without the server's and the importer's own frames."""
    frames = error.__traceback__
    while frames is not None and _is_own(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    if frames is None and not isinstance(error, SyntaxError):
        frames = error.__traceback__
    # None where the module itself is no Python: the error says where.
    return "".join(traceback.format_exception(error.with_traceback(frames))).rstrip()


def _is_own(filename: str) -> bool:
    own = str(Path(__file__).parent)
    return filename.startswith((own, "<frozen importlib")) or (
        filename == importlib.__file__
    )
