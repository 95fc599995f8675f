"""A dozen packages of the matrix (tests/compat), with atoll, each in its own process.

The whole matrix is `make compat`. What this environment does not have is skipped.
"""

import importlib.metadata
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import compat  # noqa: E402  (tools/compat.py, which is no package)

QUICK = [case for case in compat.table.load().values() if case.quick]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_package_works_in_two_interpreters_and_again(case: compat.table.Case) -> None:
    for need in (case.name, *case.requires):
        try:
            importlib.metadata.version(need)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{need} is not installed here")
    outcomes = compat.run_case(sys.executable, case.name, ["main", "atoll"])
    main, atoll = outcomes["main"], outcomes.get("atoll")
    assert main["state"] == "works", main
    assert main["extensions"], "main loaded no extension module: the case tests nothing"
    assert atoll is not None and atoll["state"] == "works", atoll
