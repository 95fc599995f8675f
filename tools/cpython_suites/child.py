"""Run one of CPython's suites with the tests that skips.toml names left out.

Usage: ``child.py SUITE SKIPS RESULT``. Writes counts and what failed to RESULT (JSON).
"""

import json
import sys
import tomllib
import unittest
from collections.abc import Iterator
from pathlib import Path

from test import support


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from tests_of(one)
        else:
            yield one


def main(name: str, skips: str, result_file: str) -> int:
    listed = tomllib.loads(Path(skips).read_text()).get("skip", [])
    reasons = {test: group["reason"] for group in listed for test in group["tests"]}
    support.use_resources = ["cpu", "walltime", "subprocess"]
    found = list(tests_of(unittest.defaultTestLoader.loadTestsFromName(name)))
    left_out = []
    run = unittest.TestSuite()
    for test in found:
        if "LowLevelTests" in test.id():  # of CPython's private modules
            left_out.append(test.id())
            continue
        short = ".".join(test.id().split(".")[-3:])
        if short in reasons:
            left_out.append(short)
        else:
            run.addTest(test)
    result = unittest.TextTestRunner(verbosity=2).run(run)
    bad = [(one.id(), text) for one, text in result.failures + result.errors]
    bad += [(one.id(), "unexpected success") for one in result.unexpectedSuccesses]
    Path(result_file).write_text(
        json.dumps(
            {
                "found": len(found),
                "run": result.testsRun,
                "skipped by CPython": len(result.skipped),
                "expected failures": len(result.expectedFailures),
                "left out": sorted(left_out),
                "failed": bad,
            }
        )
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
