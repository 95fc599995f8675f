"""Two sides of a measurement: where they run, and what it takes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from atoll import Interpreter

# The CPUs of this side and of the other one; None leaves it to the system.
type Cpus = tuple[list[int] | None, list[int] | None]


def pin(cpus: list[int] | None) -> None:
    """Keep the calling thread on `cpus`."""
    if cpus:
        os.sched_setaffinity(0, cpus)


def per(count: int, action: Callable[[], Any]) -> float:
    """Nanoseconds of one of the `count` that `action` does."""
    begin = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - begin) / count


@contextmanager
def interpreter(function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """`function` runs in an interpreter meanwhile."""
    with Interpreter() as other:
        thread = threading.Thread(target=other.call, args=(function, *arguments))
        thread.start()
        yield
        thread.join()


@contextmanager
def thread(function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """The same in a thread."""
    other = threading.Thread(target=function, args=arguments)
    other.start()
    yield
    other.join()


@contextmanager
def process(function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """The same in a process."""
    other = multiprocessing.get_context("spawn").Process(
        target=function, args=arguments
    )
    other.start()
    yield
    other.join()
