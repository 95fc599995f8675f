"""Extensions on a free-threaded build: who gets a GIL, and who does without."""

import sys

import pytest
import sins

pytestmark = pytest.mark.skipif("t" not in sys.abiflags, reason="this build has a GIL")

CHECK = """
import sys
sys.path[:0] = {folders!r}
import atoll
with atoll.Interpreter() as one:
    one.exec('''
import sys, warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    {code}
print(sys._is_gil_enabled(), [str(w.message)[:70] for w in seen])
''')
print("main", sys._is_gil_enabled())
"""


def imported(code: str, *sins_needed: str, **environment: str) -> list[str]:
    """What an interpreter that runs `code` prints, and main after it."""
    folders = [str(sins.build(sin)) for sin in sins_needed]
    check = CHECK.format(folders=folders, code=code)
    return sins.run_child("-c", check, **environment).splitlines()


@pytest.mark.parametrize("sin", ["global_state", "heap_type"])
def test_an_extension_that_declares_nothing_gets_a_gil(sin: str) -> None:
    words = "The global interpreter lock (GIL) has been enabled to load module"
    inside, main = imported(f"import {sin}", sin)
    assert inside.startswith(f"True [{words + ' ' + repr(sin)[:2]!r}"[:60])
    # Its own: the process's other interpreters go on without.
    assert main == "main False"


@pytest.mark.parametrize("module", ["without_gil", "without_gil_single", "_ctypes"])
def test_an_extension_that_declares_to_run_without_gets_none(module: str) -> None:
    assert imported(f"import {module}", "without_gil") == ["False []", "main False"]


def test_the_gil_goes_after_an_import_that_fails() -> None:
    code = "try: import returns_null\n    except SystemError: pass"
    assert imported(code, "broken_init") == ["False []", "main False"]


def test_a_warning_that_is_an_error_fails_the_import() -> None:
    code = (
        "warnings.simplefilter('error')\n"
        "    try: import heap_type\n"
        "    except RuntimeWarning as error: print(type(error).__name__)"
    )
    assert imported(code, "heap_type")[0] == "RuntimeWarning"


def test_what_the_user_switched_off_stays_off() -> None:
    lines = imported("import heap_type", "heap_type", PYTHON_GIL="0")
    assert lines == ["False []", "main False"]


def test_an_import_under_a_gil_within_one_that_needs_none() -> None:
    code = "import without_gil, heap_type, without_gil_single"
    lines = imported(code, "without_gil", "heap_type")
    assert lines[0].startswith("True [") and lines[0].count("The global") == 1
