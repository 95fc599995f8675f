"""Run CPython's own suites of interpreters against atoll's interface of the same.

    python tools/cpython_suites [--plain] [SUITE...]

Run by the Python whose suites are meant (`tools/pythons run 3.14 -- …`, or `make
cpython-suites`): its `test` package must be there. Each suite runs in a process of its
own, with `concurrent.interpreters` and `concurrent.futures.interpreter` replaced by
atoll's (sitecustomize.py). What is left out, and why, is in tests/cpython/skips.toml.
`--plain` runs the same tests against the standard library, to compare.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SKIPS = HERE.parent.parent / "tests" / "cpython" / "skips.toml"
SUITES = (
    "test.test_interpreters.test_api",
    "test.test_interpreters.test_lifecycle",
    "test.test_interpreters.test_queues",
    "test.test_interpreters.test_stress",
    "test.test_concurrent_futures.test_interpreter_pool",
)
TIMEOUT = 600  # seconds for one suite


def run(suite: str, plain: bool) -> dict:
    environment = os.environ | {"ATOLL_SUBSTITUTE": "0" if plain else "1"}
    # The folder comes before the script's own in every interpreter's path.
    environment["PYTHONPATH"] = str(HERE)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, str(HERE / "child.py"), suite, str(SKIPS), result]
        try:
            done = subprocess.run(
                [*map(str, command)],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
            )
            output, code = done.stdout, done.returncode
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"").decode(errors="replace")
            code = "no end"
        if result.exists():
            return json.loads(result.read_text())
        return {"died": code, "output": output[-3000:]}


def main(arguments: list[str]) -> int:
    plain = "--plain" in arguments
    suites = [one for one in arguments if not one.startswith("-")] or SUITES
    bad = 0
    total = {"run": 0, "left out": 0, "failed": 0}
    for suite in suites:
        got = run(suite, plain)
        if "died" in got:
            bad += 1
            print(f"{suite}: died ({got['died']})\n{got['output']}")
            continue
        print(
            f"{suite}: {got['found']} found, {got['run']} run, "
            f"{len(got['failed'])} failed, {len(got['left out'])} left out, "
            f"{got['skipped by CPython']} skipped by CPython, "
            f"{got['expected failures']} expected failures",
            flush=True,
        )
        for name, text in got["failed"]:
            print(f"  FAILED {name}\n    " + text.strip().replace("\n", "\n    "))
        bad += len(got["failed"])
        for key in total:
            value = got[key]
            total[key] += value if isinstance(value, int) else len(value)
    print(
        f"in all: {total['run']} run, {total['failed']} failed, "
        f"{total['left out']} left out ({SKIPS.name} says why)"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
