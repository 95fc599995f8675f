"""A bar for a map: of rich or tqdm, whichever is installed, else a count.

Standard error has it: standard output is the program's own. In a notebook both draw
theirs with ipywidgets; where that is missing rich draws none, and tqdm one of text.
"""

import importlib.util
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

__all__ = ["with_progress"]

_SECONDS_BETWEEN = 0.1


def with_progress(
    results: Iterator[Any], iterables: tuple[Iterable[Any], ...]
) -> Iterator[Any]:
    """`results`, of a map over `iterables`, with a progress bar if it can be seen."""
    if sys.stderr is None:  # of a daemon, or under pythonw
        return results
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
    if console.is_jupyter and not _has_widgets():
        raise ImportError("ipywidgets")
    return iter(track(results, total=total, description="", console=console))


def _of_tqdm(results: Iterator[Any], total: int | None) -> Iterator[Any]:
    if _has_widgets():
        from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    return iter(tqdm(results, total=total))


def _has_widgets() -> bool:
    return importlib.util.find_spec("ipywidgets") is not None


def _is_live(stream: Any) -> bool:
    """Does it show a line that is written over? A notebook's is no terminal, and does."""
    return bool(stream.isatty()) or type(stream).__module__.startswith("ipykernel.")


def _count(results: Iterator[Any], total: int | None) -> Iterator[Any]:
    of, line, shown = "" if total is None else f"/{total}", sys.stderr, 0.0
    done, live = 0, _is_live(line)
    try:
        for done, result in enumerate(results, 1):
            now = time.monotonic()
            if live and now - shown >= _SECONDS_BETWEEN:
                shown = now
                print(f"\r{done}{of}", end="", file=line, flush=True)
            yield result
    finally:
        start = "\r" if live else ""
        print(f"{start}{done}{of}", file=line, flush=True)
