"""The misbehaving extensions of tests/ext/, in two interpreters at once and again."""

import sys

import pytest
from sins import build, in_interpreters, run_child


def test_global_state_is_each_interpreters_own():
    in_interpreters(
        """
import global_state
assert [global_state.add() for _ in range(3)] == [1, 2, 3]
global_state.keep([INDEX])
assert global_state.kept_object() == [INDEX]
""",
        build("global_state"),
    )


def test_single_phase_module_looks_as_cpythons_importer_leaves_it():
    in_interpreters(
        """
import importlib.machinery, importlib.util, inspect, sys
import global_state as module
assert module.__name__ == "global_state"
assert module.__file__ == module.__spec__.origin
assert module.__file__.endswith(importlib.machinery.EXTENSION_SUFFIXES[0])
assert type(module.__loader__) is importlib.machinery.ExtensionFileLoader
assert module.__loader__.is_package("global_state") is False
assert inspect.getfile(module) == module.__file__
assert importlib.util.find_spec("global_state") is module.__spec__
assert sys.modules["global_state"] is module
assert module.find_state() is module
""",
        build("global_state"),
    )


def test_single_phase_module_imported_again_is_not_initialised_again():
    in_interpreters(
        """
import importlib, sys
import global_state as first
first.extra = "set later"
first.add()
del sys.modules["global_state"]
import global_state as second
assert second is not first
assert second.inits() == 1
assert second.add() == 2
assert not hasattr(second, "extra")
assert second.find_state() is second
assert importlib.reload(second) is second
""",
        build("global_state"),
    )


def test_static_types_are_each_interpreters_own():
    in_interpreters(
        """
from static_type import Point
class Sub(Point):
    pass
assert [Sub().value() for _ in range(2)] == [0, 0]
assert Point.__subclasses__() == [Sub]
assert Point.__module__ == "static_type"
""",
        build("static_type"),
    )


def test_heap_types_of_a_module_that_refuses_interpreters():
    in_interpreters(
        """
import heap_type
assert type(heap_type.make()) is heap_type.Node
try:
    heap_type.fail()
except heap_type.NodeError as error:
    assert str(error) == "as asked"
else:
    raise AssertionError
""",
        build("heap_type"),
    )


def test_thread_local_storage():
    in_interpreters(
        """
import threading, thread_local
assert thread_local.add() == (41, 1)
assert thread_local.add() == (42, 2)
seen = []
thread = threading.Thread(target=lambda: seen.append(thread_local.add()))
thread.start()
thread.join()
assert seen == [(41, 1)]
""",
        build("thread_local"),
    )


FILL_STATIC_TLS = """
import contextlib, sys
import atoll

with contextlib.ExitStack() as stack:
    for count in range(int(sys.argv[1])):
        interpreter = stack.enter_context(atoll.Interpreter())
        try:
            interpreter.exec("import static_tls; assert static_tls.first() == ord('!')")
        except ImportError as error:
            print(count, error)
            break
    else:
        print("all")
"""


def test_static_tls_runs_out_with_words():
    folder = build("static_tls")
    said = run_child("-c", FILL_STATIC_TLS, "40", PYTHONPATH=str(folder))
    count, _, text = said.partition(" ")
    assert int(count) >= 2, said
    assert "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=" in text
    assert "static_tls" in text


def test_static_tls_has_room_when_asked_for():
    folder = build("static_tls")
    said = run_child(
        "-c",
        FILL_STATIC_TLS,
        "40",
        PYTHONPATH=str(folder),
        GLIBC_TUNABLES="glibc.rtld.optional_static_tls=65536",
    )
    assert said == "all\n"


def test_thread_of_an_extension_calls_back_into_its_own_interpreter():
    in_interpreters(
        """
import threading, own_thread, _interpreters
here = _interpreters.get_current()
seen = []
def callback(i):
    seen.append((i, _interpreters.get_current(), threading.get_ident()))
assert own_thread.call(callback, 200) == 0
assert [i for i, _, _ in seen] == list(range(200))
assert {where for _, where, _ in seen} == {here}
assert threading.get_ident() not in {thread for _, _, thread in seen}
""",
        build("own_thread"),
    )


def test_interpreter_closes_while_foreign_threads_call_back():
    in_interpreters(
        """
import threading, own_thread
called = threading.Semaphore(0)
for _ in range(4):
    assert own_thread.start(called.release) == 0
for _ in range(50):
    assert called.acquire(timeout=60)
""",
        build("own_thread"),
    )


def test_ctypes_callback_on_a_foreign_thread():
    in_interpreters(
        """
import ctypes, threading, _interpreters
here = _interpreters.get_current()
seen = []
@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def work(argument):
    seen.append((_interpreters.get_current(), threading.get_ident()))
libc = ctypes.CDLL(None)
thread = ctypes.c_ulong()
assert libc.pthread_create(ctypes.byref(thread), None, work, None) == 0
assert libc.pthread_join(thread, None) == 0
assert seen[0][0] == here
assert seen[0][1] != threading.get_ident()
"""
    )


def test_two_modules_whose_init_functions_import_each_other():
    in_interpreters(
        """
import circular_a, circular_b, sys
assert circular_a.other is circular_b
assert circular_b.other is circular_a
assert sys.modules["circular_a"] is circular_a
""",
        build("circular"),
    )


def test_submodule_made_by_the_init_function():
    in_interpreters(
        """
import submodule, submodule.inner
assert submodule.inner.answer == 42
assert submodule.inner.__name__ == "submodule.inner"
""",
        build("submodule"),
    )


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (
            "returns_null",
            "SystemError",
            "initialization of returns_null failed without raising an exception",
        ),
        (
            "returns_with_error",
            "SystemError",
            "initialization of returns_with_error raised unreported exception",
        ),
        ("raises", "OSError", "no such device"),
        (
            "returns_no_module",
            "SystemError",
            "initialization of returns_no_module did not return an extension module",
        ),
        (
            "returns_uninitialized",
            "SystemError",
            "init function of returns_uninitialized returned uninitialized object",
        ),
        (
            "other_name",
            "ImportError",
            "dynamic module does not define module export function "
            + (
                "(PyModExport_other_name or PyInit_other_name)"
                if sys.version_info >= (3, 15)
                else "(PyInit_other_name)"
            ),
        ),
    ],
)
def test_broken_init_is_reported_in_cpythons_words(module, error, message):
    check = f"""
import sys
try:
    import {module}
except {error} as raised:
    assert str(raised) == {message!r}, raised
    if {module!r} == "returns_with_error":
        assert type(raised.__cause__) is KeyError
    if type(raised) is ImportError:
        assert raised.name == {module!r} and raised.path.endswith(".so")
else:
    raise AssertionError("imported")
assert {module!r} not in sys.modules
"""
    folder = build("broken_init")
    in_interpreters(check + check, folder)
    # The words are CPython's: main's own importer says the same.
    run_child("-c", check, PYTHONPATH=str(folder))


def test_file_that_is_no_extension(tmp_path):
    from importlib.machinery import EXTENSION_SUFFIXES

    (tmp_path / f"garbage{EXTENSION_SUFFIXES[0]}").write_bytes(b"no ELF" * 100)
    in_interpreters(
        """
try:
    import garbage
except ImportError as error:
    assert error.name == "garbage", error
    assert "garbage" in str(error)
else:
    raise AssertionError
""",
        tmp_path,
    )


def test_cpp_inline_variables_are_each_interpreters_own():
    in_interpreters(
        """
import inline_static
assert inline_static.add() == (1, 2)
assert inline_static.add() == (2, 3)
assert inline_static.catches() == "thrown"
""",
        build("inline_static"),
    )


def test_py_atexit_functions_run_when_the_interpreter_closes(tmp_path):
    log = tmp_path / "log"
    in_interpreters(
        f"""
import process_exit
assert process_exit.register_path({str(log)!r}) == 0
""",
        build("process_exit"),
    )
    assert log.read_text() == "cleaned up\n" * 4


def test_main_interpreter_of_an_image_is_its_own():
    in_interpreters(
        """
import asks_for_main, time, _interpreters
assert asks_for_main.main_id() == _interpreters.get_current()[0]
assert asks_for_main.checks() == 1
assert asks_for_main.add_pending() == 0
deadline = time.monotonic() + 60
while not asks_for_main.pending_done():
    assert time.monotonic() < deadline
assert asks_for_main.pending_done() == 1
""",
        build("asks_for_main"),
    )


def test_short_name_in_a_package():
    in_interpreters(
        """
import outer.short, sys
assert outer.short.__name__ == "outer.short"
assert sys.modules["outer.short"] is outer.short
""",
        build("short_name"),
    )


@pytest.mark.skipif(
    "t" in sys.abiflags, reason="a free-threaded build has no stable ABI"
)
def test_stable_abi():
    in_interpreters(
        "import stable; assert [stable.add(), stable.add()] == [1, 2]",
        build("stable_abi"),
    )


def test_symbols_beside_the_dynamic_table():
    in_interpreters(
        "import beside_dynamic; assert beside_dynamic.add() == 1",
        build("beside_dynamic"),
    )


def test_name_that_is_not_ascii():
    in_interpreters(
        "import größe; assert größe.answer == 42",
        build("unicode_name"),
    )


def test_symbol_exported_through_rtld_global():
    in_interpreters(
        """
import os, sys
before = sys.getdlopenflags()
sys.setdlopenflags(before | os.RTLD_GLOBAL)
import provider
sys.setdlopenflags(before)
import consumer
assert [provider.add(), consumer.add(), provider.add()] == [1, 2, 3]
""",
        build("exported_symbol"),
    )


def test_capsules_stay_inside_their_interpreter():
    in_interpreters(
        """
import capsule_user, capsule_maker
assert [capsule_user.add(), capsule_user.add()] == [1, 2]
assert capsule_maker.count() == 2
""",
        build("capsule"),
    )


def test_library_of_an_extension_and_of_ctypes_is_one_and_private():
    folder = build("library")
    in_interpreters(
        f"""
import counting_user, ctypes
library = ctypes.CDLL({str(folder / "libcounting.so")!r})
library.counting_add.restype = ctypes.c_long
assert [counting_user.add(), library.counting_add()] == [1, 2]
assert [counting_user.add(), library.counting_add()] == [3, 4]
""",
        folder,
    )


def test_function_chosen_while_the_loader_relocates():
    in_interpreters(
        "import ifunc; assert [ifunc.add(), ifunc.add()] == [41, 42]",
        build("ifunc"),
    )


def test_extension_that_opens_itself():
    in_interpreters(
        """
import no_delete
assert no_delete.has_itself()
assert [no_delete.add(), no_delete.add()] == [1, 2]
""",
        build("no_delete"),
    )


@pytest.mark.parametrize("sin", ["library", "exported_symbol"])
def test_original_that_main_shows_to_the_whole_process(sin):
    # RTLD_GLOBAL: the loader prefers main's, for whatever is opened afterwards.
    names = ["counting_user"] if sin == "library" else ["provider", "consumer"]
    run_child(
        "-c",
        f"""
import os, sys
import atoll
def add(names):
    import importlib, os, sys
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
    modules = [importlib.import_module(name) for name in names]
    return [module.add() for module in modules * 2]
assert add({names}) == list(range(1, 1 + 2 * len({names})))
for _ in range(2):
    with atoll.Interpreter() as one, atoll.Interpreter() as other:
        assert one.call(add, {names}) == list(range(1, 1 + 2 * len({names})))
        assert other.call(add, {names}) == list(range(1, 1 + 2 * len({names})))
""",
        PYTHONPATH=str(build(sin)),
    )


def test_library_that_uses_another_without_naming_it():
    in_interpreters(
        """
import silent_user
assert [silent_user.add_silently(), silent_user.add()] == [1, 2]
assert [silent_user.add(), silent_user.add_silently()] == [3, 4]
""",
        build("silent_need"),
    )


def test_standard_library_that_refuses_interpreters():
    in_interpreters(
        """
import faulthandler, tracemalloc, _suggestions, readline, _testsinglephase
import curses, dbm, sqlite3, ssl, ctypes, decimal, zoneinfo
assert ctypes.pythonapi.Py_IsInitialized()
"""
    )


def test_import_does_not_wait_for_mains_gil():
    run_child(
        "-c",
        """
import ctypes, os, sys, threading
import _interpreters
import atoll
atoll.enable()
interpreter = _interpreters.create("isolated")
in_out, out_in = os.pipe(), os.pipe()
errors = []
code = f'''
import os
os.write({out_in[1]}, b"r")
os.read({in_out[0]}, 1)
import global_state, _decimal, _ctypes, _socket, _datetime
assert global_state.add() == 1
os.write({out_in[1]}, b"d")
'''
def work():
    errors.append(_interpreters.exec(interpreter, code))
thread = threading.Thread(target=work)
thread.start()
assert os.read(out_in[0], 1) == b"r"
# From here to the second read this thread never lets go of main's GIL: PyDLL calls with
# it held. The read comes back only when the imports in the interpreter are done.
libc = ctypes.PyDLL(None)
buffer = ctypes.create_string_buffer(1)
libc.write(in_out[1], b"g", 1)
class PollFd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short),
                ("revents", ctypes.c_short)]
poll = PollFd(out_in[0], 1, 0)
ready = libc.poll(ctypes.byref(poll), 1, 60000)
got = libc.read(out_in[0], buffer, 1) if ready == 1 else -1
assert (ready, got, buffer.raw) == (1, 1, b"d"), (ready, got, buffer.raw)
thread.join()
assert errors == [None], errors
_interpreters.destroy(interpreter)
""",
        PYTHONPATH=str(build("global_state")),
        # Where there may be none: to turn one on, CPython stops every thread of the
        # process, and this one cannot be stopped.
        PYTHON_GIL="1",
    )


def test_nested_interpreters_import_extensions_too():
    in_interpreters(
        """
import _interpreters
inner = _interpreters.create("isolated")
error = _interpreters.exec(inner, "import global_state; assert global_state.add() == 1")
assert error is None, error.errdisplay
_interpreters.destroy(inner)
""",
        build("global_state"),
    )


def test_python_m_atoll_runs_a_script(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        """
import sys
import _interpreters
import neighbour
def main():
    interpreter = _interpreters.create("isolated")
    error = _interpreters.exec(interpreter, "import global_state; global_state.add()")
    assert error is None, error.errdisplay
    _interpreters.destroy(interpreter)
    print(__name__, sys.argv[1:], neighbour.NAME)
if __name__ == "__main__":
    main()
"""
    )
    (tmp_path / "neighbour.py").write_text("NAME = 'next door'\n")
    out = run_child(
        "-m", "atoll", str(script), "-x", PYTHONPATH=str(build("global_state"))
    )
    assert out == "__main__ ['-x'] next door\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="PEP 734 came with 3.14")
def test_standard_library_pool_imports_extensions():
    run_child(
        "-c",
        """
from concurrent.futures import InterpreterPoolExecutor
import atoll
atoll.enable()
def work(n):
    import global_state
    return global_state.add()
with InterpreterPoolExecutor(2) as pool:
    assert sum(pool.map(work, range(4))) >= 4
""",
        PYTHONPATH=str(build("global_state")),
    )
