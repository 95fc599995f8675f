"""Child process of tests: `drive_interpreters.py COUNT ROUNDS CODE`.

Runs CODE in COUNT interpreters of the standard library at once, each on a thread of its
own, destroys them, and does it again. Exit code 0 when nothing went wrong.
"""

import _interpreters
import sys
import threading

import atoll
from atoll import _atoll

PATIENCE = 200  # seconds; the same imports end at other times on a busy machine
count, rounds, code = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
errors: list[str] = []


def run(index: int, barrier: threading.Barrier, ids: list[int]) -> None:
    config = _interpreters.new_config("isolated", allow_daemon_threads=True)
    interpreter = _interpreters.create(config)
    ids.append(interpreter)
    try:
        barrier.wait(PATIENCE)
        error = _interpreters.exec(interpreter, f"INDEX = {index}\n{code}")
        if error is not None:
            errors.append(f"interpreter {index}: {error.errdisplay}")
        barrier.wait(PATIENCE)
    finally:
        _interpreters.destroy(interpreter)


atoll.enable()
for _ in range(rounds):
    barrier = threading.Barrier(count)
    ids: list[int] = []
    threads = [
        threading.Thread(target=run, args=(index, barrier, ids))
        for index in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for interpreter in ids:
        _atoll.extensions_closed(interpreter)
if errors:
    sys.exit("\n".join(errors))
