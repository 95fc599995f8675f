"""Functions and types by name, where the receiver can import the very same object."""

import importlib
import sys
from _pickle import PicklingError
from typing import Any

__all__ = ["Reduced", "by_name", "find_global", "importable", "is_at", "name_of"]

type Reduced = tuple[Any, ...] | str


def find_global(module_name: str, name: str) -> Any:
    """Find what a parcel calls `name` in `module_name`; for "" the module itself."""
    module = sys.modules.get(module_name)
    if module is None or getattr(module.__spec__, "_initializing", False):
        module = importlib.import_module(module_name)
    found: Any = module
    if name:
        for part in name.split("."):
            found = getattr(found, part)
    return found


def importable(module_name: Any) -> bool:
    if not isinstance(module_name, str) or module_name == "__main__":
        return False
    module = sys.modules.get(module_name)
    return module is not None and getattr(module, "__spec__", None) is not None


def is_at(found: object, module_name: str, name: str) -> bool:
    here: Any = sys.modules.get(module_name)
    for part in name.split("."):
        here = getattr(here, part, None)
        if here is None:
            return False
    return here is found


def name_of(found: object, name: str) -> tuple[str, str]:
    """Say where the global that its `__reduce__` calls `name` is found.

    Raises:
        pickle.PicklingError: It is not there, or something else is.
    """
    module_name = getattr(found, "__module__", None)
    if module_name is None:
        import pickle  # brings re, which not every interpreter has

        module_name = pickle.whichmodule(found, name)  # type: ignore[attr-defined]
    if module_name not in sys.modules or not is_at(found, module_name, name):
        raise PicklingError(f"it is not found as {module_name}.{name}")
    return module_name, name


def by_name(found: Any) -> Reduced | None:
    module_name, name = found.__module__, found.__qualname__
    if importable(module_name) and is_at(found, module_name, name):
        return str(name)
    return None
