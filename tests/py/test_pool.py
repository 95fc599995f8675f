"""The pool: the same tests on each of its models."""

import asyncio
import concurrent.futures as cf
import os
import sys
import threading
import time

import pytest
from waiting import wait_until

import atoll
from atoll._errors import NotShareableError

DEADLINE = 60


def spin():
    while True:
        pass


def test_it_is_an_executor(pool, model):
    assert isinstance(pool, cf.Executor)
    assert pool.model == model and pool.model_reason and pool.workers == 2
    future = pool.submit(pow, 2, 10)
    assert isinstance(future, cf.Future)
    assert future.result(DEADLINE) == 1024
    assert future.done() and not future.running() and not future.cancelled()
    assert future.exception() is None


def test_auto_says_why():
    with atoll.Pool(1) as pool:
        free = not sys._is_gil_enabled()
        assert pool.model == ("threads" if free else "interpreters")
        assert "GIL" in pool.model_reason


def test_lambdas_closures_and_keywords(pool):
    base = 5
    assert pool.submit(lambda a, *, b: a + b + base, 1, b=2).result(DEADLINE) == 8


def test_it_runs_elsewhere(pool, model):
    here = os.getpid(), threading.get_ident()
    there = pool.submit(lambda: (os.getpid(), threading.get_ident())).result(DEADLINE)
    assert there != here
    assert (there[0] == here[0]) == (model != "processes")


def test_exception_with_remote_traceback(pool, model):
    def fail():
        raise LookupError("mine")

    future = pool.submit(fail)
    error = future.exception(DEADLINE)
    assert type(error) is LookupError and error.args == ("mine",)
    if model != "threads":
        assert "in fail" in str(error.__cause__)
    with pytest.raises(LookupError):
        future.result()


def test_exit_ends_only_the_task(pool):
    with pytest.raises((SystemExit, atoll.InterpreterError)):
        pool.submit(sys.exit, 3).result(DEADLINE)
    assert pool.submit(abs, -1).result(DEADLINE) == 1


def test_many_tasks_all_end_once(pool):
    seen = []
    futures = [pool.submit(abs, -i) for i in range(3000)]
    for future in futures:
        future.add_done_callback(lambda f: seen.append(f.result()))
    assert [f.result(DEADLINE) for f in futures] == list(range(3000))
    wait_until(lambda: len(seen) == 3000)
    assert sorted(seen) == list(range(3000))


def test_submitting_from_many_threads(pool):
    results = {}

    def use(number):
        results[number] = [
            pool.submit(divmod, i, number).result(DEADLINE) for i in range(100)
        ]

    threads = [threading.Thread(target=use, args=(n,)) for n in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    for number in range(1, 6):
        assert results[number] == [divmod(i, number) for i in range(100)]


def test_wait_and_as_completed(pool):
    futures = [pool.submit(abs, i) for i in range(50)]
    done, pending = cf.wait(futures, timeout=DEADLINE)
    assert len(done) == 50 and not pending
    assert {f.result() for f in cf.as_completed(futures)} == set(range(50))
    slow = pool.submit(time.sleep, 0.2)
    quick = pool.submit(abs, -1)
    done, _ = cf.wait([slow, quick], timeout=DEADLINE, return_when=cf.FIRST_COMPLETED)
    assert done
    done, _ = cf.wait([slow, quick], timeout=DEADLINE)
    assert len(done) == 2


def test_result_times_out(pool):
    gate = atoll.Event(shared=True)
    future = pool.submit(gate.wait, DEADLINE)
    with pytest.raises(TimeoutError):
        future.result(0.01)
    gate.set()
    assert future.result(DEADLINE) is True


def test_asyncio(pool):
    begun = atoll.Event(shared=True)

    def begin_and_spin():
        begun.set()
        spin()

    async def main():
        assert await pool.run(pow, 2, 5) == 32
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, abs, -4) == 4
        results = await asyncio.gather(*(pool.run(abs, -i) for i in range(100)))
        assert results == list(range(100))
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        with pytest.raises(TimeoutError):
            await pool.run(spin, timeout=0.2)
        task = asyncio.create_task(pool.run(begin_and_spin))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.run(abs, -5) == 5

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


# ---- map ----


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_map_is_ordered(pool, chunksize):
    got = list(
        pool.map(lambda a, b: a * b, range(500), range(1000), chunksize=chunksize)
    )
    assert got == [i * i for i in range(500)]
    assert list(pool.map(abs, [])) == []


def test_imap_unordered(pool):
    assert sorted(pool.imap_unordered(abs, range(-500, 0))) == list(range(1, 501))


def test_map_reads_lazily(pool):
    read = []

    def source():
        for i in range(10**9):
            read.append(i)
            yield i

    results = pool.map(abs, source(), buffersize=8)
    assert len(read) <= 8
    assert [next(results) for _ in range(20)] == list(range(20))
    assert len(read) <= 28
    results.close()


def test_map_of_an_endless_source_without_limits(pool):
    import itertools

    results = pool.map(abs, itertools.count())
    assert [next(results) for _ in range(100)] == list(range(100))
    results.close()


def test_map_gives_what_came_before_the_error(pool):
    results = pool.map(lambda n: 10 // (5 - n), range(10), chunksize=3)
    assert [next(results) for _ in range(5)] == [2, 2, 3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_times_out(pool):
    gate = atoll.Event(shared=True)
    results = pool.map(gate.wait, [DEADLINE], timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    gate.set()


# ---- workers ----


def set_up(value):
    os.environ.setdefault("UNUSED", "1")
    sys.atoll_test_value = value


def test_initializer(model):
    with atoll.Pool(2, model=model, initializer=set_up, initargs=(7,)) as pool:
        got = [
            pool.submit(lambda: sys.atoll_test_value).result(DEADLINE)
            for _ in range(10)
        ]
    assert got == [7] * 10


def test_initializer_that_fails_breaks_the_pool(model):
    def fail():
        raise LookupError("no")

    pool = atoll.Pool(2, model=model, initializer=fail)
    with pytest.raises(atoll.BrokenPool, match="no"):
        for _ in range(10_000):
            pool.submit(abs, 1).result(DEADLINE)
    with pytest.raises(atoll.BrokenPool, match="no"):
        pool.submit(abs, 1)
    pool.shutdown()


def test_workers_are_replaced_after_their_tasks(model):
    with atoll.Pool(1, model=model, max_tasks_per_worker=5) as pool:
        got = [pool.submit(abs, i).result(DEADLINE) for i in range(22)]
        assert got == list(range(22))
        wait_until(lambda: pool.stats()["restarts"] >= 4)


def test_broadcast(pool):
    kept = pool.broadcast({"table": [1, 2, 3]})
    got = [
        pool.submit(lambda k: (sum(k["table"]), id(k)), kept).result(DEADLINE)
        for _ in range(20)
    ]
    assert {total for total, _ in got} == {6}
    assert len({identity for _, identity in got}) <= 2
    kept.release()


def test_stats(pool):
    future = pool.submit(spin)
    wait_until(future.running)
    stats = pool.stats()
    assert stats["unfinished"] == 1
    assert sorted(w["task"] != 0 for w in stats["workers"]) == [False, True]
    future.cancel(running=True)


def test_queue_bound(model):
    gate = atoll.Event(shared=True)
    with atoll.Pool(1, model=model, max_queued=2, when_full="raise") as pool:
        with pytest.raises(atoll.Full):
            for _ in range(4):  # one runs, or will, and two wait
                pool.submit(gate.wait, DEADLINE)
        gate.set()
    with atoll.Pool(1, model=model, max_queued=1) as pool:
        gate = pool.submit(time.sleep, 0.1)
        wait_until(lambda: gate.running() or gate.done())
        long = pool.submit(spin)
        # Room comes when `long` is taken, which is long before it ends.
        after = pool.submit(abs, -1)
        long.cancel(running=True)
        assert after.result(DEADLINE) == 1
    with atoll.Pool(1, model=model, max_queued=2) as pool:
        futures = [pool.submit(abs, i) for i in range(100)]
        assert [f.result(DEADLINE) for f in futures] == list(range(100))


def say_and_sleep(path):
    path.touch()
    time.sleep(DEADLINE)


def test_a_crash_costs_one_task(tmp_path):
    with atoll.Pool(2, model="processes") as pool:
        others = [pool.submit(abs, i) for i in range(100)]
        lost = pool.submit(os._exit, 7)
        more = [pool.submit(abs, i) for i in range(100)]
        with pytest.raises(atoll.BrokenProcess, match="code 7"):
            lost.result(DEADLINE)
        assert [f.result(DEADLINE) for f in others + more] == [*range(100)] * 2
        # Not one that only travels there: that is given to another process.
        future = pool.submit(say_and_sleep, tmp_path / "runs")
        wait_until((tmp_path / "runs").exists)
        pool.kill(pool._scheduler.running(future._task_id))
        with pytest.raises(atoll.BrokenProcess):
            future.result(DEADLINE)
        assert pool.submit(abs, -1).result(DEADLINE) == 1


def test_memory_limit_of_processes():
    with atoll.Pool(1, model="processes", max_memory_per_worker=1) as pool:
        first = pool.submit(os.getpid).result(DEADLINE)
        assert pool.submit(os.getpid).result(DEADLINE) != first
    with pytest.raises(ValueError, match="share the memory"):
        atoll.Pool(1, model="threads", max_memory_per_worker=1)


def keep(size):
    sys.atoll_test_kept = [*getattr(sys, "atoll_test_kept", ()), bytes(size)]
    return atoll.get_current().id


@pytest.mark.skipif(not sys._is_gil_enabled(), reason="heaps have no account there")
def test_memory_limit_of_interpreters():
    with atoll.Pool(1, model="interpreters", max_memory_per_worker=50 << 20) as pool:
        first = pool.submit(keep, 0).result(DEADLINE)
        held = pool.stats()["workers"][0]["resident_bytes"]
        assert 1 << 20 < held < 50 << 20
        assert pool.submit(keep, 60 << 20).result(DEADLINE) == first
        second = pool.submit(keep, 0).result(DEADLINE)  # by another
        assert second != first
        assert pool.submit(keep, 0).result(DEADLINE) == second
        assert pool.stats()["restarts"] == 1


def test_memory_limit_where_heaps_have_no_account():
    import subprocess

    code = """
import atoll
try:
    atoll.Pool(2, model="interpreters", max_memory_per_worker=1)
except ValueError as error:
    assert "no account" in str(error), error
    assert atoll.list_interpreters() == []
    print("refused")
"""
    environment = dict(os.environ)
    if "t" not in sys.abiflags:  # without a GIL none has, and this is no allocator
        environment["PYTHONMALLOC"] = "malloc"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert done.stdout == "refused\n" and done.returncode == 0, done.stderr


# ---- what cannot be sent ----


@pytest.mark.parametrize("model", ["interpreters", "processes"])
def test_refusals_name_the_path(model):
    with atoll.Pool(1, model=model) as pool:
        with pytest.raises(NotShareableError, match=r"\[0\]\['lock'\]"):
            pool.submit(abs, {"lock": threading.Lock()})
        with pytest.raises(NotShareableError, match="generator"):
            pool.submit(lambda: (x for x in ())).result(DEADLINE)
        assert pool.submit(abs, -1).result(DEADLINE) == 1


@pytest.mark.parametrize("size", [100, 100_000, 5_000_000])
def test_large_arguments(pool, size):
    data = os.urandom(size)
    assert pool.submit(lambda d: (len(d), d), data).result(DEADLINE) == (size, data)


# ---- the end ----


def test_shutdown(model):
    pool = atoll.Pool(2, model=model)
    futures = [pool.submit(abs, i) for i in range(100)]
    pool.shutdown()
    assert [f.result(0) for f in futures] == list(range(100))
    with pytest.raises(RuntimeError):
        pool.submit(abs, 1)
    pool.shutdown()


def test_shutdown_cancels(model, monkeypatch):
    # A machine under load may need longer than this to get the interrupt through.
    monkeypatch.setattr("atoll._pool.limits.STUCK_SECONDS", DEADLINE)
    pool = atoll.Pool(1, model=model)
    first = pool.submit(spin)
    futures = [pool.submit(abs, i) for i in range(20)]
    wait_until(first.running)
    pool.shutdown(cancel_futures=True, interrupt=True)
    assert all(f.cancelled() for f in [first, *futures])


def test_process_ends_with_a_pool_left_open(model):
    import subprocess

    code = f"""
import atoll, time
pool = atoll.Pool(2, model={model!r})
print(pool.submit(lambda: 5).result(30), flush=True)
pool.submit(time.sleep, 0.01)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert done.returncode == 0 and done.stdout == "5\n", done.stderr


def test_bad_arguments():
    for arguments in (
        {"workers": 0},
        {"model": "boats"},
        {"max_queued": 0},
        {"when_full": "cry"},
    ):
        with pytest.raises(ValueError):
            atoll.Pool(**arguments)


def test_every_future_ends_once(model):
    import subprocess
    from pathlib import Path

    script = Path(__file__).parents[1] / "stress" / "stress_pool.py"
    run = subprocess.run(
        [
            sys.executable,
            script,
            f"--model={model}",
            "--tasks=4000",
            "--recycle=1500",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_two_interrupts_of_a_task_are_one(model):
    with atoll.Pool(1, model=model) as pool:
        for _ in range(20):
            first = pool.submit(spin)
            second = pool.submit(sum, range(200_000))
            wait_until(first.running)
            first.cancel(running=True)
            first.cancel(running=True)
            assert second.result(DEADLINE) == 19999900000
            # Its end may be told after that of the next one.
            with pytest.raises(cf.CancelledError):
                first.result(DEADLINE)
