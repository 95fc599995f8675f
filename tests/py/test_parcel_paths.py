"""The path that NotShareableError names begins with the caller's own word for it."""

import threading

import pytest

import atoll
from atoll import NotShareableError, interpreters

DEADLINE = 60
LOCKED = {"lock": threading.Lock()}
MODELS = ["interpreters", "processes"]


def returns_a_generator(*_):
    return {"it": (x for x in ())}


def one_of_the_results(number):
    return [number, (x for x in ())] if number == 3 else number


def refused(call, path):
    with pytest.raises(NotShareableError) as caught:
        call()
    assert str(caught.value).startswith(path + ", of type "), caught.value


def test_interpreter():
    with atoll.Interpreter() as there:
        refused(lambda: there.call(print, 1, [LOCKED]), "args[1][0]['lock']")
        refused(lambda: there.call(print, end=LOCKED), "kwargs['end']['lock']")
        refused(lambda: there.submit(print, LOCKED).result(DEADLINE), "args[0]['lock']")
        refused(lambda: there.call(LOCKED["lock"].acquire), "function.__self__")
        refused(lambda: there.call(returns_a_generator), "result['it']")
        refused(lambda: there.set(name=LOCKED), "kwargs['name']['lock']")
        assert there.call(abs, -1) == 1


@pytest.mark.parametrize("model", MODELS)
def test_pool(model):
    with atoll.Pool(1, model=model) as pool:
        refused(lambda: pool.submit(print, 1, [LOCKED]), "args[1][0]['lock']")
        refused(lambda: pool.submit(print, end=LOCKED), "kwargs['end']['lock']")
        refused(
            lambda: pool.submit(returns_a_generator).result(DEADLINE), "result['it']"
        )
        refused(lambda: pool.broadcast(LOCKED), "value['lock']")
        assert pool.submit(abs, -1).result(DEADLINE) == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("chunksize", [1, 3])
def test_map(model, chunksize):
    with atoll.Pool(1, model=model) as pool:
        numbers = [1, 2, 3, 4, LOCKED, 6]
        refused(
            lambda: list(pool.map(print, range(6), numbers, chunksize=chunksize)),
            "iterables[1][4]['lock']",
        )
        refused(
            lambda: list(pool.map(one_of_the_results, range(6), chunksize=chunksize)),
            "results[3][1]",
        )
        refused(
            lambda: list(
                pool.imap_unordered(one_of_the_results, range(6), chunksize=chunksize)
            ),
            "results[3][1]",
        )
        assert list(pool.map(abs, [-1, -2])) == [1, 2]


def test_initializer():
    with pytest.raises(NotShareableError, match=r"^initargs\[0\]\['lock'\]"):
        atoll.Pool(1, model="interpreters", initializer=print, initargs=(LOCKED,))


def test_channels_and_tables():
    channel = atoll.Channel()
    refused(lambda: channel.send(LOCKED), "object['lock']")
    refused(lambda: channel.try_send([LOCKED]), "object[0]['lock']")
    refused(lambda: channel.send_many([1, 2, [LOCKED]]), "objects[2][0]['lock']")
    assert channel.recv_many() == [1, 2]
    many = atoll.Channel(capacity=1000)
    refused(lambda: many.send_many([*range(700), LOCKED]), "objects[700]['lock']")
    assert len(many) == 700
    refused(lambda: atoll.SharedDict().update(a=LOCKED), "object['lock']")
    broadcast = atoll.Broadcast()
    subscription = broadcast.subscribe()
    refused(lambda: broadcast.send(LOCKED), "object['lock']")
    assert len(subscription) == 0


def test_standard_interpreters():
    there = interpreters.create()
    try:
        refused_here = pytest.raises(interpreters.NotShareableError, match=r"^kwargs")
        with refused_here:
            there.prepare_main(name=LOCKED)
    finally:
        there.close()
