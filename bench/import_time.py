"""What an import through a private image costs, against a plain one.

    python bench/import_time.py [--json] [--runs 7] [MODULE...]

Each run is a process of its own. It imports the module in one interpreter, the first
(which analyses the files), then in others beside it (analysis is cached), then in one
that comes after another was closed, and last plainly in main. Modules of the standard
library that main has anyway are imported everywhere before. Only the import statement
is timed, on the interpreter's own clock; the median of all runs is printed, and the
ratio to main.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from _needs import need

RUN = """
import json, time
import atoll

def timed(module):
    import asyncio, dataclasses, datetime, decimal, enum, inspect, json, time, uuid
    import zoneinfo
    began = time.perf_counter()
    __import__(module)
    return time.perf_counter() - began

def inside(interpreter):
    return interpreter.call(timed, {module!r})

times = {{}}
first = atoll.Interpreter()
times["first interpreter"] = inside(first)
second = atoll.Interpreter()
inside(second)
third = atoll.Interpreter()
times["further interpreter"] = inside(third)
second.close()
third.close()
with atoll.Interpreter() as after:
    times["after a close"] = inside(after)
first.close()
times["main"] = timed({module!r})
print(json.dumps(times))
"""


def measure(module: str, runs: int) -> dict[str, float]:
    """Median seconds by place."""
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        run = subprocess.run(
            [sys.executable, "-c", RUN.format(module=module)],
            check=True,
            capture_output=True,
            text=True,
        )
        for place, seconds in json.loads(run.stdout).items():
            found.setdefault(place, []).append(seconds)
    return {place: statistics.median(each) for place, each in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=["numpy", "fastapi", "orjson"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    need(options.modules)
    result = {module: measure(module, options.runs) for module in options.modules}
    if options.json:
        print(json.dumps(result))
        return
    for module, times in result.items():
        print(module)
        for place, seconds in times.items():
            ratio = seconds / times["main"]
            print(f"  {place:20} {1000 * seconds:8.1f} ms {ratio:6.2f}")


if __name__ == "__main__":
    main()
