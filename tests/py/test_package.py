"""The package as it is installed."""

import importlib.metadata
import importlib.resources
import subprocess
import sys

import atoll


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
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
