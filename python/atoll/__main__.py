"""`python -m atoll SCRIPT`: run a program with `atoll.enable()` in force.

Usage:
    python -m atoll SCRIPT [ARGUMENT...]
    python -m atoll -m MODULE [ARGUMENT...]
"""

import runpy
import sys
from pathlib import Path

from atoll._enable import enable

_USAGE = "usage: python -m atoll SCRIPT [ARGUMENT...]\n" + (
    "       python -m atoll -m MODULE [ARGUMENT...]"
)


def main() -> None:
    """Run the program that the command line names, as `__main__`."""
    arguments = sys.argv[1:]
    as_module = arguments[:1] == ["-m"]
    if as_module:
        arguments = arguments[1:]
    if not arguments:
        sys.exit(_USAGE)
    if arguments[0] in {"-h", "--help"}:
        print(_USAGE)
        return
    enable()
    sys.argv[:] = arguments
    if as_module:
        sys.path[0] = str(Path.cwd())
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        if not Path(arguments[0]).exists():
            sys.exit(f"python -m atoll: {arguments[0]}: no such file")
        # As `python SCRIPT` does: the script's folder comes first.
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
