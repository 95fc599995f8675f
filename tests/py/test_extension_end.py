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
before = resident_mb()
for _ in range(25):
    cycle("import leaves; leaves.map_heap()")
assert resident_mb() < before + 50, (before, resident_mb())
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
