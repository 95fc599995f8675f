"""Which workers there are: how many, of which model, and where.

A worker is what is started, watched and replaced as one. It lives in an interpreter of
its own or in its process's main one, and has one event loop or several, each on a
thread. Workers live in this process or, one or several each, in child processes:

| settings                              | processes | workers | place       | loops |
|---------------------------------------|-----------|---------|-------------|-------|
| `workers=N`, model interpreters       | -         | N       | interpreter | 1     |
| `workers=N`, model threads            | -         | 1       | interpreter | N     |
| `workers=N`, model processes          | N         | 1       | main        | 1     |
| `processes=P, workers=N`              | P         | N       | interpreter | 1     |
| `processes=P, workers=N`, model threads | P       | 1       | interpreter | N     |
| an application that is given, not named | -       | 1       | main        | N     |
"""

import dataclasses
import sys
from typing import Literal

from atoll._server.settings import Settings

Place = Literal["interpreter", "main"]

#: Threads of a WSGI worker, where the user does not say.
WSGI_THREADS = 4


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many workers of which kind.

    Attributes:
        model: "interpreters", "threads" or "processes": never "auto".
        processes: Child processes; 0: the workers live in this one.
        workers: Workers of a process.
        loops: Event loops, or WSGI workers, of a worker, each on a thread.
        place: The interpreter in which a worker imports the application.
    """

    model: str
    processes: int
    workers: int
    loops: int
    place: Place

    def describe(self) -> str:
        """In a few words, for the log: "2 interpreters"."""
        if self.place == "main" and self.processes == 0:
            inside = f"{_count(self.loops, 'thread')} of this interpreter"
        elif self.model == "threads" or (self.model == "processes" and self.loops > 1):
            inside = f"{_count(self.loops, 'thread')} in one interpreter"
        elif self.loops > 1:
            inside = (
                f"{_count(self.workers, 'interpreter')} of"
                f" {_count(self.loops, 'thread')}"
            )
        else:
            inside = _count(self.workers, "interpreter")
        if self.processes == 0:
            return inside
        processes = _count(self.processes, "process")
        if self.workers == self.loops == 1:
            return processes
        return f"{processes} of {inside}"


def is_free_threaded() -> bool:
    """Does this process run without a GIL now?"""
    return not getattr(sys, "_is_gil_enabled", lambda: True)()


def make_plan(settings: Settings, app_given: bool = False) -> Plan:
    """What the settings amount to.

    Args:
        settings: What the user asked for.
        app_given: The application is an object of this interpreter, not a name.

    Raises:
        ValueError: They contradict each other; the message is for the user.
    """
    model: str = settings.model
    if model == "auto":
        model = _natural_model(settings, app_given)
    processes = settings.processes
    if model == "processes":
        if app_given:
            raise ValueError(
                "processes each import the application: name it as 'module:attribute'"
            )
        if processes and settings.workers != 1:
            raise ValueError(
                "with the processes model, say how many either by workers or by"
                " processes; several interpreters in each process are the"
                " interpreters model with processes"
            )
        processes = processes or settings.workers
        return Plan(model, processes, 1, _loops_of_each(settings), "main")
    if settings.preload:
        raise ValueError("preload is for the processes model")
    if model == "threads":
        place: Place = "main" if app_given else "interpreter"
        return Plan(model, processes, 1, settings.workers, place)
    if app_given and (settings.workers != 1 or processes):
        raise ValueError(
            "interpreters each import the application: name it as 'module:attribute'"
        )
    place = "main" if app_given else "interpreter"
    loops = _loops_of_each(settings)
    return Plan(model, processes, settings.workers, loops, place)


def process_count(settings: Settings) -> int:
    """In how many processes the application runs."""
    if settings.model == "processes" or settings.preload:
        return settings.processes or settings.workers
    return settings.processes or 1


def _natural_model(settings: Settings, app_given: bool) -> str:
    if settings.preload:
        return "processes"
    return "threads" if app_given or is_free_threaded() else "interpreters"


def _loops_of_each(settings: Settings) -> int:
    """Event loops of a worker that is an interpreter or a process.

    With a GIL, loops on several threads of one interpreter would take turns.
    """
    if settings.interface == "wsgi" or not is_free_threaded():
        return 1
    return settings.threads or 1


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
