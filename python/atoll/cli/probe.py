"""Child process of `atoll doctor`: `python -m atoll.cli.probe FD MAIN MODULE`.

Imports MODULE in two interpreters, one after the other, while both live, and closes
them (MAIN is 0), or imports it in the main interpreter (MAIN is 1). Writes one line of
JSON to file descriptor FD for each import that ended, so that the parent knows how far
it came when the process dies.
"""

import _interpreters
import importlib
import json
import os
import sys

from atoll._enable import enable

_IN_INTERPRETER = """
import os, sys
sys.path[:] = {path!r}
def report():
    import importlib
    try:
        importlib.import_module({module!r})
    except BaseException as error:
        text = str(error).strip().splitlines() or [""]
        return {{"error": type(error).__name__ + ": " + text[0]}}
    importer = sys.modules["atoll._importer"]
    return {{"ways": dict(importer.ways)}}
result = report()
import json
os.write({descriptor}, json.dumps(result).encode() + b"\\n")
"""


def _in_main(descriptor: int, module: str) -> None:
    result: dict[str, object] = {}
    try:
        importlib.import_module(module)
    except BaseException as error:
        text = str(error).strip().splitlines() or [""]
        result = {"error": f"{type(error).__name__}: {text[0]}"}
    os.write(descriptor, json.dumps(result).encode() + b"\n")


def _in_interpreters(descriptor: int, module: str) -> None:
    enable()
    code = _IN_INTERPRETER.format(path=sys.path, module=module, descriptor=descriptor)
    config = _interpreters.new_config("isolated", allow_daemon_threads=True)
    interpreters = [_interpreters.create(config) for _ in range(2)]
    for interpreter in interpreters:
        error = _interpreters.exec(interpreter, code)
        if error is not None:
            text = {"error": str(error.formatted)}
            os.write(descriptor, json.dumps(text).encode() + b"\n")
    for interpreter in interpreters:
        _interpreters.destroy(interpreter)


def main() -> None:
    """Do what the command line says."""
    descriptor, in_main, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    # As `python -c` has it: the folder in which doctor was called.
    sys.path[0] = ""
    if in_main:
        _in_main(descriptor, module)
    else:
        _in_interpreters(descriptor, module)


if __name__ == "__main__":
    main()
