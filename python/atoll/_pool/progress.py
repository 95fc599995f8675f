"""A bar for a map: of rich or tqdm, whichever is installed, else a count.

Standard error has it: standard output is the program's own.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

__all__ = ["with_progress"]

_SECONDS_BETWEEN = 0.1


def with_progress(
    results: Iterator[Any], iterables: tuple[Iterable[Any], ...]
) -> Iterator[Any]:
    """`results`, of a map over `iterables`, with a progress bar."""
    lengths = [len(each) for each in iterables if isinstance(each, Sized)]
    total = min(lengths) if lengths else None
    for bar in (_of_rich, _of_tqdm):
        try:
            return bar(results, total)
        except ImportError:
            pass
    return _count(results, total)


def _of_rich(results: Iterator[Any], total: int | None) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(results, total=total, description="", console=console))


def _of_tqdm(results: Iterator[Any], total: int | None) -> Iterator[Any]:
    from tqdm.auto import tqdm

    return iter(tqdm(results, total=total))


def _count(results: Iterator[Any], total: int | None) -> Iterator[Any]:
    of, line, shown = "" if total is None else f"/{total}", sys.stderr, 0.0
    done = 0
    try:
        for done, result in enumerate(results, 1):
            now = time.monotonic()
            if line.isatty() and now - shown >= _SECONDS_BETWEEN:
                shown = now
                print(f"\r{done}{of}", end="", file=line, flush=True)
            yield result
    finally:
        start = "\r" if line.isatty() else ""
        print(f"{start}{done}{of}", file=line, flush=True)
