"""Parcels: what goes in comes out, keeps its shape, or is refused by its path."""

import abc
import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import gc
import itertools
import math
import mmap
import pathlib
import pickle
import queue
import random
import sys
import sysconfig
import threading
import types
import typing
import uuid

import pytest

from atoll import _atoll
from atoll._errors import NotShareableError

BLOCK_BYTES = 64 << 10


def trip(value: typing.Any) -> typing.Any:
    return _atoll.unpack(_atoll.pack(value))


def exactly(value: typing.Any) -> str:
    """A repr in which the order of sets does not show, nor what strings hash to."""
    if isinstance(value, tuple | list):
        return f"{type(value)}{[exactly(v) for v in value]}"
    if isinstance(value, set | frozenset):
        return f"{type(value)}{sorted(exactly(v) for v in value)}"
    if isinstance(value, dict):
        return f"{type(value)}{[(exactly(k), exactly(v)) for k, v in value.items()]}"
    return repr(value)


def by_bytes(value: typing.Any) -> typing.Any:
    return _atoll.loads(_atoll.dumps(value), trusted=True)


PLAIN = [
    None,
    True,
    False,
    ...,
    NotImplemented,
    *[sign * (1 << bits) + d for bits in (0, 7, 8, 31, 32, 63, 64, 65, 200, 4000)
      for sign in (1, -1) for d in (-1, 0, 1)],
    0.0, -0.0, 1.5, math.inf, 2j, complex(-0.0, 3),
    "", "a", "ä", "plain", "Grüße", "日本語", "😀", "a\0b", "\ud800", "x" * 5000,
    b"", b"a", b"\0\xff" * 300, bytearray(), bytearray(b"abc"),
    (), (1,), (1, (2, (3,))), [], [1, [2, [3]]], {}, {"a": 1, 2: [3], None: ()},
    set(), {1, "a", (2,)}, frozenset(), frozenset({1, frozenset({2})}),
    slice(1, None, "x"), range(3), range(10, -5, -3), range(2**70, 2**70 + 5),
]  # fmt: skip


@pytest.mark.parametrize("way", [trip, by_bytes])
@pytest.mark.parametrize("value", PLAIN, ids=lambda v: repr(v)[:30])
def test_plain(value, way):
    got = way(value)
    assert type(got) is type(value)
    assert got == value
    assert exactly(got) == exactly(value)


def test_nan():
    assert math.isnan(trip(math.nan))


class Color(enum.Enum):
    RED = 1
    GREEN = 2

    def low(self):
        return self.name.lower()


class Bits(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    a: int
    b: str = "b"


class MyList(list):
    pass


class MyInt(int):
    pass


class MyStr(str):
    pass


class MyDict(dict):
    pass


class MyTuple(tuple):
    pass


class MySet(set):
    pass


class MyBytes(bytes):
    pass


Pair = collections.namedtuple("Pair", "left right")

OTHERS = [
    Color.RED,
    Bits.A | Bits.B,
    Point(1, [2]),
    Slotted(3),
    MyList([1, 2]),
    MyInt(5),
    MyStr("s"),
    MyDict(a=1),
    MyTuple((1,)),
    MySet({1}),
    MyBytes(b"x"),
    Pair(1, [2]),
    collections.OrderedDict(b=1, a=2),
    collections.Counter("hello"),
    collections.deque([1, 2], maxlen=5),
    collections.defaultdict(list, a=[1]),
    collections.ChainMap({"a": 1}),
    datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC),
    decimal.Decimal("1.20"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("/a/b"),
    array.array("d", [1.0, 2.0]),
    types.SimpleNamespace(a=1),
    list[int],
    int | None,
    typing.Optional[int],  # noqa: UP045
    memoryview(b"abc"),
    {}.keys(),
    {"a": 1}.items(),
    len,
    math.sqrt,
    "x".upper,
    str.join,
    dict.fromkeys,
    threading.Thread,
    type(None),
    types.FunctionType,
    pathlib,
    datetime.UTC,
]


@pytest.mark.parametrize("value", OTHERS, ids=lambda v: repr(v)[:30])
def test_others(value):
    got = trip(value)
    assert type(got) is type(value)
    if value == value:
        assert got == value or repr(got) == repr(value)


def test_exception_keeps_attributes():
    error = ValueError("x", 3)
    error.extra = [1]
    got = trip(error)
    assert type(got) is ValueError and got.args == ("x", 3) and got.extra == [1]
    got = trip(OSError(2, "gone", "file"))
    assert type(got) is FileNotFoundError and got.filename == "file"


def test_memoryview_keeps_its_format():
    view = memoryview(array.array("i", range(6))).cast("B").cast("i", (2, 3))
    got = trip(view)
    assert got.tolist() == view.tolist() and got.format == "i" and got.shape == (2, 3)


# ---- shape ----


def test_shared_references():
    inner = [1]
    got = trip([inner, inner, {"k": inner}, (inner,)])
    assert got[0] is got[1] is got[2]["k"] is got[3][0]
    text = "a longer string"
    got = trip([text, (text,)])
    assert got[0] is got[1][0]


def test_sharing_across_objects():
    items = [1]
    got = trip([Point(1, items), items, {"again": Point(2, items)}])
    assert got[0].y is got[1] is got[2]["again"].y


def test_cycles():
    items: list = [1]
    items.append(items)
    got = trip(items)
    assert got[1] is got
    table: dict = {}
    table["self"] = table
    got = trip(table)
    assert got["self"] is got


def test_cycle_through_tuple():
    pair: tuple = ([], 1)
    pair[0].append(pair)
    got = trip(pair)
    assert got[0][0] is got and got[1] == 1


def test_cycle_through_object_and_its_hash():
    class Node:
        pass

    node = Node()
    node.peers = {(node, 1)}
    got = trip(node)
    member = next(iter(got.peers))
    assert member[0] is got and member in got.peers


def test_object_inside_its_own_arguments():
    class Odd:
        def __init__(self, box):
            self.box = box

        def __reduce__(self):
            return Odd, (self.box,)

    odd = Odd([])
    odd.box.append(odd)
    got = trip(odd)
    assert type(got.box[0]).__name__ == "Odd" and got.box[0].box is got.box


def test_frozenset_that_contains_itself():
    class Holder:
        pass

    holder = Holder()
    group = frozenset({holder})
    holder.group = group
    got = trip(group)
    assert next(iter(got)).group is got


# ---- functions and types by value ----

GLOBAL = 10


def test_lambda_and_defaults():
    assert trip(lambda a, b=2, *, c=3: (a, b, c))(1) == (1, 2, 3)


def test_recursion_and_closure():
    def fact(n):
        return 1 if n < 2 else n * fact(n - 1)

    assert trip(fact)(10) == math.factorial(10)


def test_closures_share_their_cell():
    def make():
        count = 0

        def add():
            nonlocal count
            count += 1

        def get():
            return count

        return add, get

    add, get = trip(make())
    add()
    add()
    assert get() == 2


def test_unassigned_cell():
    def make():
        def use():
            return late

        if make is None:
            late = 1
        return use

    with pytest.raises(NameError):
        trip(make())()


def test_functions_of_main_bring_their_globals(monkeypatch):
    source = """
import os.path
base = 5
def even(n): return True if n == 0 else odd(n - 1)
def odd(n): return False if n == 0 else even(n - 1)
def add(n): return n + base
def path(): return os.path.basename("/a/b")
def count():
    global base
    base += 1
    return add(0)
class Shape:
    sides = 0
    def __init__(self, n): self.n = n
    def area(self): return add(self.n)
    @property
    def twice(self): return self.n * 2
    @classmethod
    def make(cls, n): return cls(n)
    @staticmethod
    def help(): return "help"
class Square(Shape):
    sides = 4
    def area(self): return super().area() * 100
"""
    module = types.ModuleType("__main__")
    exec(source, module.__dict__)
    # It is a receiver of its own: nothing there is found by name.
    monkeypatch.setitem(sys.modules, "__main__", module)
    data = _atoll.pack([module.even, module.odd, module.add, module.count, module.path])
    square = _atoll.pack(module.Square(3))
    kind = module.Square
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    even, odd, add, count, path = _atoll.unpack(data)
    assert even(10) and odd(7) and add(1) == 6 and path() == "b"
    assert even.__globals__ is odd.__globals__ is count.__globals__
    assert count() == 6 and add(1) == 7 and module.base == 5
    got = _atoll.unpack(square)
    assert type(got) is kind  # it knows its own type when it comes back
    assert got.area() == 800 and got.twice == 6 and kind.make(1).n == 1


def test_types_by_value_in_another_interpreter_are_one_type():
    import atoll

    class Thing:
        def __init__(self, n):
            self.n = n

        def __eq__(self, other):
            return isinstance(other, Thing) and self.n == other.n

    @dataclasses.dataclass
    class Data:
        a: int
        b: list = dataclasses.field(default_factory=list)

    class Kind(enum.Enum):
        ONE = 1
        TWO = 2

        def label(self):
            return f"<{self.name}>"

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self): ...

    class Square(Shape):
        def area(self):
            return 4

    def work(data):
        import dataclasses
        import pickle

        from atoll import _atoll

        thing, plain, kind, square = _atoll.loads(data, trusted=True)
        assert thing == Thing(5)
        assert dataclasses.asdict(plain) == {"a": 1, "b": []}
        assert dataclasses.replace(plain, a=2).a == 2
        assert kind is type(kind).TWO and kind.label() == "<TWO>"
        assert square.area() == 4
        assert pickle.HIGHEST_PROTOCOL >= 5
        return _atoll.dumps([thing, plain, kind, square])

    values = [Thing(5), Data(1), Kind.TWO, Square()]
    packed = _atoll.dumps((work, _atoll.dumps(values)))
    runner = """
def run(packed):
    from atoll import _atoll
    work, data = _atoll.loads(packed, trusted=True)
    return work(data)
"""
    names: dict = {}
    exec(runner, names)
    with atoll.Interpreter() as interpreter:
        got = _atoll.loads(interpreter.call(names["run"], packed), trusted=True)
    assert [type(g) for g in got] == [type(v) for v in values]
    assert got[:3] == values[:3] and got[2] is Kind.TWO


def test_annotations_that_name_what_is_in_their_class():
    import atoll

    class Tree:
        class Leaf:
            pass

        Leaves = list[Leaf]
        first: Leaf
        all: Leaves

        def pick(self, which: Leaves) -> Leaf: ...

        def hang(self, one: Leaf) -> None: ...

    with atoll.Interpreter() as one:
        assert one.call(_annotations, _atoll.dumps(Tree)) == [
            {"first": "Leaf", "all": "list"},
            {"which": "list", "return": "Leaf"},
            {"one": "Leaf", "return": "NoneType"},
        ]


def _annotations(data):
    from atoll import _atoll

    def named(thing):
        return {
            name: getattr(value, "__name__", type(value).__name__)
            for name, value in thing.__annotations__.items()
        }

    tree = _atoll.loads(data, trusted=True)
    assert tree.__annotations__["first"] is tree.Leaf
    return [named(thing) for thing in (tree, tree.pick, tree.hang)]


def test_a_simple_function_is_sent_as_it_is_now():
    names: dict = {"__name__": "__main__", "use": len}
    exec("def f(x: int) -> int:\n    return use(x)", names)
    f = names["f"]
    first, second = trip(f), trip(f)
    assert first is second and first("abc") == 3
    assert first.__annotations__ == {"x": int, "return": int}
    names["use"] = max
    assert trip(f)("abc") == "c"
    names["use"] = lambda x: x * 2
    assert trip(f)("ab") == "abab"
    f.__defaults__ = ("z",)
    assert trip(f)() == "zz"
    exec("def f(x):\n    return x", names)
    f.__code__ = names["f"].__code__
    assert trip(f)(5) == 5 and first("abc") == 3


def test_a_global_is_looked_up_each_time(monkeypatch):
    import colorsys

    def there(found):
        return trip(found) is found

    old = colorsys.rgb_to_hls
    assert there(old) and there(old)
    monkeypatch.setattr(colorsys, "rgb_to_hls", lambda r, g, b: 0)
    got = trip(old)
    assert got is not old and got(0.5, 0.5, 0.5) == old(0.5, 0.5, 0.5)


def test_cached_function():
    @functools.lru_cache(maxsize=3)
    def double(n):
        return n * 2

    got = trip(double)
    assert got(4) == 8 and got.cache_parameters()["maxsize"] == 3


def test_partial_and_bound_method_of_lambda():
    assert trip(functools.partial(lambda a, b: a - b, 10))(3) == 7
    assert trip(types.MethodType(lambda self, n: (self, n), 5))(6) == (5, 6)


# ---- buffers ----


@pytest.mark.parametrize("size", [0, 10, BLOCK_BYTES - 1, BLOCK_BYTES, 3 << 20])
@pytest.mark.parametrize("readonly", [True, False])
def test_buffers(size, readonly):
    source = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    buffer = pickle.PickleBuffer(source if readonly else bytearray(source))
    got = memoryview(trip(buffer))
    assert got.readonly is readonly and bytes(got) == source
    assert bytes(by_bytes(buffer)) == source
    if not readonly and size:
        got[0] = 7
        assert bytes(buffer) == source


def test_readonly_memory_is_lent_and_comes_back():
    class Owner(bytearray):
        pass

    owner = Owner(BLOCK_BYTES)
    view = memoryview(owner).toreadonly()
    message = _atoll.pack(pickle.PickleBuffer(view))
    assert message.attachments == 1
    got = memoryview(_atoll.unpack(message))
    owner[0] = 9  # the same memory, and so it shows
    assert got[0] == 9
    del message
    with pytest.raises(BufferError):
        owner.append(1)
    got.release()
    del got, view
    gc.collect()
    trip(None)  # what was lent comes back when its owner next packs
    owner.append(1)


LENT_BYTES = 4 << 10


@pytest.mark.parametrize("size", [LENT_BYTES - 1, LENT_BYTES, BLOCK_BYTES])
def test_bytes_are_lent_and_let_go(size):
    source = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    held = sys.getrefcount(source)
    message = _atoll.pack([source, source])
    assert (message.attachments == 1) is (size >= LENT_BYTES)
    first, second = _atoll.unpack(message)
    assert first == source and first is second and first is not source
    del message
    trip(None)  # what was lent comes back when its owner next packs
    assert sys.getrefcount(source) == held
    assert by_bytes(source) == source


def test_writable_memory_is_copied_for_each_receiver():
    message = _atoll.pack(pickle.PickleBuffer(bytearray(BLOCK_BYTES)))
    first = memoryview(_atoll.unpack(message))
    second = memoryview(_atoll.unpack(message))
    first[0] = 1
    assert second[0] == 0


def test_numpy():
    np = pytest.importorskip("numpy")
    for array_ in (
        np.arange(10),
        np.arange(10**5, dtype="f8").reshape(100, -1),
        np.asfortranarray(np.arange(10**5).reshape(10, -1)),
        np.arange(10**5)[::2],
        np.array(["a", None], dtype=object),
        np.zeros((), dtype="i4"),
        np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.array([1, 2], mask=[0, 1]),
        np.datetime64("2024-01-01"),
    ):
        got = trip(array_)
        assert type(got) is type(array_) and got.dtype == array_.dtype
        assert np.array_equal(np.asarray(got), np.asarray(array_))
    big = np.ones(10**5)
    got = trip(big)
    got[0] = 5
    assert big[0] == 1 and got.flags.writeable
    big.flags.writeable = False
    lent = trip(big)
    assert not lent.flags.writeable and np.shares_memory(lent, big)


def test_pandas():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": range(20000), "b": ["x", "y"] * 10000})
    assert trip(frame).equals(frame)


# ---- refusal ----


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


# ---- bytes from elsewhere ----


def test_foreign_bytes_are_plain_data_only():
    assert _atoll.loads(_atoll.dumps([1, {"a": (2,)}])) == [1, {"a": (2,)}]
    for value in (len, Color.RED, lambda: 1, Point(1), pathlib.PurePosixPath("a")):
        with pytest.raises(ValueError, match="plain data"):
            _atoll.loads(_atoll.dumps([value]))


def sample(rng, depth=0):
    choice = rng.randrange(14 if depth < 4 else 8)
    if choice < 8:
        return rng.choice(PLAIN[:-12])
    items = [sample(rng, depth + 1) for _ in range(rng.randrange(5))]
    keys = [rng.choice(["k", 1, b"b", (1, "t"), None, 2.5, 2**80]) for _ in items]
    if choice == 8:
        return tuple(items)
    if choice == 9:
        return dict(zip(keys, items, strict=True))
    if choice == 10:
        return set(keys)
    if choice == 11:
        return frozenset(keys)
    if items and choice == 12:
        items.append(items[0])
    return items


def test_random_values():
    rng = random.Random(20240501)
    for _ in range(2000):
        value = sample(rng)
        assert exactly(by_bytes(value)) == exactly(value)


def test_mutated_bytes_never_crash():
    rng = random.Random(7)
    refused = 0
    for round_ in range(20_000):
        if round_ % 10 == 0:
            original = _atoll.dumps(sample(rng))
        data = bytearray(original)
        for _ in range(rng.randrange(1, 5)):
            place = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                data[place] = rng.choice([0, 0x7F, 0x80, 0xFF, *range(0x8C, 0xA0)])
            elif kind == 2 and len(data) > 1:
                del data[place : place + rng.randrange(1, 9)]
            else:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            if not data:
                break
        try:
            got = _atoll.loads(bytes(data))
            repr(got)
        except (ValueError, TypeError, RecursionError, OverflowError):
            refused += 1
    assert refused > 1000


def test_hypothesis_round_trip():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    leaves = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
        | st.text() | st.binary() | st.complex_numbers(allow_nan=False)
        | st.decimals(allow_nan=False) | st.datetimes() | st.uuids()
    )  # fmt: skip
    values = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text() | st.integers(), inner)
            | st.frozensets(st.text() | st.integers())
        ),
        max_leaves=30,
    )

    @hypothesis.settings(max_examples=200, deadline=None, database=None)
    @hypothesis.given(values)
    def check(value):
        got = trip(value)
        assert got == value and type(got) is type(value)

    check()


def test_no_reference_is_lost():
    values = [Point(1, [2]), "text" * 10, (1, [2]), lambda: 1, Color.RED]
    trip(values)
    gc.collect()
    before = [sys.getrefcount(v) for v in values]
    for _ in range(50):
        trip(values)
        with pytest.raises(NotShareableError):
            trip([values, threading.Lock()])
    gc.collect()
    assert [sys.getrefcount(v) for v in values] == before
