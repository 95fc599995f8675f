"""What a setting may be: its type and its bounds, told in words for the user.

The command line has its own checks; these are for `atoll.Server`, and for files.
"""

import dataclasses
import os
import types
import typing
from collections.abc import Iterable
from typing import Any

#: (least, most); None: no bound. Of numbers that are not here, at least 0.
BOUNDS: dict[str, tuple[int, int | None]] = {
    "port": (0, 65535),
    "fd": (-1, None),
    "backlog": (1, None),
    "workers": (1, 256),
    "processes": (0, 256),
    "threads": (0, 1024),
    "limit_request_line": (1, None),
    "limit_head": (1, None),
    "limit_headers": (1, 128),
    "ssl_cert_reqs": (0, 2),
    "ws_max_size": (1, None),
    "ws_max_queue": (1, None),
}
#: Names of a level of `logging`, as the command line has them.
LEVELS = ("debug", "info", "warning", "error", "critical")
#: Other names that `logging` and uvicorn have for them.
LEVEL_ALIASES = {"warn": "warning", "fatal": "critical", "trace": "debug"}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """What was probably meant, if anything is near."""
    # Not before: 128 KB of each worker, for a mistake that few have.
    import difflib

    found = difflib.get_close_matches(name, list(known), 1)
    return found[0] if found else None


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    """See that every setting exists.

    Raises:
        TypeError: One does not; it is named with the nearest that does.
    """
    known = list(known)
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {near!r}?" if near else ""
            raise TypeError(f"there is no setting {name!r}{hint}")


def checked(record: Any) -> dict[str, Any]:
    """The fields of a dataclass of settings as they should be.

    A path becomes a string, a list a tuple, an integer a float where one is meant, None
    "" where that means none.

    Raises:
        TypeError: A value of another type.
        ValueError: One that is out of bounds, or not among the choices.
    """
    hints = typing.get_type_hints(type(record))
    return {
        field.name: _checked(field.name, _given(record, field), hints[field.name])
        for field in dataclasses.fields(record)
    }


def _given(record: Any, field: "dataclasses.Field[Any]") -> Any:
    """The value of a field; None stands for no text where there may be none."""
    value = getattr(record, field.name)
    return "" if value is None and field.default == "" else value


def _checked(name: str, value: Any, kind: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise ValueError(f"{name} must be {_either(choices)}, not {value!r}")
        return value
    if origin is types.UnionType:  # bool | None
        return None if value is None else _checked(name, value, bool)
    if origin is tuple:
        if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable):
            raise TypeError(f"{name} must be several strings, not {value!r}")
        return tuple(_checked(name, one, str) for one in value)
    if kind is str:
        return _checked_text(name, value)
    if kind is bool:
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")
        return value
    return _checked_number(name, value, kind)


def _checked_text(name: str, value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    text = value
    if name == "log_level":
        text = LEVEL_ALIASES.get(text.lower(), text.lower())
        if text not in LEVELS:
            raise ValueError(f"{name} must be {_either(LEVELS)}, not {value!r}")
    return text


def _checked_number(name: str, value: Any, kind: type) -> Any:
    allowed = (int, float) if kind is float else (int,)
    if not isinstance(value, allowed) or isinstance(value, bool):
        what = "a number" if kind is float else "an integer"
        raise TypeError(f"{name} must be {what}, not {value!r}")
    least, most = BOUNDS.get(name, (0, None))
    if not value >= least or (most is not None and value > most):  # not a NaN either
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value!r}")
    try:
        return kind(value)
    except OverflowError:
        raise ValueError(f"{name} is too large") from None


def _either(choices: Iterable[str]) -> str:
    *others, last = map(repr, choices)
    return f"{', '.join(others)} or {last}"
