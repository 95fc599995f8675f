"""Puts atoll in the place of `concurrent.interpreters`, for CPython's own suites.

Found through PYTHONPATH, so it runs at the start of the main interpreter and of each
other. The names below are all that the suites import; what stands for a submodule of
the standard library's package has the names that it has there.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types


def _package() -> types.ModuleType:
    from atoll import interpreters

    return interpreters


def _queues() -> types.ModuleType:
    from atoll.interpreters import _queues

    return _queues


def _crossinterp() -> types.ModuleType:
    from atoll.interpreters import _queues

    module = types.ModuleType("_crossinterp")
    module.UNBOUND = _queues.UNBOUND
    module.UNBOUND_ERROR = _queues.UNBOUND_ERROR
    module.UNBOUND_REMOVE = _queues.UNBOUND_REMOVE
    module._UNBOUND_CONSTANT_TO_FLAG = _queues._FATE
    return module


def _executor() -> types.ModuleType:
    from atoll import futures

    return futures


SUBSTITUTES = {
    "concurrent.interpreters": _package,
    "concurrent.interpreters._queues": _queues,
    "concurrent.interpreters._crossinterp": _crossinterp,
    "concurrent.futures.interpreter": _executor,
}


class Substitutes(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name not in SUBSTITUTES:
            return None
        return importlib.machinery.ModuleSpec(
            name, self, is_package=name == "concurrent.interpreters"
        )

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        real = SUBSTITUTES[module.__name__]()
        for name, value in vars(real).items():
            if name not in ("__name__", "__spec__", "__loader__", "__path__"):
                setattr(module, name, value)


if os.environ.get("ATOLL_SUBSTITUTE") == "1":
    sys.meta_path.insert(0, Substitutes())
