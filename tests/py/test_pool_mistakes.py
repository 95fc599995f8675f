"""Wrong uses of a pool: each gets an error that names the thing, and nothing else ends."""

import asyncio

import pytest

import atoll
from atoll import _atoll

DEADLINE = 60
MODELS = ["interpreters", "threads", "processes"]


@pytest.mark.parametrize("name", ["workers", "max_tasks_per_worker", "max_queued"])
@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (0, ValueError, "must be at least 1"),
        (-1, ValueError, "must be at least 1"),
        (1.5, TypeError, "must be an int or None, not float"),
        ("2", TypeError, "must be an int or None, not str"),
    ],
)
def test_counts(name, value, error, words):
    with pytest.raises(error, match=f"{name} {words}"):
        atoll.Pool(**{"model": "threads", name: value})


def test_initargs():
    with pytest.raises(TypeError, match=r"initargs must be a tuple .*write \(5,\)"):
        atoll.Pool(1, model="threads", initializer=print, initargs=5)


@pytest.mark.parametrize("model", MODELS)
def test_arguments_that_are_none(model):
    """Called with these, C would read what is no tuple."""
    with atoll.Pool(1, model=model) as pool:
        for args in (-1, "text", None):
            with pytest.raises(TypeError, match=r"args must be a tuple .*not "):
                pool.submit_with(abs, args)
        with pytest.raises(TypeError, match="kwargs must be a dict, not list"):
            pool.submit_with(dict, (), [1])
        with pytest.raises(TypeError, match="kwargs must have strings as keys, not 1"):
            pool.submit_with(dict, (), {1: 2})
        assert pool.submit_with(abs, [-1]).result(DEADLINE) == 1
        assert pool.submit_with(dict, (), {"a": 1}).result(DEADLINE) == {"a": 1}


def test_the_scheduler_takes_tuples_and_dicts_alone():
    scheduler = _atoll.Scheduler(1)
    for args, kwargs in ((-1, {}), ([], {}), ((), None), ((), ())):
        with pytest.raises(TypeError, match="a tuple and a dict"):
            scheduler.submit(1, abs, args, kwargs, -1)
    assert scheduler.queued() == 0


@pytest.mark.parametrize("name", ["chunksize", "buffersize"])
def test_sizes_of_maps(name):
    with atoll.Pool(1, model="threads") as pool:
        for value in (1.5, "5"):
            with pytest.raises(TypeError, match=f"{name} must be an int or None"):
                pool.map(abs, [1], **{name: value})
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            pool.map(abs, [1], **{name: 0})


@pytest.mark.parametrize("worker", [-1, 2])
def test_workers_that_are_none(worker):
    with atoll.Pool(2, model="processes") as pool:
        for end in (pool.kill, pool.replace):
            with pytest.raises(IndexError, match="no such worker"):
                end(worker)


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_coroutine_as_a_result_says_how_to_run_it():
    with atoll.Pool(1, model="processes") as pool:
        future = pool.submit(asyncio.sleep, 0)
        with pytest.raises(atoll.NotShareableError, match=r"result.*asyncio\.run\(\)"):
            future.result(DEADLINE)
        assert (
            pool.submit(lambda: asyncio.run(asyncio.sleep(0, 7))).result(DEADLINE) == 7
        )
