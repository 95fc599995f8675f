"""`atoll.enable()`: the standard library's interpreters import any extension."""

import sys

from atoll import _fork, _frames
from atoll._importer import cover_interpreters


def enable() -> None:
    """Make every extension import in the interpreters of the standard library.

    After this, an interpreter that `concurrent.interpreters` (PEP 734),
    `concurrent.futures.InterpreterPoolExecutor` or `_interpreters` creates imports
    extensions as one of atoll's own does: from a private image where the extension
    keeps state in C globals. Interpreters that exist already are not changed. Main is
    not changed either: its imports stay CPython's own.

    While such an interpreter lives, `os.fork()` is refused, because its child would
    crash; `multiprocessing` uses forkserver where nobody has chosen.

    Call it in the main interpreter, before the first interpreter is created. Calling it
    again does nothing. `python -m atoll SCRIPT` calls it before it runs the script.

    Raises:
        ImportError: this Python was built without `_interpreters`.
    """
    if sys.version_info < (3, 14):
        # On 3.13 the static types of datetime belong to whichever interpreter imports
        # it first, and two that do so at once corrupt the heap.
        import datetime  # noqa: F401
    import _interpreters

    _fork.install()
    _frames.install()
    cover_interpreters(_interpreters)
