"""Many interpreters alive at once in one process, each with its own numpy.

    python tests/stress/stress_many.py --count 64

Each interpreter keeps an array of its own, and all are asked again when the last is
there. Prints the proportional memory that each added, mappings and threads.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from stress_cycles import mapping_count, memory_mb, thread_count

import atoll

KEEP = """
import numpy
kept = numpy.full((50, 50), float(NUMBER))
"""

ASK = """
assert (kept @ numpy.eye(50)).sum() == 2500.0 * NUMBER
assert numpy.geterr()["divide"] == ("raise" if NUMBER % 2 else "warn")
"""


def main(arguments: list[str] | None = None) -> int:
    """Start, ask, close; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--every", type=int, default=8)
    options = parser.parse_args(arguments)
    before, threads = memory_mb("Pss"), thread_count()
    with contextlib.ExitStack() as stack:
        interpreters = []
        for number in range(1, options.count + 1):
            interpreter = stack.enter_context(atoll.Interpreter())
            interpreter.set(NUMBER=number)
            interpreter.exec(KEEP)
            if number % 2:
                interpreter.exec("numpy.seterr(divide='raise')")
            interpreters.append(interpreter)
            if number % options.every == 0:
                each_mb = (memory_mb("Pss") - before) / number
                print(
                    f"{number:4} interpreters: {each_mb:6.2f} "
                    f"MB each, {mapping_count()} mappings, {thread_count()} threads",
                    flush=True,
                )
        for interpreter in interpreters:
            interpreter.exec(ASK)
    # A thread that was joined is in /proc until the kernel has put it away.
    deadline = time.monotonic() + 60
    while thread_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    print(f"closed: {mapping_count()} mappings, {thread_count()} threads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
