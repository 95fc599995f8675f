"""What a pool's arguments have to be, in words for who gave others."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["arguments_of", "count_of", "keywords_of"]


def count_of(name: str, value: Any) -> int | None:
    """A number from 1, or None.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is less than 1.
    """
    if value is None:
        return None
    try:
        count = operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be an int or None, not {kind}") from None
    if count < 1:
        raise ValueError(f"{name} must be at least 1")
    return count


def arguments_of(name: str, args: Any) -> tuple[Any, ...]:
    """Positional arguments, of any iterable but text.

    Raises:
        TypeError: It is something else: the one argument itself, most often.
    """
    if isinstance(args, Iterable) and not isinstance(args, str | bytes):
        return tuple(args)
    raise TypeError(
        f"{name} must be a tuple of arguments, not {type(args).__name__}: "
        f"for one write ({args!r:.40},)"
    )


def keywords_of(name: str, kwargs: Any) -> dict[str, Any]:
    """Arguments by name; None: there are none.

    Raises:
        TypeError: It is no mapping, or a key is not a string.
    """
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"{name} must be a dict, not {type(kwargs).__name__}")
    for key in kwargs:
        if not isinstance(key, str):
            raise TypeError(f"{name} must have strings as keys, not {key!r:.40}")
    return dict(kwargs)
