"""Threads create and close interpreters with different packages while main works too.

    python tests/stress/stress_threads.py --seconds 60 [--seed 1]

Prints the cycles of each thread and the memory; a crash is the failure that it looks
for. The order of packages is seeded, so that a failure can be sought again.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time

from stress_cycles import WORK, mapping_count, memory_mb, thread_count

import atoll

PACKAGES = [
    ["numpy"],
    ["fastapi", "orjson"],
    ["lxml", "cryptography"],
    ["uvloop", "greenlet"],
    ["h5py"],
    ["pyarrow"],
]


def installed(names: list[str]) -> bool:
    """Can all of these be imported in main?"""
    try:
        for name in names:
            __import__(name)
    except ImportError:
        return False
    return True


def churn(seed: int, until: float, packages: list[list[str]], done: list[int]) -> None:
    """Cycles until the time has come."""
    choose = random.Random(seed)
    while time.monotonic() < until:
        names = choose.choice(packages)
        with atoll.Interpreter() as interpreter:
            for name in names:
                interpreter.exec(WORK[name])
        done[0] += 1


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=3)
    options = parser.parse_args(arguments)
    packages = [names for names in PACKAGES if installed(names)]
    until = time.monotonic() + options.seconds
    counts = [[0] for _ in range(options.threads)]
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            churn(options.seed + number, until, packages, counts[number])
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=run, args=(number,))
        for number in range(options.threads)
    ]
    for thread in threads:
        thread.start()
    mine = 0
    choose = random.Random(options.seed - 1)
    while time.monotonic() < until and not failures:
        exec(WORK[choose.choice(choose.choice(packages))], {})
        mine += 1
    for thread in threads:
        thread.join()
    print(
        f"cycles {[count[0] for count in counts]}, in main {mine}; "
        f"{memory_mb():.0f} MB, {mapping_count()} mappings, {thread_count()} threads"
    )
    for failure in failures:
        print(f"{type(failure).__name__}: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
