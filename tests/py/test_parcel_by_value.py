"""What a program's `__main__` defines arrives as it is there: by_value_program.py."""

import subprocess
import sys
import textwrap
from pathlib import Path

DEADLINE = 240


def run(*command):
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_everything_of_main():
    done = run(str(Path(__file__).with_name("by_value_program.py")))
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-1].endswith(" cases, 0 failures") and len(said) == 1, done.stdout
    assert int(said[0].split()[0]) > 40


def test_threads_that_receive_a_class_first_at_once(tmp_path):
    """Whoever has an object of it finds its methods, though another makes the class."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import threading
            import atoll

            def make(number):
                class Fresh:
                    slot = [number] * 50
                    def answer(self):
                        return number
                for extra in range(100):
                    setattr(Fresh, f"extra_{extra}", extra)
                return Fresh()

            def receive(channel, results, threads):
                start = threading.Barrier(threads)
                def one():
                    start.wait()
                    for each in channel:
                        try:
                            results.send(each.answer() - each.slot[0])
                        except AttributeError as error:
                            results.send(str(error))
                workers = [threading.Thread(target=one) for _ in range(threads)]
                for worker in workers: worker.start()
                for worker in workers: worker.join()

            if __name__ == "__main__":
                channel = atoll.Channel(capacity=1000)
                results = atoll.Channel(capacity=1000)
                for number in range(100):
                    channel.send_many([make(number)] * 4)
                channel.close()
                with atoll.Interpreter() as there:
                    there.call(receive, channel, results, 4)
                results.close()
                got = list(results)
                print(set(got), len(got))
            """
        )
    )
    done = run(str(program))
    assert done.stdout.startswith("{0} 400"), done.stdout + done.stderr


# ---- what is known ----


PROGRAM = """
import dataclasses, enum, sys
import atoll
from atoll import _atoll
from atoll._parcel import known

scale = 5

def helper(x): return x + 1
def leaf(x): return abs(x)

@dataclasses.dataclass
class Point:
    x: int
    y: float = 2.0
    _: dataclasses.KW_ONLY = None
    tag: str = "t"

class Shade(enum.Enum):
    DARK = 1
    def shown(self): return f"<{self.name}>"

class Base:
    def f(self): return 1

class Derived(Base):
    shade = Shade.DARK
    def f(self): return super().f() + leaf(-1)
    def other(self): return Derived()
    @property
    def p(self): return Point(1)
    @classmethod
    def c(cls): return cls

class Scaled:
    def f(self): return scale

class Listed:
    items = []

def twice(value):
    first, again = _atoll.dumps(value), _atoll.dumps(value)
    return again

def is_known(value):
    kind = type(value)
    twice(value)
    return kind in known._known

checks = []
def check(name, truth):
    if not truth: print("failed:", name)
    checks.append(name)

for value in (Point(1), Derived(), Shade.DARK):
    check(f"known: {value}", is_known(value))
for value in (Scaled(), Listed()):
    check(f"not known: {value}", not is_known(value))

with atoll.Interpreter() as there:
    def ask(d):
        same = type(d.other()) is type(d) and d.c() is type(d)
        return d.f(), same, d.p.y, d.shade.shown()

    for _ in range(4):
        check("derived", there.call(ask, Derived()) == (2, True, 2.0, "<DARK>"))
        check("one type", there.call(lambda a, b: type(a) is type(b), Point(1), Point(2)))
        check("equal", there.call(lambda a, b: a == b, Point(1), Point(1)))
        check("it comes back as ours", type(there.call(lambda a: a, Point(1))) is Point)

    # A receiver that has not met it, of what was changed since it was known.
    def changed(change, ask, value):
        twice(value)
        change()
        with atoll.Interpreter() as fresh:
            return fresh.call(ask, value), fresh.call(ask, value)

    def new_attribute(): Derived.extra = 7
    check("attribute", changed(new_attribute, lambda d: d.extra, Derived()) == (7, 7))
    def new_base_attribute(): Base.more = 8
    check("base", changed(new_base_attribute, lambda d: d.more, Derived()) == (8, 8))
    def new_code(): Base.f.__code__ = (lambda self: 10).__code__
    check("code", changed(new_code, lambda d: d.f(), Derived()) == (11, 11))
    def new_global():
        global leaf
        leaf = lambda x: 100
    check("global", changed(new_global, lambda d: d.f(), Derived()) == (110, 110))
    def shadowed():
        global abs
        abs = lambda x: 55
    def uses_abs(): return abs(-1)
    with_abs = type("WithAbs", (), {"f": uses_abs, "__module__": "__main__"})
    with_abs.f = staticmethod(uses_abs)
    check("builtin", changed(shadowed, lambda d: d.f(), with_abs()) == (55, 55))
    def new_member(): Shade.DARK.extra = 3
    check("member", changed(new_member, lambda s: s.extra, Shade.DARK) == (3, 3))
    def new_keyword(): Keywords.f.__kwdefaults__["k"] = 4
    class Keywords:
        def f(self, *, k=3): return k
    check("keyword", changed(new_keyword, lambda d: d.f(), Keywords()) == (4, 4))
    def new_default(): Defaults.f.__defaults__ = (9,)
    class Defaults:
        def f(self, k=3): return k
    check("default", changed(new_default, lambda d: d.f(), Defaults()) == (9, 9))
    cell = 1
    def make():
        inner = 1
        class Closed:
            def f(self): return inner
        def change():
            nonlocal inner
            inner = 2
        return Closed(), change
    closed, change = make()
    check("cell", changed(change, lambda d: d.f(), closed) == (2, 2))
    class Named:
        number: int = 0
    def name_of(value): return type(value).__name__, type(value).__qualname__
    def new_name(): Named.__name__ = Named.__qualname__ = "Other"
    check("name", changed(new_name, name_of, Named()) == (("Other", "Other"),) * 2)
    def of_function(f): return f.__doc__, f.__qualname__, dict(f.__annotations__)
    def documented(x: int): "one"
    def new_doc(): documented.__doc__ = "two"
    check("doc", changed(new_doc, of_function, documented)[1][0] == "two")
    def new_qualname(): documented.__qualname__ = "other"
    check("qualname", changed(new_qualname, of_function, documented)[1][1] == "other")
    if sys.version_info < (3, 14):  # where what was written is evaluated there
        def new_annotation(): documented.__annotations__["x"] = str
        got = changed(new_annotation, of_function, documented)[1][2]
        check("annotation", got == {"x": str})
        def new_field(): Named.__annotations__["text"] = str
        got = changed(new_field, lambda n: type(n).__annotations__["text"], Named())
        check("class annotation", got == (str, str))
    else:
        check("annotation", True)
        check("class annotation", True)

print(len(checks), "checks")
"""


def test_what_is_known_is_as_it_is_now(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run(str(program))
    assert done.stdout == "35 checks\n", done.stdout + done.stderr


CHANGED = """
import enum
import atoll

class Base:
    def inherited(self): return "old"

class Thing(Base):
    gone = 1
    count = 0
    def shown(self): return "old"
    def hit(self):
        Thing.count += 1
        return Thing.count

class Shade(enum.Enum):
    DARK = 1
    def shown(self): return "old"

def ask(thing, shade):
    return thing.shown(), thing.inherited(), hasattr(thing, "gone"), shade.shown()

def name_of(thing): return type(thing).__name__

def hit(thing): return thing.hit()

def same(kept, thing): return kept is type(thing)

checks = []
def check(name, got, wanted):
    if got != wanted: print("failed:", name, got)
    checks.append(name)

for model in ("interpreters", "processes"):
    pool = atoll.Pool(1, model=model)
    def now(): return pool.submit(ask, Thing(), Shade.DARK).result(60)

    for _ in range(3):
        check("before", now(), ("old", "old", True, "old"))
    hits = [pool.submit(hit, Thing()).result(60) for _ in range(3)]
    check("a receiver's own change stays", hits, [1, 2, 3])
    Thing.shown = lambda self: "new"
    for _ in range(3):
        check("attribute", now(), ("new", "old", True, "old"))
    Thing.shown.__code__ = (lambda self: "newer").__code__
    check("code", now(), ("newer", "old", True, "old"))
    del Thing.gone
    check("deleted", now(), ("newer", "old", False, "old"))
    Base.inherited = lambda self: "new"
    check("base", now(), ("newer", "new", False, "old"))
    Shade.shown = lambda self: "new"
    check("enum", now(), ("newer", "new", False, "new"))
    Thing.__name__ = "Renamed"
    check("name", pool.submit(name_of, Thing()).result(60), "Renamed")
    Thing.items = []  # not known from now on
    Thing.shown = lambda self: "newest"
    check("in full", now(), ("newest", "new", False, "new"))
    check("one type", pool.submit(same, Thing, Thing()).result(60), True)
    back = pool.submit(lambda thing: thing, Thing()).result(60)
    check("it comes back as ours", type(back) is Thing, True)
    pool.shutdown()

    def old(self): return "old"
    Thing.shown = Base.inherited = Shade.shown = old
    Thing.gone = 1
    Thing.__name__ = "Thing"
    del Thing.items

print(len(checks), "checks")
"""


def test_a_type_that_changes_is_changed_where_it_was_received(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(CHANGED)
    done = run(str(program))
    assert done.stdout == "30 checks\n", done.stdout + done.stderr


def test_a_submodule_that_is_imported_later(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import atoll
            import xml

            def tag(): return xml.etree.ElementTree.XML("<a/>").tag

            with atoll.Interpreter() as there:
                for _ in range(2):
                    try: there.call(tag)
                    except AttributeError: print("not yet")
                import xml.etree.ElementTree
                print(there.call(tag))
            """
        )
    )
    done = run(str(program))
    assert done.stdout == "not yet\nnot yet\na\n", done.stdout + done.stderr


def test_annotations_that_cannot_be_evaluated(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import atoll

            class Odd:
                def __getattr__(self, name): raise KeyError(name)

            def answer(x: Odd()): return 42

            with atoll.Interpreter() as there:
                print(there.call(answer, 1), there.call(answer, 1))
            """
        )
    )
    done = run(str(program))
    assert done.stdout == "42 42\n", done.stdout + done.stderr


MADE_OF_OTHERS = """
import enum, typing
import atoll

class One:
    def who(self): return 1

class Two:
    def who(self): return 2

class Thing(One): pass

class Shade(enum.Enum):
    RED = 1

class Keys(typing.TypedDict):
    a: int

class Slots:
    __slots__ = ("a",)

class Kept:
    pass

def look(thing, shade, keys, slots, kept):
    shades = [(each.name, each.value) for each in shade]
    return thing().who(), shades, list(keys.__annotations__), slots.__slots__, kept

def add_member(name, value):
    made = object.__new__(Shade)
    made._name_, made._value_, made._sort_order_, made.__objclass__ = name, value, 1, Shade
    Shade._member_map_[name] = Shade._value2member_map_[value] = made
    Shade._member_names_.append(name)

with atoll.Interpreter() as there:
    for _ in range(3):
        print(*there.call(look, Thing, Shade, Keys, Slots, Kept)[:4])
    kept = there.call(lambda kept: kept(), Kept)
    Thing.__bases__ = (Two,)
    add_member("BLUE", 2)
    Keys.__annotations__["b"] = str
    Slots.__slots__ = ("a", "b")
    Kept.also = 1
    for _ in range(3):
        *seen, same = there.call(look, Thing, Shade, Keys, Slots, Kept)
        print(*seen, same is Kept and type(kept) is Kept)
    print(isinstance(there.call(lambda thing: thing(), Thing), Thing))
"""


def test_a_type_that_is_made_of_others_now_is_another_type(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(MADE_OF_OTHERS)
    done = run(str(program))
    before = "1 [('RED', 1)] ['a'] ('a',)\n" * 3
    after = "2 [('RED', 1), ('BLUE', 2)] ['a', 'b'] ('a', 'b') True\n" * 3
    assert done.stdout == before + after + "True\n", done.stdout + done.stderr
