"""What extensions leave behind when their interpreter ends: tests/ext/, and the process
afterwards. Each in a child process: a crash is one failed test."""

import pytest
from sins import build, run_child

PREPARE = """
import atoll, os, signal, sys
from atoll import _atoll

def cycle(code):
    with atoll.Interpreter() as interpreter:
        interpreter.exec(code)

def unmapped():
    return _atoll.image_stats()["unmapped_count"]

def is_mapped(address):
    with open("/proc/self/maps") as lines:
        for line in lines:
            start, end = (int(n, 16) for n in line.split()[0].split("-"))
            if start <= address < end:
                return True
    return False

def resident_mb():
    with open("/proc/self/statm") as lines:
        return int(lines.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
"""


def child(sin: str, code: str) -> str:
    return run_child("-c", PREPARE + code, PYTHONPATH=str(build(sin)))


@pytest.mark.parametrize("what", ["add_audit_hook", "set_allocator", "set_ref_tracer"])
def test_image_stays_that_the_process_points_into(what):
    said = child(
        "registers",
        f"""
cycle("import registers; registers.{what}()")
assert unmapped() == 0
cycle("import registers, json; json.dumps([1])")
assert unmapped() == 1
sys.audit("registers.test")
print([object() for _ in range(10)] != [], flush=True)
""",
    )
    assert said == "True\n"


def test_images_stay_that_changed_a_type_of_cpython():
    child(
        "registers",
        """
import json
cycle("import registers")
assert unmapped() == 1
cycle("import registers; registers.change_type()")
assert unmapped() == 1 and not hasattr(json, "absent")
cycle("import json; json.dumps([1])")
assert not hasattr(json, "absent")
""",
    )


def test_images_stay_whose_functions_call_each_other():
    child(
        "registers",
        """
change = "import registers; registers.change_type()"
with atoll.Interpreter() as second:
    with atoll.Interpreter() as first:
        first.exec(change)
        second.exec(change)
    assert unmapped() == 0
    second.exec("import json; assert not hasattr(json, 'absent')")
import json
assert not hasattr(json, "absent")
""",
    )


def test_library_that_must_never_be_unmapped_is():
    child(
        "no_delete",
        """
for count in range(1, 4):
    cycle("import no_delete; assert no_delete.add() == 1")
    assert unmapped() == count
""",
    )


def test_image_of_a_signal_handler_stays():
    child(
        "leaves",
        """
cycle("import leaves; leaves.handle_signal()")
assert unmapped() == 0
os.kill(os.getpid(), signal.SIGUSR2)
# Python's own handler in its place: the next image that set one is not called any more.
cycle("import leaves; leaves.handle_signal()")
assert unmapped() == 0
signal.signal(signal.SIGUSR2, signal.SIG_DFL)
cycle("import leaves")
assert unmapped() == 1
""",
    )


def test_heap_of_a_library_goes_with_its_image():
    child(
        "leaves",
        """
heaps = []
with atoll.Interpreter() as interpreter:
    interpreter.exec("import leaves; heaps = [leaves.map_heap() for _ in range(4)]")
    heaps = interpreter.call(lambda: __import__("__main__").heaps)
    assert all(is_mapped(heap) for heap in heaps)
assert unmapped() == 1
def grown_mb(code):
    before = resident_mb()
    for _ in range(25):
        cycle(code)
    return resident_mb() - before
itself = grown_mb("import leaves")  # CPython's part, 7 MB each where it has no GIL
heap = grown_mb("import leaves; leaves.map_heap()")
assert heap < itself + 50, (itself, heap)
""",
    )


def test_keys_of_threads_go_with_their_image():
    # The process has 1,024, and 41 are taken each time.
    child(
        "leaves",
        """
for _ in range(30):
    cycle("import leaves; leaves.create_keys()")
assert unmapped() == 30
""",
    )


def test_fork_after_an_image_that_had_fork_handlers():
    child(
        "leaves",
        """
cycle("import leaves; assert leaves.register_fork() == 0")
assert unmapped() == 1
child = os.fork()
if child == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
""",
    )


def test_environment_that_an_image_put():
    said = child(
        "leaves",
        """
cycle("import leaves; assert leaves.put_environment() == 0")
assert unmapped() == 1
import subprocess
subprocess.run(["sh", "-c", "echo $LEAVES_PUT"], env=None, check=True)
""",
    )
    assert said == "here\n"


STANDARD = """
import threading
import _interpreters
atoll.enable()

def run(code):
    interpreter = _interpreters.create("isolated")
    error = _interpreters.exec(interpreter, code)
    assert error is None, error.errdisplay
    return interpreter

def written(reader):
    os.set_blocking(reader, False)
    try:
        return len(os.read(reader, 100))
    except BlockingIOError:
        return 0

class Thread:
    '''One that runs what it is told, and lives until it is told to end.'''
    def __init__(self):
        self.todo, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.work = self.result = None
        self.thread = threading.Thread(target=self.main)
        self.thread.start()
    def main(self):
        while True:
            self.todo.acquire()
            if self.work is None:
                break
            self.result = self.work()
            self.done.release()
    def call(self, work):
        self.work = work
        self.todo.release()
        assert self.done.acquire(timeout=60)
        return self.result
    def end(self):
        self.work = None
        self.todo.release()
        self.thread.join()

reader, writer = os.pipe()
"""


def test_images_of_the_standard_librarys_interpreters_go():
    child(
        "thread_exit",
        STANDARD
        + """
for count in range(1, 4):
    interpreter = run(f"import thread_exit; thread_exit.write_at_exit({writer})")
    assert written(reader) == 0
    _interpreters.destroy(interpreter)
    # The thread-local object of this thread went before its image.
    assert (written(reader), unmapped()) == (1, count)
counted = _interpreters.create("isolated", reqrefs=True)
_interpreters.incref(counted)
assert _interpreters.exec(counted, "import thread_exit") is None
_interpreters.decref(counted)
assert unmapped() == 4
""",
    )


def test_image_stays_for_an_object_of_a_thread_that_lives():
    child(
        "thread_exit",
        STANDARD
        + """
other = Thread()
code = f"import thread_exit; thread_exit.write_at_exit({writer})"
interpreter = other.call(lambda: run(code))
_interpreters.destroy(interpreter)
assert (written(reader), unmapped()) == (0, 0)
other.end()
assert (written(reader), unmapped()) == (1, 0)
# Once its thread has ended there is nothing to stay for.
other = Thread()
interpreter = other.call(lambda: run(code))
other.end()
_interpreters.destroy(interpreter)
assert (written(reader), unmapped()) == (1, 1)
""",
    )


def test_thread_outlives_the_image_that_had_a_key_of_it():
    child(
        "leaves",
        STANDARD
        + """
other = Thread()
interpreter = other.call(lambda: run("import leaves; leaves.create_keys()"))
_interpreters.destroy(interpreter)
assert unmapped() == 1
other.end()
_interpreters.destroy(run("import leaves; leaves.create_keys()"))
assert unmapped() == 2
""",
    )


def test_exit_function_of_an_image_that_stays_does_not_run(tmp_path):
    log = tmp_path / "log"
    child(
        "leaves",
        f"""
cycle("import leaves; leaves.write_at_exit({str(log)!r})")
assert unmapped() == 1 and open({str(log)!r}).read() == "left\\n"
cycle("import leaves; leaves.write_at_exit({str(log)!r}); leaves.handle_signal()")
assert unmapped() == 1
""",
    )
    assert log.read_text() == "left\n"


def test_process_exits_with_an_interpreter_of_the_standard_library_alive():
    said = child(
        "thread_exit",
        STANDARD
        + """
kept = run(f"import thread_exit; thread_exit.write_at_exit({writer})")
print("at the exit")
""",
    )
    assert said == "at the exit\n"


def test_list_of_modules_does_not_grow_with_interpreters_that_come_and_go():
    # An interpreter's list is as long as the greatest index of a module in it.
    child(
        "global_state",
        """
def index():
    import global_state
    assert global_state.find_state() is global_state
    return global_state.index_in_list()

seen = set()
for _ in range(4):
    with atoll.Interpreter() as one, atoll.Interpreter() as other:
        seen |= {one.call(index), other.call(index)}
assert len(seen) == 1, seen
""",
    )


# ---- again and again, and at the exit ----

CYCLES = """
import atoll
from atoll import _atoll
for _ in range({count}):
    with atoll.Interpreter() as interpreter:
        interpreter.exec("import global_state; assert global_state.add() == 1")
stats = _atoll.image_stats()
assert stats["loaded_count"] >= {count}, stats
assert stats["unmapped_count"] >= {count}, stats
print(sum(line.endswith(".so\\n") for line in open("/proc/self/maps")))
"""


def test_images_of_closed_interpreters_go():
    folder = str(build("global_state"))
    few, many = (
        int(run_child("-c", CYCLES.format(count=count), PYTHONPATH=folder))
        for count in (5, 25)
    )
    assert many <= few + 5


@pytest.mark.slow
def test_more_interpreters_than_there_are_slots():
    run_child(
        "-c",
        CYCLES.format(count=600),
        timeout=280,
        PYTHONPATH=str(build("global_state")),
    )


END_AFTER_PARSERS = """
import gc
import atoll
from atoll import _atoll
import parser as of_main
assert of_main.add(first=1, second=2) == 3
for _ in range(3):
    with atoll.Interpreter() as one, atoll.Interpreter() as other:
        for interpreter in (one, other):
            interpreter.exec("import parser; assert parser.add(1, second=2) == 3")
assert _atoll.image_stats()["unmapped_count"] > 0
assert of_main.add(first=1, second=2) == 3
print("at the exit")
"""


def test_parsers_of_unmapped_images_are_not_there_at_the_exit():
    folder = str(build("parser"))
    assert run_child("-c", END_AFTER_PARSERS, PYTHONPATH=folder) == "at the exit\n"


PROMPT = """
import os, pty, sys, threading
import atoll

with atoll.Interpreter() as interpreter:
    interpreter.exec("import prompt")
    keyboard, terminal = pty.openpty()
    # input() goes by the prompt's function only where both are a terminal.
    os.dup2(terminal, 0)
    os.dup2(terminal, 1)
    os.write(keyboard, b"typed here\\n")
    assert input() == "typed here"
os.write(keyboard, b"typed there\\n")
assert input() == "typed there"
"""


def test_an_image_does_not_change_the_prompt_of_the_process():
    run_child("-c", PROMPT, PYTHONPATH=str(build("prompt")))
