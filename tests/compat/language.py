"""Tools for Python itself, and the building blocks that packages are made of."""

from table import case


@case("cython")
def _() -> None:
    import Cython.Compiler.Scanning  # one of Cython's own compiled modules
    from Cython.Tempita import Template

    assert Template("{{x}}!").substitute(x=3) == "3!"
    assert Cython.Compiler.Scanning.__file__.endswith(".so")


@case("wrapt")
def _() -> None:
    import wrapt

    @wrapt.decorator
    def double(wrapped, instance, args, kwargs) -> int:
        return 2 * wrapped(*args, **kwargs)

    @double
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 6
    assert wrapt.ObjectProxy([1, 2])[1] == 2


@case("zope.interface")
def _() -> None:
    from zope.interface import Interface, implementer
    from zope.interface.adapter import AdapterRegistry

    class Shape(Interface):
        pass

    @implementer(Shape)
    class Square:
        pass

    assert Shape.providedBy(Square())
    registry = AdapterRegistry()
    registry.register([Shape], Interface, "", str)
    assert registry.lookup1(Shape, Interface) is str


@case("persistent")
def _() -> None:
    import persistent
    from persistent.mapping import PersistentMapping

    class Thing(persistent.Persistent):
        pass

    thing = Thing()
    thing.x = 3
    assert thing.__getstate__() == {"x": 3} and thing._p_changed is False
    assert PersistentMapping(a=1)["a"] == 1


@case("tree-sitter", "tree-sitter-python")
def _() -> None:
    import tree_sitter
    import tree_sitter_python

    language = tree_sitter.Language(tree_sitter_python.language())
    tree = tree_sitter.Parser(language).parse(b"def f(a):\n    return a\n")
    function = tree.root_node.children[0]
    assert function.type == "function_definition"
    assert function.child_by_field_name("name").text == b"f"


@case("libcst")
def _() -> None:
    import libcst

    class Rename(libcst.CSTTransformer):
        def leave_Name(self, old: libcst.Name, new: libcst.Name) -> libcst.Name:
            return new.with_changes(value="b") if old.value == "a" else new

    module = libcst.parse_module("x = a + 1  # why\n")
    assert module.visit(Rename()).code == "x = b + 1  # why\n"


@case("mypy")
def _() -> None:
    import mypy.api
    import mypy.build

    assert mypy.build.__file__.endswith(".so")
    report, _, code = mypy.api.run(
        ["--no-incremental", "--cache-dir=/dev/null", "-c", "x: int = 'a'"]
    )
    assert code == 1 and "Incompatible types" in report


@case("black")
def _() -> None:
    import black

    assert black.__file__.endswith(".so")
    assert black.format_str("x = {  'a':1 }", mode=black.Mode()) == 'x = {"a": 1}\n'


@case("librt")
def _() -> None:
    from librt.internal import ReadBuffer, WriteBuffer, read_int, write_int

    out = WriteBuffer()
    write_int(out, 1234)
    assert read_int(ReadBuffer(out.getvalue())) == 1234


@case("charset-normalizer")
def _() -> None:
    import charset_normalizer

    text = "Une île est un morceau de terre entouré d'eau, où l'été est très doux. " * 4
    best = charset_normalizer.from_bytes(text.encode("utf-8")).best()
    assert best is not None and str(best) == text
