"""The standard library's queue between interpreters, wherever this Python has it."""

from __future__ import annotations

from typing import Any


def standard_queues() -> tuple[Any, Any, str, dict[str, Any]] | None:
    """The interpreters module, its create_queue, where Queue is, and put()'s options:
    of the standard library, or on 3.13 of its tests."""
    try:
        from concurrent import interpreters  # type: ignore[attr-defined]

        return interpreters, interpreters.create_queue, "concurrent.interpreters", {}
    except ImportError:
        pass
    try:
        from test.support import interpreters  # type: ignore[import-not-found]
        from test.support.interpreters.queues import (  # type: ignore[import-not-found]
            create,
        )
    except ImportError:
        return None
    home = "test.support.interpreters.queues"
    return interpreters, create, home, {"syncobj": True}
