"""What cannot be sent is refused, with its path."""

import collections
import itertools
import mmap
import queue
import sys
import sysconfig
import threading
import types
import typing

import pytest
from parcels import MyList, trip

from atoll import _atoll
from atoll._errors import NotShareableError


class Carrier:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "object,"),
        ([1, {"lock": threading.Lock()}], "object[1]['lock'],"),
        ((0, [0, (x for x in ())]), "object[1][1],"),
        (Carrier(inner=Carrier(lock=threading.Lock())), "object.inner.lock,"),
        (collections.deque([1, threading.Lock()]), "object[1],"),
        (collections.OrderedDict(k=threading.Lock()), "object['k'],"),
        (
            lambda lock=threading.Lock(): lock,  # noqa: B008
            "object.__defaults__[0],",
        ),
        ({"m": types.ModuleType("nowhere")}, "object['m'],"),
        ([sys._getframe()], "object[0],"),
        ({1: MyList([threading.Lock()])}, "object[1][0],"),
    ],
    ids=str,
)
def test_refused_with_its_path(value, path):
    with pytest.raises(NotShareableError) as caught:
        trip(value)
    assert str(caught.value).startswith(path), caught.value
    assert isinstance(caught.value, TypeError)


def test_name_of_the_root():
    with pytest.raises(NotShareableError, match=r"^args\[0\], of type generator"):
        _atoll.dumps([itertools.count() and (x for x in ())], name="args")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (threading.Lock(), "atoll.Lock"),
        (threading.RLock(), "atoll.RLock"),
        (threading.Condition(), "atoll.RLock"),
        ((x for x in ()), "list"),
        (sys.__stdout__, "path"),
        (mmap.mmap(-1, 4096), "atoll.SharedBuffer"),
        (queue.SimpleQueue(), "atoll.Channel"),
    ],
    ids=str,
)
def test_a_refusal_says_what_can_be_sent_instead(value, advice):
    with pytest.raises(NotShareableError, match=f"cannot be sent: .*{advice}"):
        trip([value])


def test_global_that_closes_over_a_lock():
    lock = threading.Lock()
    with pytest.raises(NotShareableError, match=r"object\.__closure__\['lock'\]"):
        trip(lambda: lock)


def test_an_objects_own_exception_passes():
    class Bad:
        def __getstate__(self):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        trip([Bad()])


def nested(depth, wrap):
    value: typing.Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {0: v}])
def test_deep_nesting_is_an_error(wrap):
    assert trip(nested(500, wrap)) == nested(500, wrap)
    with pytest.raises(RecursionError):
        trip(nested(200_000, wrap))


def test_a_container_that_changes_meanwhile():
    table: dict = {}

    class Adds:
        def __reduce__(self):
            table[len(table)] = 1
            return int, ()

    table["a"] = Adds()
    items: list = []

    class Drops:
        def __reduce__(self):
            items.clear()
            return int, ()

    items[:] = [Drops(), 1, 2]
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # Others may change it at any time: what is packed is a copy of one moment.
        assert trip(table) == {"a": 0}
        assert trip(items) == [0, 1, 2]
        return
    for value in (table, items):
        with pytest.raises(RuntimeError, match="changed"):
            trip(value)
