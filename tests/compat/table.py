"""The matrix of packages: what a case is, and the table of all of them.

A case is a function that does one small real piece of work with a package and asserts
the result; it takes no argument, opens no connection off this machine, and can be run
again. It imports the package inside, since it is the import that is tested. The modules
beside this one hold the cases by field; ``tools/compat.py`` runs them, each in a
process of its own, and ``make compat`` makes the table in ``docs/compat.md`` of it.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

FIELDS = (
    "numeric",
    "learning",
    "geography",
    "text",
    "web",
    "databases",
    "language",
    "formats",
    "storage",
    "science",
    "media",
)


@dataclass(frozen=True)
class Case:
    """One package of the matrix.

    Attributes:
        name: The package as PyPI calls it.
        work: The small real operation.
        requires: What else to install for it.
        large: Over a gigabyte to install: only run when named.
        quick: Part of the dozen that runs with every test.
    """

    name: str
    work: Callable[[], None]
    requires: tuple[str, ...] = ()
    large: bool = False
    quick: bool = False


CASES: dict[str, Case] = {}

# Packages of the list without a wheel for Linux: nothing to try, and why.
WITHOUT_WHEEL = {
    "mysqlclient": "PyPI has no wheel of it for Linux",
}


def case(
    name: str, *requires: str, large: bool = False, quick: bool = False
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Add the decorated function to the table as the case of package `name`."""

    def add(work: Callable[[], None]) -> Callable[[], None]:
        assert name not in CASES, name
        CASES[name] = Case(name, work, requires, large, quick)
        return work

    return add


def load() -> dict[str, Case]:
    """Import the modules of all fields; the full table."""
    for field in FIELDS:
        importlib.import_module(field)
    return CASES
