"""The garbage collector of a worker, which has much that stays and little that comes.

A full collection looks at every container: 40 ms with FastAPI imported, in which nothing
is answered. What the start-up has left is there to the end, so the collector is told to
leave it alone (`gc.freeze`), and a full collection costs what the requests have left.

Only where the interpreter is ours: in a program that serves beside other work the
collector is that program's affair.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def settled_once_ready() -> Iterator[Callable[[], None]]:
    """What is alive when the given function is called is left alone by the collector.

    Until the context ends: what dies with the interpreter is finalized as ever.
    """

    def settle() -> None:
        gc.collect()
        gc.freeze()

    try:
        yield settle
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def left_alone() -> Iterator[Callable[[], None]]:
    """The same where the interpreter is not ours."""
    yield lambda: None
