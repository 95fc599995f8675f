"""Builds the extensions under tests/ext/, and runs code with them in interpreters.

Everything that may crash runs in a child process: a crash is one failed test.
"""

import functools
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

EXT = Path(__file__).parents[1] / "ext"
DRIVER = Path(__file__).with_name("drive_interpreters.py")
_BUILD_LINE = re.compile(r"^/\* build: (.*) \*/$", re.M)


@functools.cache
def _build_root() -> Path:
    root = tempfile.TemporaryDirectory(prefix="atoll-sins-")
    _keep.append(root)
    return Path(root.name)


_keep: list[tempfile.TemporaryDirectory[str]] = []


def _target(source: Path, folder: Path) -> Path:
    if source.name.startswith("lib"):
        return folder / f"{source.stem}.so"
    if source.stem.endswith(".abi3"):
        return folder / f"{source.stem}.so"
    return folder / (source.stem + sysconfig.get_config_var("EXT_SUFFIX"))


def _compile(source: Path, folder: Path) -> None:
    compiler = "g++" if source.suffix == ".cpp" else os.environ.get("CC", "cc")
    flags = _BUILD_LINE.findall(source.read_text(encoding="utf-8"))
    extra = (
        shlex.split(flags[0].format(folder=folder, source=source.parent))
        if flags
        else []
    )
    subprocess.run(
        [
            *shlex.split(compiler),
            "-shared",
            "-fPIC",
            "-O1",
            "-g",
            "-pthread",
            f"-I{sysconfig.get_path('include')}",
            f"-I{EXT}",
            str(source),
            "-o",
            str(_target(source, folder)),
            *extra,
        ],
        check=True,
        timeout=240,
    )


@functools.cache
def build(sin: str) -> Path:
    """Compile tests/ext/SIN; returns the folder to put on sys.path."""
    folder = _build_root() / sin
    sources = sorted(path for path in (EXT / sin).rglob("*") if path.is_file())
    # Libraries first: the extensions beside them link with them.
    sources.sort(key=lambda path: not path.name.startswith("lib"))
    for source in sources:
        target = folder / source.parent.relative_to(EXT / sin)
        target.mkdir(parents=True, exist_ok=True)
        if source.suffix in {".c", ".cpp"}:
            _compile(source, target)
        elif source.suffix == ".py":
            (target / source.name).write_bytes(source.read_bytes())
    return folder


def run_child(*arguments: str, timeout: float = 240, **environment: str) -> str:
    """Run this Python with `arguments`; returns what it printed, fails on any fault."""
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
    )
    assert result.returncode == 0, (
        f"exit code {result.returncode}\n{result.stdout[-4000:]}\n"
        f"{result.stderr[-8000:]}"
    )
    return result.stdout


def in_interpreters(
    code: str, *folders: Path, count: int = 2, rounds: int = 2, timeout: float = 240
) -> str:
    """Run `code` in `count` interpreters at once, close them, and all that again.

    `INDEX` is the number of the interpreter among those that run at once.
    """
    path = os.pathsep.join(map(str, folders))
    return run_child(
        str(DRIVER), str(count), str(rounds), code, timeout=timeout, PYTHONPATH=path
    )
