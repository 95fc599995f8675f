"""A program whose classes and functions go by value: each case to an interpreter.

What `__main__` defines cannot be imported by the receiver. Prints the cases that fail.
"""

import asyncio
import collections
import copyreg
import ctypes
import dataclasses
import enum
import functools
import operator
import typing

import atoll


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Planet(enum.Enum):
    EARTH = (5.9, "blue")
    MARS = (0.6, "red")

    def __init__(self, mass, tint):
        self.mass, self.tint = mass, tint

    @property
    def double(self):
        return self.mass * 2


class Labelled(enum.Enum):
    ONE = (1, "uno")

    def __new__(cls, value, label):
        self = object.__new__(cls)
        self._value_ = value
        self.label = label
        return self

    def other(self):
        return Labelled.ONE is self, Color.RED.name


Pair = collections.namedtuple("Pair", "a b", defaults=[2])


class Row(typing.NamedTuple):
    a: int
    b: str = "x"

    def first(self):
        return self.a


class Options(typing.TypedDict, total=False):
    depth: int


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Point:
    x: int
    tags: list = dataclasses.field(default_factory=list)
    count: typing.ClassVar[int] = 3
    _: dataclasses.KW_ONLY = None
    scale: int = 4


@dataclasses.dataclass
class Box[T]:
    value: T


Old = typing.TypeVar("Old", bound=int)


class OldBox(typing.Generic[Old]):  # noqa: UP046
    def __init__(self, value):
        self.value = value


class HasArea(typing.Protocol):
    def area(self) -> float: ...


class Square(HasArea):
    def area(self):
        return 4.0


UserId = typing.NewType("UserId", int)
type Names = list[str]


class Slots:
    __slots__ = ("__weakref__", "a")


class MoreSlots(Slots):
    __slots__ = ("b",)


class WithKeywords:
    def __new__(cls, *, x):
        self = object.__new__(cls)
        self.x = x
        return self

    def __getnewargs_ex__(self):
        return (), {"x": self.x}


class Registered:
    def __init__(self, value):
        self.value = value


copyreg.pickle(Registered, lambda one: (Registered, (one.value + 1,)))


class Words(list):
    pass


class Meta(type):
    def __new__(cls, name, bases, body, **keywords):
        return super().__new__(cls, name, bases, body | {"meta": 1})


class WithMeta(metaclass=Meta):
    pass


class Answer:
    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        return (self.name, 42) if instance is not None else self


class WithDescriptor:
    answer = Answer()


class Base:
    def f(self):
        return 1


class Derived(Base):
    def f(self):
        return super().f() + 1

    def me(self):
        return __class__

    @classmethod
    def made(cls):
        return cls.__name__

    @staticmethod
    def seven():
        return 7

    @functools.cached_property
    def five(self):
        return 5

    @functools.lru_cache  # noqa: B019
    def nine(self):
        return 9

    @functools.singledispatchmethod
    def kind(self, x):
        return "other"

    @kind.register
    def _(self, x: int):
        return "int"


class Failure(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.a = a


class Record(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_double * 2))


def plus_one(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args) + 1

    return inner


@plus_one
def decorated(x):
    return x


@functools.singledispatch
def kind(x):
    return "other"


@kind.register
def _(x: int):
    return "int"


def factorial():
    def inner(n):
        return 1 if n < 2 else n * inner(n - 1)

    return inner


def counter():
    n = 0

    def count():
        nonlocal n
        n += 1
        return n

    return count


async def coroutine():
    return 5


def with_slots():
    made = MoreSlots()
    made.a, made.b = 1, 2
    return made


def with_attribute(value, name, attribute):
    setattr(value, name, attribute)
    return value


def with_itself():
    made = Registered.__new__(Base)
    made.me, made.table, made.group = made, {made: 1}, {made}
    return made


def failure():
    error = Failure(1, 2)
    error.add_note("a note")
    return error


# name: (what is sent, what is asked of it there, the answer)
CASES = {
    "enum": (Color.RED, lambda r: (r.name, r is type(r)["RED"]), ("RED", True)),
    "enum as a key": ({Color.RED: 1}, lambda r: next(iter(r)).value, 1),
    "flag": (Access.READ | Access.WRITE, lambda r: r.value, 3),
    "enum with __init__": (Planet.MARS, lambda r: (r.tint, r.double), ("red", 1.2)),
    "enum with __new__": (
        Labelled.ONE,
        lambda r: (r.value, r.label, r.other(), type(r)(1) is r),
        (1, "uno", (True, "RED"), True),
    ),
    "namedtuple": (Pair(1), lambda r: (r.a, r.b, r._fields), (1, 2, ("a", "b"))),
    "NamedTuple": (Row(1), lambda r: (r.first(), r == (1, "x")), (1, True)),
    "TypedDict": (Options, lambda r: (r(depth=1), r.__total__), ({"depth": 1}, False)),
    "dataclass": (
        Point(1, [2], scale=9),
        lambda r: (r.x, r.tags, r.count, r.scale, r < type(r)(2), r == type(r)(1)),
        (1, [2], 3, 9, True, False),
    ),
    "generic dataclass": (Box[int](3), lambda r: r == type(r)(3), True),
    "generic alias": (Box[int], lambda r: (r(3).value, r.__args__), (3, (int,))),
    "Generic": (OldBox[int], lambda r: r.__origin__(2).value, 2),
    "parameters": (
        OldBox,
        lambda r: [(t.__name__, t.__bound__) for t in r.__parameters__],
        [("Old", int)],
    ),
    "Protocol": (Square(), lambda r: r.area(), 4.0),
    "NewType": (UserId, lambda r: (r(3), r.__supertype__), (3, int)),
    "type alias": (Names, lambda r: r.__value__, list[str]),
    "slots": (with_slots(), lambda r: (r.a, r.b, hasattr(r, "__dict__")), (1, 2, False)),
    "__getnewargs_ex__": (WithKeywords(x=3), lambda r: r.x, 3),
    "copyreg": (Registered(3), lambda r: r.value, 4),
    "builtin's subclass": (
        with_attribute(Words("ab"), "extra", 5),
        lambda r: (list(r), r.extra, type(r).__name__),
        (["a", "b"], 5, "Words"),
    ),
    "metaclass": (WithMeta(), lambda r: (r.meta, type(type(r)).__name__), (1, "Meta")),
    "descriptor": (WithDescriptor(), lambda r: r.answer, ("answer", 42)),
    "methods": (
        Derived(),
        lambda r: (r.f(), r.me() is type(r), r.made(), r.seven(), r.five, r.nine()),
        (2, True, "Derived", 7, 5, 9),
    ),
    "singledispatchmethod": (
        Derived(),
        lambda r: (r.kind(1), r.kind("")),
        ("int", "other"),
    ),
    "bound method": (Derived().f, lambda r: r(), 2),
    "class method": (Derived.made, lambda r: r(), "Derived"),
    "exception": (failure(), lambda r: (r.a, r.args, r.__notes__), (1, (1, 2), ["a note"])),
    "group": (
        ExceptionGroup("g", [failure(), ValueError(1)]),
        lambda r: (r.message, [type(e).__name__ for e in r.exceptions]),
        ("g", ["Failure", "ValueError"]),
    ),
    "ctypes.Structure": (Record(4), lambda r: (r.a, list(r.b)), (4, [0.0, 0.0])),
    "ctypes array": ((ctypes.c_int * 3)(1, 2, 3), lambda r: list(r), [1, 2, 3]),
    "decorated": (decorated, lambda r: (r(3), r.__wrapped__(3)), (4, 3)),
    "singledispatch": (kind, lambda r: (r(1), r("")), ("int", "other")),
    "recursion": (factorial(), lambda r: r(5), 120),
    "nonlocal": (counter(), lambda r: (r(), r()), (1, 2)),
    "coroutine function": (coroutine, lambda r: asyncio.run(r()), 5),
    "lambda": (
        lambda x, y=(1,), *, k=2: (x, y, k),
        lambda r: (r(0), r(0, k=5)),
        ((0, (1,), 2), (0, (1,), 5)),
    ),
    "partial": (functools.partial(lambda a, b: a - b, 5), lambda r: r(2), 3),
    "defaultdict": (
        collections.defaultdict(lambda: 7, {1: 2}),
        lambda r: (r[1], r[9]),
        (2, 7),
    ),
    "itemgetter": (operator.itemgetter(1), lambda r: r([1, 2]), 2),
    "code": (compile("6 * 7", "-", "eval"), lambda r: eval(r), 42),
    "cycle": (
        with_itself(),
        lambda r: (r.me is r, list(r.table) == [r], r.group == {r}),
        (True, True, True),
    ),
}  # fmt: skip


def main():
    failed = 0
    with atoll.Interpreter() as there, atoll.Pool(1, model="processes") as pool:
        for name, (sent, ask, answer) in CASES.items():
            for way in (
                there.call,
                there.call,  # again, with the class there already
                lambda ask, sent: pool.submit(ask, sent).result(60),
            ):
                try:
                    got = way(ask, sent)
                except Exception as error:
                    got = error
                if got != answer:
                    print(f"{name}: {got!r}, not {answer!r}")
                    failed += 1
    print(f"{len(CASES)} cases, {failed} failures")


if __name__ == "__main__":
    main()
