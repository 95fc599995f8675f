"""How extension modules are imported into an interpreter that is not the main one.

Runs inside the interpreter. It is started from its file before anything else of the
package, so it imports nothing but built-in modules and `_atoll`, which is there
already.

The seam is `_imp.create_dynamic`, the one function through which importlib's finders
and loaders, and those of anybody else, turn a file into a module. So specs, loaders,
and what tools see of them stay CPython's own
(`importlib.machinery.ExtensionFileLoader`), and no import path goes round it. An
extension comes in by one of two ways:

- *private*: a private image of its file. Every extension that is not part of CPython,
  and those of CPython's that keep state in C globals.
- *shared*: the file itself, its init function run here: the rest of CPython's, and
  what belongs to the process as a whole. CPython's own importer would run it in main
  first and wait there for main's GIL.

CPython's importer is never tried first: a refused import leaves the module in the
process-wide table of extensions, half initialised.
"""

import _imp
import sys

from atoll._atoll import (
    extensions_ended,
    install_importer,
    left_out,
    load_builtin,
    load_extension,
    needs_no_gil,
    prepare_close_extensions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType

#: Extensions of the standard library that need an image. They keep state in C globals,
#: or (_ctypes) threads that Python does not know call back through them, or they open
#: libraries (_ctypes) of which each interpreter must get its own.
PRIVATE_STDLIB = frozenset(
    {
        "_ctypes",
        "_ctypes_test",
        "_curses",
        "_curses_panel",
        "_dbm",
        "_gdbm",
        "_tkinter",
        "_xxtestfuzz",
        "readline",
        "xxlimited",
        "xxlimited_35",
    }
)

#: Extensions of packages whose one state is the process's own: a second copy of the
#: code would fail. setproctitle moves argv and the environment aside, and finds neither
#: where a copy of it has been.
SHARED = frozenset({"setproctitle._setproctitle"})

#: Modules compiled into CPython that refuse an interpreter with its own GIL, although
#: they work in one: each keeps process-wide state on purpose.
REFUSING_BUILTINS = frozenset({"_suggestions", "_tracemalloc", "faulthandler"})

#: Does this build of CPython run without a GIL, until something needs one?
FREE_THREADED = "t" in sys.abiflags

#: The hazards against which nothing is to be done: for tests.
LEFT_OUT = left_out()

#: How long the threads that Python does not know have to leave an interpreter that ends
#: by itself, in seconds.
CLOSE_TIMEOUT = 5.0

#: How each extension of this interpreter came in: "image" or "shared".
ways: dict[str, str] = {}

_gil_file = (sys.modules["atoll._atoll"].__file__ or "").replace("_atoll.", "_gil.")
_native_create_dynamic: "Callable[..., ModuleType]" = _imp.create_dynamic
_native_create_builtin: "Callable[..., ModuleType | None]" = _imp.create_builtin
_installed = False


def is_stdlib(path: str) -> bool:
    """Is the extension at `path` one of the interpreter's own?"""
    directory = path.rpartition("/")[0]
    return directory.rpartition("/")[2] == "lib-dynload"


def needs_image(name: str, path: str) -> bool:
    """Must the extension be private to an interpreter?

    Args:
        name: full dotted name of the module.
        path: its file.
    """
    if not is_stdlib(path):
        return name not in SHARED
    return name in PRIVATE_STDLIB or name.startswith("_test")


def create_dynamic(spec: "ModuleSpec", file: object = None) -> "ModuleType":
    """Stand in for `_imp.create_dynamic`.

    Raises:
        ImportError: the file is not an extension, or cannot be loaded.
        SystemError: its init function broke the rules.
    """
    if spec.name == "atoll._atoll":
        # The runtime itself: its C globals are what all interpreters share.
        return _native_create_dynamic(spec)
    private = needs_image(spec.name, spec.origin or "")
    module: ModuleType
    if not private and "import-in-main" in LEFT_OUT:
        return _native_create_dynamic(spec)
    if private and "extension-table" in LEFT_OUT:
        try:
            return _native_create_dynamic(spec)
        except ImportError:
            pass
    if FREE_THREADED and not is_stdlib(spec.origin or ""):
        module = _load_minding_gil(spec, private)
    else:
        module = load_extension(spec, private)
    ways[spec.name] = "image" if private else "shared"
    if spec.name == "_interpreters":
        cover_interpreters(module)
    return module


class _Carrier:
    """Stands for a spec of `atoll._gil`, in whose creation `spec` is loaded.

    CPython's importer sees to the GIL around it: src/interp/gil_carrier.c.
    """

    def __init__(self, spec: "ModuleSpec", private: bool) -> None:
        # After the last dot is what CPython calls the init function by; the whole is
        # what its warning names.
        self.name = f"{spec.name}, by atoll._gil"
        self.origin = _gil_file
        self._spec = spec
        self._private = private

    def load(self) -> bool:
        self.module: ModuleType = load_extension(self._spec, self._private)
        return needs_no_gil(self.module)


def _load_minding_gil(spec: "ModuleSpec", private: bool) -> "ModuleType":
    """Load an extension; the GIL stays on unless it declares to run without."""
    carrier = _Carrier(spec, private)
    _native_create_dynamic(carrier)
    return carrier.module


def _create_refusing_builtin(spec: "ModuleSpec") -> "ModuleType | None":
    """CPython's own import with its check switched off, for this interpreter alone.

    Two of the three are single-phase, and their one definition is everybody's. A
    free-threaded CPython cannot switch its check off.
    """
    if FREE_THREADED:
        return load_builtin(spec, True)
    before = _imp._override_multi_interp_extensions_check(-1)  # type: ignore[attr-defined]
    try:
        return _native_create_builtin(spec)
    finally:
        _imp._override_multi_interp_extensions_check(before)  # type: ignore[attr-defined]


def create_builtin(spec: "ModuleSpec") -> "ModuleType | None":
    """Stand in for `_imp.create_builtin`, which takes main's GIL as well."""
    if spec.name in REFUSING_BUILTINS:
        return _create_refusing_builtin(spec)
    if "import-in-main" in LEFT_OUT:
        return _native_create_builtin(spec)
    module: ModuleType | None = load_builtin(spec)
    if module is None:
        return _native_create_builtin(spec)
    if spec.name == "_interpreters":
        cover_interpreters(module)
    return module


def cover_interpreters(module: "ModuleType") -> None:
    """Make `_interpreters.create` install the importer in each new interpreter.

    That is where `concurrent.interpreters` and `InterpreterPoolExecutor` get theirs.
    `_interpreters.destroy` and `decref`, which end it, let go of its images. A second
    call changes nothing.

    Args:
        module: `_interpreters` of this interpreter.
    """
    native = module.create
    if hasattr(native, "__wrapped__"):
        return

    def create(*args: object, **kwargs: object) -> int:
        interpreter: int = native(*args, **kwargs)
        try:
            install_importer(interpreter)
        except BaseException:
            module.destroy(interpreter)
            raise
        return interpreter

    create.__doc__ = native.__doc__
    create.__wrapped__ = native  # type: ignore[attr-defined]
    module.create = create  # type: ignore[attr-defined]
    module.destroy = _letting_go(module.destroy)  # type: ignore[attr-defined]
    module.decref = _letting_go(module.decref)  # type: ignore[attr-defined]


def _letting_go(native: "Callable[..., None]") -> "Callable[..., None]":
    """`_interpreters.destroy` or `decref`, with the images let go of afterwards."""

    def end(id: int, *args: object, **kwargs: object) -> None:
        native(id, *args, **kwargs)
        extensions_ended(int(id))

    end.__name__ = native.__name__
    end.__doc__ = native.__doc__
    return end


def _close_at_exit() -> None:
    """Run by atexit in an interpreter that atoll did not create: the last function."""
    inside, _ = prepare_close_extensions(CLOSE_TIMEOUT)
    if inside:
        print(
            f"atoll: {inside} threads of extensions are still inside an interpreter "
            f"that ends, after {CLOSE_TIMEOUT:g} s",
            file=sys.stderr,
        )


def install(at_exit: bool = False) -> None:
    """Make extensions import in this interpreter, from now on.

    Does nothing when called again.

    Args:
        at_exit: register the wait for foreign threads with atexit, for an interpreter
            whose end atoll does not see. Registered first, it runs last.
    """
    global _installed
    if _installed:
        return
    _installed = True
    _imp.create_dynamic = create_dynamic
    _imp.create_builtin = create_builtin  # type: ignore[assignment]
    if at_exit:
        import atexit

        atexit.register(_close_at_exit)
