"""sys._current_frames() while interpreters run."""

import subprocess
import sys
import threading

import pytest

import atoll

with_a_gil = pytest.mark.skipif(
    "t" in sys.abiflags, reason="CPython's own is used without a GIL"
)

HAMMER = """
import sys, threading, time
import atoll

WORK = '''
def walk(depth):
    return sum(walk(depth - 1) for _ in range(3)) if depth else 1
for _ in range(40):
    walk(7)
'''

def look(done):
    while not done.is_set():
        frames = sys._current_frames()
        errors = sys._current_exceptions()
        assert threading.get_ident() in frames and threading.get_ident() in errors

done = threading.Event()
looker = threading.Thread(target=look, args=(done,))
with atoll.Interpreter() as one, atoll.Interpreter() as two:
    looker.start()
    threads = [threading.Thread(target=i.exec, args=(WORK,)) for i in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    looker.join()
print("alive")
"""


@with_a_gil
def test_looking_at_frames_leaves_other_interpreters_whole() -> None:
    # With CPython's own function: "double free or corruption", within a second.
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", HAMMER],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "alive\n", "")


def test_every_thread_of_this_interpreter_is_there() -> None:
    atoll.Interpreter().close()
    inside, leave = threading.Event(), threading.Event()

    def handle() -> None:
        try:
            raise KeyError("held")
        except KeyError:
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=handle)
    thread.start()
    assert inside.wait(60)
    frames = sys._current_frames()
    errors = sys._current_exceptions()
    leave.set()
    thread.join()
    assert thread.ident is not None
    names = []
    frame = frames[thread.ident]
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    assert "handle" in names
    assert isinstance(errors[thread.ident], KeyError)
    assert errors[threading.get_ident()] is None


@with_a_gil
def test_an_interpreter_sees_its_own_threads() -> None:
    with atoll.Interpreter() as interpreter:
        interpreter.exec(
            "import sys, threading\n"
            "assert list(sys._current_frames()) == [threading.get_ident()]"
        )
