"""Every command and program in the documents works as it is written.

A fenced ``python`` block is run as a script of its own. Of a ``sh`` block, every line
that begins with ``make`` must name a target, and every line that begins with ``atoll``
must be a command line that atoll understands; both are taken word for word, without
what follows a ``#``. A block under ``<!-- needs: X -->`` is run where X is importable.
"""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest

from atoll.cli import main as atoll_command

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if path.name != "CHANGELOG.md"
)
BLOCK = re.compile(
    r"(?:<!-- needs: ([\w ]+) -->\n)?^```(python|sh)\n(.*?)^```", re.M | re.S
)


def blocks(language: str) -> list:
    """Each block of `language` in the documents as a parameter (needs, text)."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(3)) + 1
            if match[2] == language:
                name = f"{path.relative_to(ROOT)}:{line}"
                found.append(pytest.param(match[1] or "", match[3], id=name))
    return found


def command_lines(program: str) -> list:
    """Each line of a ``sh`` block that begins with `program`, split into words."""
    found = []
    for block in blocks("sh"):
        lines = block.values[1].replace("\\\n", " ").splitlines()
        for line in lines:
            words = shlex.split(line, comments=True)
            if words[:1] == [program]:
                found.append(pytest.param(words[1:], id=f"{block.id} {line[:40]}"))
    return found


@pytest.mark.parametrize(("needs", "source"), blocks("python"))
def test_python_block_runs(needs: str, source: str, tmp_path: Path) -> None:
    missing = [name for name in needs.split() if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    script = tmp_path / "block.py"
    script.write_text(source)
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=270,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("words", command_lines("make"))
def test_make_target_exists(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    makefiles = [ROOT / "Makefile", *ROOT.glob("tools/*.mk")]
    rules = "\n".join(path.read_text() for path in makefiles)
    missing = [t for t in targets if not re.search(rf"^{re.escape(t)}:", rules, re.M)]
    assert missing == []


#: What a journey names that is CPython's, or made by a macro.
NOT_OURS = {"exec_dynamic", "ensure_0123"}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("docs/journeys/*.md")), ids=lambda p: p.name
)
def test_journey_names_what_exists(path: Path) -> None:
    sources = (ROOT / folder for folder in ("include", "src", "python"))
    files = (f for folder in sources for f in folder.rglob("*") if f.is_file())
    texts = (f.read_text() for f in files if f.suffix in {".c", ".h", ".py", ".pyi"})
    known = set(re.findall(r"\w+", "\n".join(texts))) | NOT_OURS
    named = re.findall(r"`(?:\w+\.)*([a-z_]\w*)(?:\(\))?`", path.read_text())
    assert sorted(set(named) - known) == []


def settings(command: click.Command) -> dict[str, Any]:
    """Those of the command's own contexts: what it makes of them it keeps."""
    return dict(command.context_settings)


@pytest.mark.parametrize("words", command_lines("atoll"))
def test_atoll_command_line_is_understood(words: list[str]) -> None:
    command: click.Command = atoll_command
    context = click.Context(command, info_name="atoll", **settings(command))
    while isinstance(command, click.Group) and words:
        name, *words = words
        if name.startswith("-"):
            assert any(name in option.opts for option in command.get_params(context))
            continue
        found = command.get_command(context, name)
        assert found is not None, f"atoll has no command {name!r}"
        command = found
        context = click.Context(
            command, info_name=name, parent=context, **settings(command)
        )
    command.parse_args(context, list(words))
