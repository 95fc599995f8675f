"""What enum and dataclasses define, for as long as nobody has imported them.

Whoever meets an object of theirs has imported them. Importing them here would cost each
interpreter a megabyte, for dataclasses brings inspect, ast and dis.
"""

import functools
import sys
from typing import TYPE_CHECKING, Any, TypeIs

if TYPE_CHECKING:
    import enum

__all__ = ["Dataclasses", "dataclasses_here", "is_enum"]


def is_enum(found: object) -> TypeIs["enum.EnumType"]:
    """Is it an enum, the type?"""
    kind = getattr(sys.modules.get("enum"), "EnumType", None)
    return kind is not None and isinstance(found, kind)


class Dataclasses:
    """Types and objects of the module `dataclasses`."""

    # No NamedTuple, which brings annotationlib and enum from 3.14 on.
    def __init__(self, module: Any) -> None:
        self.field: type[Any] = module.Field
        self.field_kind: type[Any] = type(module._FIELD)
        self.singletons: dict[str, Any] = {
            name: getattr(module, name)
            for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY")
        }
        # 3.15: the docstring of a dataclass until somebody reads it, which changes the
        # type. It holds nothing.
        self.docstring: type[Any] = getattr(module, "_AutoDocstring", self.field_kind)


def dataclasses_here() -> Dataclasses | None:
    """None while this interpreter has not imported the module, all of it."""
    module = sys.modules.get("dataclasses")
    if module is None or getattr(module.__spec__, "_initializing", False):
        return None
    return _dataclasses_of(module)


_dataclasses_of = functools.lru_cache(maxsize=1)(Dataclasses)
