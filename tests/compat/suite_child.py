"""Run a package's own tests in this process: ``suite_child.py WAY FOLDER PYTEST-ARGS``.

WAY is ``plain`` (the main interpreter) or ``atoll`` (two interpreters, both at once).
Writes into FOLDER, for each interpreter, ``WAY-NUMBER.json``: how many tests passed,
failed, skipped, and the names of those that failed.
"""

import json
import sys
import threading
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)


class Counter:
    """A pytest plugin that counts outcomes, each test by its worst."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report) -> None:
        counts = report.when == "call" or report.outcome != "passed"
        if counts and self.outcomes.get(report.nodeid) != "failed":
            self.outcomes[report.nodeid] = report.outcome

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = "failed"


def run(result: str, arguments: list[str]) -> None:
    """Run pytest in the interpreter of the caller; write the counts to `result`."""
    import pytest

    counter = Counter()
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--tb=short"]
    pytest.main([*options, *arguments], plugins=[counter])
    names = list(counter.outcomes.values())
    report = {
        **{word: names.count(word) for word in ("passed", "failed", "skipped")},
        "failures": sorted(k for k, v in counter.outcomes.items() if v == "failed"),
    }
    Path(result).write_text(json.dumps(report))


def in_interpreters(folder: Path, arguments: list[str]) -> None:
    import atoll

    barrier = threading.Barrier(2, timeout=600)

    def life(number: int) -> None:
        with atoll.Interpreter() as interpreter:
            barrier.wait()
            result = str(folder / f"atoll-{number}.json")
            interpreter.exec(
                f"import sys\nsys.path.insert(0, {HERE!r})\nimport suite_child\n"
                f"suite_child.run({result!r}, {arguments!r})\n"
            )

    threads = [threading.Thread(target=life, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    way, folder, *arguments = sys.argv[1:]
    if way == "plain":
        run(str(Path(folder) / "plain-0.json"), arguments)
    else:
        in_interpreters(Path(folder), arguments)


if __name__ == "__main__":
    main()
