"""Refusing fork while interpreters live.

The child of a fork has one thread and every interpreter's state with no thread to own
it: it crashes in PyOS_AfterFork_Child(). `os.register_at_fork` cannot refuse (its
exceptions are printed and ignored), so `os.fork` and `os.forkpty` themselves are
wrapped, and `multiprocessing`, whose default method on Linux is fork before CPython
3.14, gets forkserver as its default. An extension that forks by itself to start a
program, as uvloop does, has a child that only calls exec: that one is spared the crash.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

from atoll import _atoll

__all__ = ["install"]

_WAY_OUT = (
    "fork would crash the child while interpreters live ({count} of them): use "
    "subprocess, or multiprocessing's 'forkserver' or 'spawn' method, or close the "
    "interpreters first"
)


def _alive() -> int:
    """How many interpreters there are beside main, the standard library's included."""
    count = _atoll.interpreter_count()
    module: Any = sys.modules.get("_interpreters")
    if module is not None:
        count = max(count, len(module.list_all()) - 1)
    return count


def _refusing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        count = _alive()
        if count:
            raise RuntimeError(_WAY_OUT.format(count=count))
        return original(*args, **kwargs)

    wrapper.__atoll__ = True  # type: ignore[attr-defined]
    return wrapper


def _refusing_preexec(original: Callable[..., Any]) -> Callable[..., Any]:
    # subprocess runs preexec_fn, the one before last of the positional arguments, in
    # the forked child: all the rest of a plain subprocess is done without Python.
    @functools.wraps(original)
    def wrapper(*args: Any) -> Any:
        if len(args) > 21 and args[21] is not None and _alive():
            raise RuntimeError(
                "preexec_fn runs in a forked child, which would crash while "
                "interpreters live: use subprocess's process_group, "
                "start_new_session, user, group, umask or cwd instead, or close the "
                "interpreters first"
            )
        return original(*args)

    wrapper.__atoll__ = True  # type: ignore[attr-defined]
    return wrapper


def _wrap(module: Any, name: str, wrap: Callable[..., Any]) -> None:
    original = getattr(module, name, None)
    if original is not None and not hasattr(original, "__atoll__"):
        setattr(module, name, wrap(original))


def _prefer_forkserver(context: Any) -> None:
    if sys.version_info >= (3, 14):
        return
    default = context._default_context
    # Only where nobody has chosen: set_start_method() stays possible.
    if default._actual_context is None and default._default_context is not None:
        default._default_context = context._concrete_contexts["forkserver"]


def _refuse_preexec(subprocess: Any) -> None:
    _wrap(subprocess, "_fork_exec", _refusing_preexec)


def _spare_children(module: Any) -> None:
    # Elsewhere it is an image, which is bound so when it is loaded.
    if _atoll.interpreter_here() == 0:
        _atoll.spare_children(module.__file__)


_ACTIONS = {
    "subprocess": _refuse_preexec,
    "multiprocessing.context": _prefer_forkserver,
    "uvloop.loop": _spare_children,
}


class _Afterwards:
    """A finder that does something to modules right after their import."""

    def __init__(self, actions: dict[str, Callable[[Any], None]]) -> None:
        self.actions = actions

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        action = self.actions.pop(name, None)
        if action is None:
            return None
        spec: Any = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        loader = spec.loader
        original = loader.exec_module

        def exec_module(module: Any) -> None:
            loader.__dict__.pop("exec_module", None)
            original(module)
            action(module)

        loader.exec_module = exec_module
        return spec


def install() -> None:
    """Refuse fork in this interpreter from now on, while any interpreter lives."""
    if "fork" in _atoll.left_out():
        return
    _wrap(os, "fork", _refusing)
    _wrap(os, "forkpty", _refusing)
    later = {}
    for name, action in _ACTIONS.items():
        if name in sys.modules:
            action(sys.modules[name])
        else:
            later[name] = action
    # They are large: whoever needs them imports them.
    sys.meta_path.insert(0, _Afterwards(later))
