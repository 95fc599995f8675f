"""The end of interpreters: close with things alive, exit of the process, signals.

Each case that could take the process down runs in a child, whose exit code and standard
error are part of the check.
"""

import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest
from children import DEADLINE, run

import atoll

# ---- close ------------------------------------------------------------------------


def test_atexit_functions_run_and_may_use_threads():
    out = run(
        """
        import atoll
        with atoll.Interpreter() as one:
            one.exec('''
        import atexit, threading
        def late():
            # One write: main prints meanwhile.
            t = threading.Thread(target=lambda: print(" thread ", end="", flush=True))
            t.start()
        atexit.register(late)
        atexit.register(print, "atexit", flush=True)
        ''')
        print("closed")
        """
    )
    assert out.split() == ["atexit", "thread", "closed"]


def test_close_joins_threads_and_executors():
    out = run(
        """
        import atoll
        one = atoll.Interpreter()
        one.exec('''
        import os, threading, time
        from concurrent.futures import ThreadPoolExecutor
        def work():
            time.sleep(0.2)
            os.write(1, b"worked ")
        threading.Thread(target=work).start()
        pool = ThreadPoolExecutor(2)
        futures = [pool.submit(work) for _ in range(3)]
        ''')
        one.close(timeout=60)
        print(atoll.list_interpreters())
        """
    )
    assert out.split() == ["worked"] * 4 + ["[]"]


def test_close_ends_daemon_threads_that_run_python():
    out = run(
        """
        import atoll
        one = atoll.Interpreter()
        one.exec('''
        import threading, time
        def spin():
            while True:
                time.sleep(0.01)
        threading.Thread(target=spin, daemon=True).start()
        ''')
        one.close(timeout=60)
        print(one)
        """
    )
    assert "closed" in out


def test_close_ends_raw_threads_and_open_loops():
    run(
        """
        import atoll
        one = atoll.Interpreter()
        one.exec('''
        import _thread, time, asyncio
        loop = asyncio.new_event_loop()
        async def forever():
            await asyncio.sleep(3600)
        task = loop.create_task(forever())
        loop.call_soon(loop.stop)
        loop.run_forever()
        _thread.start_new_thread(time.sleep, (0.3,))
        ''')
        one.close(timeout=60)
        assert one.closed
        """,
        stderr=None,
    )


def test_close_gives_up_on_a_thread_that_stays_and_names_it():
    out = run(
        """
        import atoll, warnings
        one = atoll.Interpreter()
        one.exec('''
        import threading
        threading.Thread(target=threading.Event().wait, name="stays").start()
        ''')
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one.close(timeout=0.3)
            while "closing" in repr(one):
                one.close(timeout=1)
            one.close()  # it came to its end after a close had given up, perhaps
        print(caught[-1].category.__name__, caught[-1].message, one)
        """
    )
    assert "RuntimeWarning" in out
    assert "thread 'stays' (native id" in out
    assert "left>" in out


def test_close_says_where_a_thread_or_an_atexit_function_stays():
    out = run(
        """
        import atoll, warnings
        threads, function = atoll.Interpreter(), atoll.Interpreter()
        threads.exec('''
        import threading
        def linger(): threading.Event().wait()
        threading.Thread(target=linger).start()
        ''')
        function.exec('''
        import atexit, time
        def save(): time.sleep(3600)
        atexit.register(save)
        ''')
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for one in (threads, function):
                one.close(timeout=0.3)
                while "closing" in repr(one):
                    one.close(timeout=1)
                one.close()
                print(caught[-1].message)
        """
    )
    assert " in Condition.wait, " in out
    assert "does not return in save, <atoll.Interpreter.exec>:" in out


def test_close_ends_daemon_threads_that_wait_in_an_event_loop():
    out = run(
        """
        import atoll
        one = atoll.Interpreter()
        one.exec('''
        import asyncio, os, threading
        async def forever(running):
            try:
                running.set()
                await asyncio.sleep(3600)
            finally:
                os.write(1, b"cancelled ")
        running = threading.Event()
        threading.Thread(
            target=lambda: asyncio.run(forever(running)), daemon=True).start()
        running.wait()
        ''')
        one.close(timeout=30)
        print(one)
        """,
    )
    assert out.startswith("cancelled <atoll.Interpreter")
    assert "closed>" in out


def test_close_with_an_open_loop_is_as_loud_as_cpython():
    script = """
        import atoll
        one = atoll.Interpreter()
        one.exec('''
        import asyncio
        loop = asyncio.new_event_loop()
        task = loop.create_task(asyncio.sleep(3600))
        loop.call_soon(loop.stop)
        loop.run_forever()
        ''')
        one.close()
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done
    assert "Task was destroyed but it is pending!" in done.stderr
    assert "_DeleteDummyThreadOnDel" not in done.stderr


def test_close_gives_up_on_a_daemon_thread_in_a_lock():
    out = run(
        """
        import atoll, warnings
        one = atoll.Interpreter()
        one.exec('''
        import threading
        lock = threading.Lock(); lock.acquire()
        threading.Thread(target=lock.acquire, name="stuck", daemon=True).start()
        ''')
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one.close(timeout=1)
            while "closing" in repr(one):
                one.close(timeout=1)
            one.close()
        print(caught[-1].message)
        """
    )
    assert "daemon thread 'stuck'" in out


def test_close_waits_for_calls_and_cancels_what_is_queued(monkeypatch):
    # Else a busy machine gets the warning of a close that was given up.
    monkeypatch.setattr("atoll._interpreter._FINISH_GRACE", DEADLINE)
    one = atoll.Interpreter()
    results = []

    def call(source):
        try:
            one.exec(source)
            results.append("done")
        except BaseException as error:
            results.append(type(error).__name__)

    def start(source):
        thread = threading.Thread(target=call, args=(source,))
        thread.start()
        return thread

    first = start("while True: pass")
    while not one.is_running():
        time.sleep(0.01)
    second = start("pass")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.close(timeout=0.5)
    first.join(DEADLINE)
    second.join(DEADLINE)
    assert sorted(results) == ["ClosedError", "KeyboardInterrupt"]


def test_close_ends_waits_at_channels():
    out = run(
        """
        import atoll
        one = atoll.Interpreter()
        one.exec('''
        import os, threading, atoll
        channel = atoll.Channel()
        def wait():
            try:
                channel.recv()
            except Exception as error:
                os.write(1, type(error).__name__.encode() + b" ")
        threading.Thread(target=wait).start()
        ''')
        one.close(timeout=30)
        print(one.closed, atoll.list_interpreters())
        """
    )
    assert out.split() == ["ClosedError", "True", "[]"]


def test_an_interpreter_cannot_close_or_call_itself():
    with atoll.Interpreter() as one:
        for wrong in ("close()", "call(print)"):
            with pytest.raises(RuntimeError, match="itself from inside"):
                one.exec(f"import atoll\natoll.get_current().{wrong}")


def test_unclosed_interpreter_is_closed_with_a_warning():
    one = atoll.Interpreter()
    number = one.id
    with pytest.warns(ResourceWarning, match=f"unclosed <atoll.Interpreter {number}"):
        del one
    deadline = time.monotonic() + DEADLINE
    while number in [each.id for each in atoll.list_interpreters()]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_thread_and_no_descriptor_stays():
    # In a process where nobody else has any.
    run(
        """
        import atoll, os, time

        def count(what):
            return len(os.listdir("/proc/self/" + what))

        with atoll.Interpreter():
            pass
        # A thread that was joined is in /proc until the kernel has put it away.
        deadline = time.monotonic() + 50
        while count("task") > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        before = count("fd")
        for _ in range(10):
            with atoll.Interpreter() as one:
                one.exec("import json, threading, asyncio")
        while count("task") > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (count("task"), count("fd")) == (1, before)
        """
    )


# ---- exit of the process ------------------------------------------------------------


# For those that do come to an end: on a machine that is busy enough they are late.
IN_TIME = "import atoll._interpreter; atoll._interpreter._EXIT_TIMEOUT = 50"


@pytest.mark.parametrize("code", [0, 7])
@pytest.mark.parametrize(
    "inside",
    [
        "pass",
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(0.2,)).start()",
        "import threading, time\n"
        "def f():\n while True: pass\n"
        "threading.Thread(target=f, daemon=True).start()",
        "import threading; l = threading.Lock(); l.acquire()\n"
        "threading.Thread(target=l.acquire, daemon=True).start()",
        "import _thread, time; _thread.start_new_thread(time.sleep, (3600,))",
    ],
    ids=["idle", "thread", "daemon-spins", "daemon-locked", "raw"],
)
def test_exit_with_live_interpreters(inside, code, request):
    ends = request.node.callspec.id.rpartition("-")[0] in ("idle", "thread")
    run(
        f"""
        import atoll, sys
        {IN_TIME if ends else ""}
        keep = [atoll.Interpreter(), atoll.Interpreter()]
        for one in keep:
            one.exec({inside!r})
        sys.exit({code})
        """,
        code=code,
    )


# On a machine that is busy enough, the interpreter is cut off before it can say why.
PATIENT = "import atoll, atoll._interpreter; atoll._interpreter._FINISH_GRACE = 50"


@pytest.mark.parametrize(
    "inside, left",
    [
        (
            "import threading\n"
            "threading.Thread(target=threading.Event().wait, name='stays').start()",
            "thread 'stays' (native id ",
        ),
        (
            "import atexit, time\natexit.register(time.sleep, 3600)",
            "an atexit function that does not return",
        ),
        (
            "import threading; from concurrent.futures import ThreadPoolExecutor\n"
            "ThreadPoolExecutor(1).submit(threading.Event().wait)",
            "a function that threading runs at exit in ",
        ),
    ],
    ids=["thread", "atexit", "executor"],
)
def test_exit_names_what_it_cuts_off(inside, left):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{PATIENT}\none = atoll.Interpreter(); one.exec({inside!r}); exit(7)",
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 7, done
    assert "RuntimeWarning: interpreter 1 was cut off by the exit" in done.stderr, done
    assert left in done.stderr, done


@pytest.mark.parametrize("body", ["while True: pass", "import time; time.sleep(3600)"])
def test_exit_while_code_runs(body):
    run(
        f"""
        import atoll, threading
        one = atoll.Interpreter()
        def call():
            try:
                one.exec({body!r})
            except KeyboardInterrupt:
                pass
        threading.Thread(target=call, daemon=True).start()
        while not one.is_running():
            pass
        """
    )


def test_an_interpreter_that_ends_closes_those_it_made():
    run(
        """
        import atoll, time
        one = atoll.Interpreter()
        one.exec("import atoll; keep = atoll.Interpreter()")
        assert len(atoll.list_interpreters()) == 2
        one.close()
        deadline = time.monotonic() + 50
        while atoll.list_interpreters() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not atoll.list_interpreters()
        """
    )


def test_close_while_tracemalloc_traces():
    run(
        """
        import atoll, tracemalloc, warnings
        one = atoll.Interpreter()
        one.exec("import json")
        tracemalloc.start()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one.close()
            atoll.Interpreter().close()
        assert "tracemalloc was stopped" in str(caught[0].message)
        """
    )


def test_exit_by_an_error_keeps_its_code():
    run(
        "import atoll; one = atoll.Interpreter(); raise ValueError('x')",
        code=1,
        stderr=None,
    )


# ---- signals -----------------------------------------------------------------------


def interrupt_child(script, *, wait_for="ready"):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline().strip() == wait_for
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=DEADLINE)
    finally:
        child.kill()
        child.wait()
    return child.returncode, out, err


@pytest.mark.parametrize("body", ["while True: pass", "import time; time.sleep(3600)"])
def test_ctrl_c_ends_a_call(body):
    code, out, err = interrupt_child(
        f"""
        import atoll
        one = atoll.Interpreter()
        try:
            one.exec("print('ready', flush=True)\\n" + {body!r})
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert (code, out, err) == (0, "interrupted\n", "")


def test_ctrl_c_during_close():
    code, out, err = interrupt_child(
        """
        import atoll
        one = atoll.Interpreter()
        one.exec("import threading;"
                 "threading.Thread(target=threading.Event().wait).start()")
        try:
            print("ready", flush=True)
            one.close(timeout=3600)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert (code, out) == (0, "interrupted\n")
    # The signal may have come before the close began: the exit does it then.
    assert err == "" or "was cut off by the exit of the process: thread " in err


def test_interrupt_raises_what_was_asked_for():
    with atoll.Interpreter() as one:
        caught = []
        inside = atoll.Event()  # is_running() is true a little before the code runs
        one.set(inside=inside)

        def call():
            try:
                one.exec("inside.set()\nwhile True: pass")
            except BaseException as error:
                caught.append(type(error))

        thread = threading.Thread(target=call)
        thread.start()
        assert inside.wait(DEADLINE)
        one.interrupt(TimeoutError)
        thread.join(DEADLINE)
        assert caught == [TimeoutError]
        # Nothing of it is left for the next call.
        one.interrupt()
        assert one.call(eval, "1 + 1") == 2
