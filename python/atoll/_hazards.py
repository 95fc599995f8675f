"""What CPython does that can hurt a process with several interpreters, by version.

Each was measured on the versions it names. `remedy` is what atoll does about it, or
what the program has to do where atoll cannot.
"""

import sys
from dataclasses import dataclass

__all__ = ["HAZARDS", "Hazard", "hazards_here"]


@dataclass(frozen=True)
class Hazard:
    """One way in which interpreters hurt, and what is done about it.

    Attributes:
        name: short and stable, for `atoll doctor --json`.
        what: what happens without the remedy.
        remedy: what atoll does, or what the program must do.
        first: the first version of CPython that has it.
        last: the last one, or None where it is in the newest.
        free_threaded: on free-threaded builds alone.
    """

    name: str
    what: str
    remedy: str
    first: tuple[int, int] = (3, 13)
    last: tuple[int, int] | None = None
    free_threaded: bool = False

    def applies_to(self, version: tuple[int, int]) -> bool:
        """Does CPython `version` (major, minor) have it?"""
        return self.first <= version and (self.last is None or version <= self.last)


HAZARDS = (
    Hazard(
        "import-in-main",
        "CPython's importer runs the init function of an extension in the main "
        "interpreter first: it waits for main's GIL, up to a deadlock.",
        "atoll imports in place, extensions and built-in modules both.",
    ),
    Hazard(
        "extension-table",
        "A refused import has run the extension's init function in main, and leaves "
        "what that made in a table of the whole process: on 3.13 the next import of two "
        "extensions that import each other crashes; later ones only write to stderr.",
        "CPython's importer is never tried first.",
    ),
    Hazard(
        "foreign-threads",
        "A thread that an extension started runs its callbacks in the main "
        "interpreter, and the process crashes at exit.",
        "Images get a PyGILState_Ensure that goes to their own interpreter.",
    ),
    Hazard(
        "datetime",
        "Two interpreters that import datetime at once corrupt the heap: its static "
        "types belong to whichever came first.",
        "Main imports datetime before the first interpreter starts.",
        last=(3, 13),
    ),
    Hazard(
        "current-frames",
        "sys._current_frames(), which profilers and debuggers call, makes objects of "
        "other interpreters' frames: the heap is corrupted. 3.14.10 does not.",
        "It sees the threads of the caller's interpreter only.",
        last=(3, 13),
    ),
    Hazard(
        "static-types",
        "An extension that changes a slot of one of CPython's own types (PySide6: the "
        "attributes of modules) changes it for every interpreter.",
        "Its images stay when their interpreters close, as others call them.",
    ),
    Hazard(
        "fork",
        "The child of a fork crashes while any other interpreter lives.",
        "Use subprocess, or multiprocessing's forkserver or spawn.",
    ),
    Hazard(
        "tracemalloc",
        "tracemalloc's traces refer to strings of the interpreter that allocated: after "
        "its end the process crashes, sooner or later. Making one on a new thread hangs, "
        "and on 3.14 closing crashes at once.",
        "atoll stops the tracing, with a warning; on later versions too, where nothing "
        "was seen to go wrong (3.15.2).",
        last=(3, 14),
    ),
    Hazard(
        "close-of-files",
        "Closing a buffered file gives the processor away forty "
        "times (a lock that the thread holds itself is spun on with sched_yield()), so "
        "that imports crawl, twentyfold and more, while the machine has other work.",
        "None in atoll: start interpreters before the load comes. CPython 3.14 looks "
        "for its own lock first.",
        last=(3, 13),
        free_threaded=True,
    ),
    Hazard(
        "last-thread",
        "Destroying an interpreter in which a thread still is aborts the process.",
        "atoll waits for the threads up to a deadline, then leaves the interpreter "
        "standing and says so.",
        last=(3, 13),
    ),
    Hazard(
        "async-exception",
        "PyThreadState_SetAsyncExc reaches threads of the caller's own interpreter "
        "only.",
        "Running code is interrupted from inside its interpreter.",
    ),
    Hazard(
        "signals",
        "Signals are not delivered while another interpreter runs on the main thread, "
        "and asyncio's add_signal_handler raises in one.",
        "Interpreters never run on the main thread; signals are received there.",
    ),
    Hazard(
        "thread-stacks",
        "Some libraries (OpenBLAS) need more stack than 2 MiB, and each image of them "
        "has a thread pool of its own.",
        "Threads of interpreters get 8 MiB; set OPENBLAS_NUM_THREADS and the like to "
        "cores divided by interpreters.",
    ),
)


def hazards_here() -> tuple[Hazard, ...]:
    """The hazards of the version that runs."""
    return tuple(
        hazard
        for hazard in HAZARDS
        if hazard.applies_to(sys.version_info[:2])
        and (not hazard.free_threaded or "t" in sys.abiflags)
    )
