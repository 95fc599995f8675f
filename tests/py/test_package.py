"""The package as it is installed."""

import importlib.metadata
import importlib.resources
import inspect
import subprocess
import sys

import pytest
from click.testing import CliRunner

import atoll
from atoll import cli


def test_version_is_that_of_the_distribution() -> None:
    assert atoll.__version__ == importlib.metadata.version("atoll")


def test_package_is_typed() -> None:
    assert importlib.resources.files("atoll").joinpath("py.typed").is_file()


def test_everything_in_all_is_there() -> None:
    missing = [name for name in atoll.__all__ if not hasattr(atoll, name)]
    assert missing == []


def test_import_is_silent_under_warnings_as_errors() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import atoll"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_command_reads_its_version_when_it_is_asked() -> None:
    """importlib.metadata is a seventh of what `atoll serve` imports to start."""
    code = (
        "import sys, atoll.cli.serve, atoll.cli; "
        "assert 'importlib.metadata' not in sys.modules; "
        "atoll.cli.main(['--version'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240
    )
    said = (run.returncode, run.stdout.split()[-1:], run.stderr)
    assert said == (0, [atoll.__version__], "")


HEAVY = """
import sys
heavy = {
    "asyncio", "dataclasses", "dis", "enum", "inspect", "logging", "pathlib", "pickle",
    "re", "socket", "uuid", "zlib",
}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


# The first call sends a function by name and a list, the second a function by value.
@pytest.mark.parametrize("call", ["", "i.call(sum, [1]); ", "i.call(lambda: None); "])
def test_a_new_interpreter_has_imported_no_more_than_it_needs(call: str) -> None:
    """Each of these would be memory and time of every interpreter there is."""
    code = f"import atoll\nwith atoll.Interpreter() as i: {call}i.exec({HEAVY!r})"
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=240
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["srve", "main:app"], "No such command 'srve'; did you mean 'serve'?"),
        (["Doctor"], "did you mean 'doctor'?"),
        (["shop:app", "--port", "0"], "atoll serve shop:app --port 0"),
        (["xyz"], "No such command 'xyz'; there are bench, doctor, serve, top."),
        (["serve", "--worker", "2"], "'--workers'"),
        (["bench", "--wokers", "2"], "Did you mean '--workers'?"),
        (["top", "--intervl", "2"], "Did you mean '--interval'?"),
    ],
)
def test_a_word_of_the_command_that_is_mistyped(
    arguments: list[str], words: str
) -> None:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert words in result.output


TYPES = ["Channel", "Lock", "RLock", "Condition", "Event", "Semaphore", "Barrier"]


@pytest.mark.parametrize("name", [*TYPES, "SharedBuffer", "SharedArray"])
def test_every_method_says_what_it_does(name: str) -> None:
    described = getattr(atoll, name)
    assert described.__doc__
    for member, value in vars(described).items():
        if callable(value) or inspect.isgetsetdescriptor(value):
            assert member == "__hash__" or value.__doc__, f"{name}.{member}"
            assert "NULL" not in (value.__doc__ or "")
