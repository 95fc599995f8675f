"""One case of the matrix in this process: ``child.py STAGE CASE FOLDER``.

Stages:
    main   in the main interpreter
    plain  in a sub-interpreter as CPython makes them
    atoll  in two of atoll's at once, which are closed, and then in two more
    guard  the same, then in main; what the closed ones left must not be used any more
           (the caller sets ATOLL_HEAP_GUARD, which makes it inaccessible)

Writes into FOLDER: ``step``, where it stands, for the reader of a crash; and for each
interpreter that came to the end of the case, ``STAGE-NUMBER.json`` with the extension
modules that were loaded in it. Packages print, so standard output is not used.
"""

import json
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def extensions() -> list[str]:
    """Names of the extension modules of packages that this interpreter has loaded.

    Those of the standard library are not asked for.
    """
    names = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file.endswith(".so") and "-packages/" in file:
            names.append(name)
    return sorted(names)


def work(name: str, result: str) -> None:
    """Do the case in the interpreter of the caller; write `result`."""
    import table

    begin = time.perf_counter()
    table.load()[name].work()
    seconds = time.perf_counter() - begin
    Path(result).write_text(
        json.dumps({"seconds": round(seconds, 2), "extensions": extensions()})
    )


def source(name: str, result: Path) -> str:
    """The program that an interpreter runs for the case."""
    return (
        f"import sys\nsys.path.insert(0, {str(HERE)!r})\n"
        f"import child\nchild.work({name!r}, {str(result)!r})\n"
    )


def stage_main(name: str, folder: Path) -> None:
    work(name, str(folder / "main-0.json"))


def stage_plain(name: str, folder: Path) -> None:
    import _interpreters

    interpreter = _interpreters.create()
    failure = _interpreters.exec(interpreter, source(name, folder / "plain-0.json"))
    if failure is not None:
        print(failure.formatted, file=sys.stderr)
        sys.exit(1)
    _interpreters.destroy(interpreter)


def stage_atoll(name: str, folder: Path) -> None:
    import atoll

    failures: list[BaseException] = []
    # Both work at the same time, and neither is closed before the other has ended.
    barrier = threading.Barrier(2, timeout=300)

    def life(number: int) -> None:
        try:
            interpreter = atoll.Interpreter()
            barrier.wait()
            try:
                interpreter.exec(source(name, folder / f"atoll-{number}.json"))
            finally:
                barrier.wait()
                interpreter.close()
        except BaseException as error:
            failures.append(error)

    for around in range(2):
        (folder / "step").write_text(f"round {around + 1}")
        threads = [
            threading.Thread(target=life, args=(2 * around + i,)) for i in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
    (folder / "step").write_text("exit of the process")


def stage_guard(name: str, folder: Path) -> None:
    stage_atoll(name, folder)
    (folder / "step").write_text("main after the interpreters")
    work(name, str(folder / "guard-0.json"))
    (folder / "step").write_text("exit of the process")


def main() -> None:
    stage, name, folder = sys.argv[1:]
    sys.path.insert(0, str(HERE))
    stages = {
        "main": stage_main,
        "plain": stage_plain,
        "atoll": stage_atoll,
        "guard": stage_guard,
    }
    stages[stage](name, Path(folder))


if __name__ == "__main__":
    main()
