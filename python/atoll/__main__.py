"""`python -m atoll SCRIPT`: run a program with `atoll.enable()` in force.

Usage:
    python -m atoll SCRIPT [ARGUMENT...]
    python -m atoll -m MODULE [ARGUMENT...]
    python -m atoll -c CODE [ARGUMENT...]

The program runs as `python` would run it: it is `__main__` until the process ends, for
threads and atexit functions too, and its tracebacks begin with it. The `atoll` command
is `python -m atoll.cli`.
"""

import builtins
import importlib.machinery
import io
import pkgutil
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType

from atoll._enable import enable

_USAGE = (
    "usage: python -m atoll SCRIPT [ARGUMENT...]\n"
    "       python -m atoll -m MODULE [ARGUMENT...]\n"
    "       python -m atoll -c CODE [ARGUMENT...]"
)
_OWN_FILES = {__file__, "<frozen runpy>", runpy.__file__}


def _excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback without the frames that led to the program."""
    while trace is not None and trace.tb_frame.f_code.co_filename in _OWN_FILES:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _new_main(file: str | None) -> ModuleType:
    """An empty module in the place of this one."""
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    if file is not None:
        module.__file__ = file
        module.__loader__ = importlib.machinery.SourceFileLoader("__main__", file)
    sys.modules["__main__"] = module
    return module


def _run_code(code: str, arguments: list[str]) -> None:
    sys.argv[:] = ["-c", *arguments]
    sys.path[0] = ""
    exec(compile(code, "<string>", "exec", dont_inherit=True), _new_main(None).__dict__)


def _run_module(name: str, arguments: list[str]) -> None:
    sys.argv[:] = [name, *arguments]
    sys.path[0] = str(Path.cwd())
    _new_main(None)
    # What `python -m` calls. runpy.run_module() would end the module with the call.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _command(name: str) -> str | None:
    """The subcommand that was probably meant."""
    from atoll._server.checking import nearest
    from atoll.cli import COMMANDS

    return nearest(name, COMMANDS) if name.isalpha() else None


def _run_script(path: str, arguments: list[str]) -> None:
    if not Path(path).exists():
        name = _command(path)
        hint = f"; the command is python -m atoll.cli {name}" if name else ""
        sys.exit(f"python -m atoll: {path}: no such file{hint}")
    sys.argv[:] = [path, *arguments]
    if pkgutil.get_importer(path) is not None:  # a folder or a zip with __main__.py
        sys.path[0] = path
        _new_main(None)
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    # As `python SCRIPT` does: the script's folder comes first.
    sys.path[0] = str(Path(path).resolve().parent)
    with io.open_code(str(Path(path).absolute())) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, _new_main(path).__dict__)


def main() -> None:
    """Run the program that the command line names, as `__main__`."""
    ways: dict[str, Callable[[str, list[str]], None]]
    ways = {"-m": _run_module, "-c": _run_code}
    arguments = sys.argv[1:]
    run: Callable[[str, list[str]], None] = _run_script
    if arguments and arguments[0] in ways:
        run = ways[arguments.pop(0)]
    if not arguments or (run is _run_script and arguments[0].startswith("-")):
        if arguments in (["-h"], ["--help"]):
            print(_USAGE)
            return
        sys.exit(_USAGE)
    enable()
    sys.excepthook = _excepthook
    run(arguments[0], arguments[1:])


if __name__ == "__main__":
    main()
