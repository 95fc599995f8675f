"""Locks, their kin and dicts on their way to other processes: by pickle, by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from atoll import _atoll, _descriptor

if TYPE_CHECKING:
    import socket

__all__ = ["claim", "open_named", "reduce"]

LABEL = "atoll-sync:"


def _adopt(descriptor: int, lock: Any) -> Any:
    try:
        return _atoll.sync_adopt(descriptor, lock)
    except BaseException:
        os.close(descriptor)
        raise


def _rebuild(descriptor: Any, lock: Any) -> Any:
    return _adopt(descriptor.detach(), lock)


def reduce(thing: Any) -> tuple[Any, ...]:
    """For pickle.

    Raises:
        TypeError: The thing is one of this process: it was made without `shared=True`.
    """
    described = thing._describe()
    if described is None:
        name = type(thing).__name__
        field = isinstance(thing, _atoll.AtomicInt)
        raise TypeError(
            f"this {name} is shared by the interpreters and threads of one process "
            f"alone; for other processes make it with {name}(shared=True)"
            + (", or send the Struct that it is a field of" if field else "")
        )
    descriptor, lock = described
    return _rebuild, (_descriptor.passed(descriptor, thing), lock)


def claim(name: str) -> socket.socket:
    """Look that nothing is called `name`, and keep others from making it.

    Returns:
        What is to be closed once it is made.

    Raises:
        FileExistsError: Something has that name.
    """
    return _descriptor.claim(LABEL, name)


def _find(wanted: type[Any], name: str) -> Any:
    found = _descriptor.find(LABEL, name)
    if found is None:
        raise FileNotFoundError(f"no {wanted.__name__} is called {name!r}")
    return _adopt(found, None)


def open_named(wanted: type[Any], name: str) -> Any:
    """The `wanted` thing that some process made with `name=name`.

    Raises:
        FileNotFoundError: No process that may be looked into has it.
        TypeError: The name is that of something else.
    """
    try:
        thing = _find(wanted, name)
    except ValueError:  # its maker may not be done, and then has the claim of the name
        try:
            claim(name).close()
        except FileExistsError:
            pass
        thing = _find(wanted, name)
    if type(thing) is not wanted:
        kind = type(thing).__name__
        raise TypeError(
            f"{name!r} is a name of atoll.{kind}, not of atoll.{wanted.__name__}: "
            f"{kind}.open() finds it"
        )
    return thing
