"""Interpreters share the constants of code that come from files."""

import sys
from pathlib import Path

import pytest
from sins import run_child

pytestmark = pytest.mark.skipif(
    hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled(),
    reason="a free-threaded build interns all text, and shares no constants",
)

TEXT = "What a module says of itself, in several words."

MODULE = f'''
"""{TEXT}"""

NAME = "a_name_that_is_interned_because_it_has_no_space"
SHORT = "two words"


class Reef:
    """{TEXT} A class does so, too."""

    def fail(self, first, second):
        """{TEXT} So does a function."""
        try:
            return [each for each in first if second]
        except TypeError:
            raise ValueError("in the line that says so")
'''

# What each interpreter tells of the module: addresses, and what is at them.
LOOK = """
import marshal, reef
code = reef.Reef.fail.__code__
constants = {
    "module": reef.__doc__, "class": reef.Reef.__doc__,
    "function": reef.Reef.fail.__doc__, "lines": code.co_linetable,
    "exceptions": code.co_exceptiontable,
}
others = {"name": reef.NAME, "short": reef.SHORT, "code": code}
addresses = {key: id(value) for key, value in (constants | others).items()}
contents = (constants, list(code.co_lines()), list(code.co_positions()))
"""

SHARED = """
import atoll
exec(LOOK)
with atoll.Interpreter() as one, atoll.Interpreter() as other:
    seen = []
    for interpreter in (one, other):
        interpreter.exec(LOOK)
        seen.append(interpreter.call(eval, "(addresses, contents)"))
    (first, said), (second, said_too) = seen
    assert said == said_too == contents
    shared = {key for key in first if first[key] == second[key]}
    assert shared == set(constants), shared
    assert not shared & {key for key in first if first[key] == addresses[key]}
""".replace("LOOK", repr(LOOK))


def run_with_module(folder: Path, script: str) -> str:
    """Run `script` in a child that finds the module `reef`."""
    (folder / "reef.py").write_text(MODULE.lstrip())
    return run_child("-c", script, PYTHONPATH=str(folder))


@pytest.mark.parametrize("cached", [False, True], ids=["source", "pyc"])
def test_constants_of_a_file_are_shared(tmp_path: Path, cached: bool) -> None:
    script = f"import sys; sys.dont_write_bytecode = {not cached}\n" + SHARED
    run_with_module(tmp_path, script)
    if cached:
        assert list((tmp_path / "__pycache__").iterdir())
        run_with_module(tmp_path, script)


def test_code_that_a_program_makes_up_has_constants_of_its_own() -> None:
    run_child(
        "-c",
        """
import atoll
MADE_UP = '''
exec("def function(a, b):\\\\n    'Some words of documentation, enough of them.'")
code = function.__code__
addresses = id(function.__doc__), id(code.co_linetable)
'''
with atoll.Interpreter() as one, atoll.Interpreter() as other:
    one.exec(MADE_UP)
    other.exec(MADE_UP)
    first, second = (each.call(eval, "addresses") for each in (one, other))
    assert not set(first) & set(second)
""",
    )


def test_a_shared_text_outlives_who_interned_it_and_who_made_it(
    tmp_path: Path,
) -> None:
    run_with_module(
        tmp_path,
        """
import atoll, gc
INTERN = '''
import reef, sys
text = reef.Reef.__doc__
assert sys.intern(text) is text
class Holder: pass
setattr(Holder, text, 1)
assert getattr(Holder, "".join(list(text))) == 1 and {text: 2}["".join(text)] == 2
'''
CHECK = '''
import gc
gc.collect()
assert text == "".join(list(text)) and text.startswith("What a module says"), text
assert reef.Reef().fail([1], True) == [1]
'''
first = atoll.Interpreter()
first.exec(INTERN)
second = atoll.Interpreter()
second.exec(INTERN)
first.exec("del reef, text, Holder; sys.modules.clear()")
first.close()
second.exec(CHECK)
third = atoll.Interpreter()
third.exec(INTERN)
second.close()
third.exec(CHECK)
third.close()
""",
    )


def test_an_error_in_shared_code_has_its_lines(tmp_path: Path) -> None:
    said = run_with_module(
        tmp_path,
        """
import atoll, traceback
FAIL = '''
import reef, traceback
try:
    reef.Reef().fail(None, 1)
except ValueError as error:
    inside = traceback.TracebackException.from_exception(error).stack[-1]
    told = repr((inside, inside.line, inside.colno, inside.end_colno))
'''
exec(FAIL)
for _ in range(2):
    with atoll.Interpreter() as interpreter:
        interpreter.exec(FAIL)
        assert interpreter.call(eval, "told") == told
print(told)
""",
    )
    assert 'raise ValueError("in the line that says so")' in said


def test_interpreters_that_import_at_once_have_what_main_has() -> None:
    run_child(
        "-c",
        """
import threading
import atoll
LOOK = '''
import argparse, ast, difflib, email.message, hashlib, inspect, json, pydoc, types
modules = [argparse, ast, difflib, email.message, inspect, json, pydoc]

def all_code(code):
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from all_code(each)

def digest():
    state = hashlib.sha256()
    for module in modules:
        code = module.__loader__.get_code(module.__name__)
        for each in all_code(code):
            texts = [text for text in each.co_consts if isinstance(text, str)]
            tables = each.co_linetable, each.co_exceptiontable
            state.update(repr((texts, tables, each.co_varnames)).encode())
    return state.hexdigest()
'''
exec(LOOK)
expected = digest()
together = threading.Barrier(4)
found = []

def work():
    for _ in range(2):
        with atoll.Interpreter() as interpreter:
            together.wait(60)
            interpreter.exec(LOOK)
            found.append(interpreter.call(eval, "digest()"))

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == [expected] * 8, found
""",
    )
