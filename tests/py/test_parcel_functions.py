"""Functions and types that are sent by value."""

import abc
import dataclasses
import enum
import functools
import math
import pickle
import sys
import types

import pytest
from parcels import trip

import atoll
from atoll import _atoll

GLOBAL = 10


def test_lambda_and_defaults():
    assert trip(lambda a, b=2, *, c=3: (a, b, c))(1) == (1, 2, 3)


LATE = """
import sys
import atoll
from atoll import _atoll

class Plain:
    pass

def trip(value):
    return _atoll.loads(_atoll.dumps(value), trusted=True)

assert type(trip(Plain())) is Plain  # everything that packing imports is there
assert "dataclasses" not in sys.modules and "enum" not in sys.modules
import dataclasses, enum

@dataclasses.dataclass
class Late:
    x: int = 3
    y: list = dataclasses.field(default_factory=list)

class Color(enum.Enum):
    RED = 1

def default(x=dataclasses.MISSING):
    return x

for single in dataclasses.MISSING, dataclasses.KW_ONLY:
    assert trip(single) is single
kind = dataclasses.fields(Late)[0]._field_type
assert trip(kind) is kind
assert trip(default)() is dataclasses.MISSING
for _ in range(3):  # a type is known from the second time on
    assert trip(Late) is Late and trip(Color.RED) is Color.RED
"""


def test_dataclasses_and_enums_that_are_imported_after_something_was_sent():
    with atoll.Interpreter() as one:
        one.exec(LATE)


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
