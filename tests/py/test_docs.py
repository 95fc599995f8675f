"""Every command and program in the documents works as it is written.

A fenced ``python`` block is run as a script of its own; one under ``<!-- needs: X -->``
where X is importable. A command is a line of a ``sh`` block, a line behind ``$`` of a
``console`` block, what a unit of systemd and a container start, and what stands between
two backticks and begins with ``make`` or ``atoll``. What ``make`` is given must be a
target, ``atoll`` must understand its command line, and what lies in the repository must
be there. Commands of others (OTHERS) are only known by name: a new one is looked at once.
"""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from serving import DEADLINE_S, Server

from atoll.cli import main as atoll_command

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "examples", "tests", "bench", "fuzz", "tools")
DOCUMENTS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *(p for f in FOLDERS for p in ROOT.glob(f"{f}/**/*.md")),
    ]
    if path.name != "CHANGELOG.md"
)
BLOCK = re.compile(
    r"(?:<!-- needs: ([\w ]+) -->\n)?^ *```(\w+)\n(.*?)^ *```", re.M | re.S
)
#: How a command begins in a block of each language.
BEGINNINGS = {"sh": "", "console": "$ ", "ini": "ExecStart=", "dockerfile": "CMD "}
INLINE = re.compile(r"`((?:make|atoll) [^`]+)`")
#: What of the documents' commands is neither atoll's nor in the repository.
OTHERS = {"curl", "dask", "pip", "pytest"}


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


def all_commands() -> list:
    """Each command in the documents, split into words."""
    found = []
    for language, beginning in BEGINNINGS.items():
        for block in blocks(language):
            for line in block.values[1].replace("\\\n", " ").splitlines():
                if line.strip() and line.startswith(beginning):
                    text = line.removeprefix(beginning)
                    found.append((block.id, json_or_shell(text), text))
    for path in DOCUMENTS:
        text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.M | re.S)
        for match in INLINE.finditer(text):
            name = str(path.relative_to(ROOT))
            found.append((name, shlex.split(match[1]), match[1]))
    return found


def json_or_shell(text: str) -> list[str]:
    """The words of a command, without variables before it and ``&`` behind."""
    if text.startswith("["):
        return json.loads(text)
    words = shlex.split(text, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    return words[:-1] if words[-1:] == ["&"] else words


def command_lines(program: str) -> list:
    """The commands of `program` as parameters, without it."""
    return [
        pytest.param(words[1:], id=f"{name} {text[:40]}")
        for name, words, text in all_commands()
        if words and Path(words[0]).name == program
    ]


def test_no_command_is_passed_over() -> None:
    """Each is atoll's, of the repository, or another's that somebody has looked at."""
    for name, words, text in all_commands():
        program = words[0] if words else "#"
        if program == "python" and words[1] != "-m":
            program = words[1]
        known = program in {"make", "#", "python", *OTHERS}
        known |= Path(program).name == "atoll" or (ROOT / program).is_file()
        assert known, f"{name}: {text}"


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


def test_the_readme_has_the_figures_of_the_matrix() -> None:
    matrix = json.loads((ROOT / "docs" / "compat" / "3.13.json").read_text())
    in_main = [
        row
        for row in matrix["packages"].values()
        if row.get("main", {}).get("state") == "works"
    ]
    count = {
        way: sum(row.get(way, {}).get("state") == "works" for row in in_main)
        for way in ("plain", "atoll")
    }
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"Of {len(in_main)} packages with extensions that work in main" in text
    assert f"{count['atoll']} work in two interpreters at once" in text
    assert f"CPython's own interpreters manage {count['plain']}:" in text


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


@pytest.fixture
def as_in_the_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the files that the commands of the documents name."""
    for block in blocks("toml"):
        name = re.match(r"# (\S+)\n", block.values[1])
        assert name is not None, f"{block.id}: the first line names the file"
        (tmp_path / name[1]).write_text(block.values[1])
    (tmp_path / ".env").write_text("")
    for folder in ("public", "site"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    # What stands in a sentence, such as `atoll serve --preload`, leaves it out.
    monkeypatch.setenv("ATOLL_APP", "main:app")


@pytest.mark.usefixtures("as_in_the_documents")
@pytest.mark.parametrize("words", command_lines("atoll"))
def test_atoll_command_line_is_understood(words: list[str]) -> None:
    words = [word.removeprefix("/srv/app/") for word in words]
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
    with contextlib.suppress(click.exceptions.Exit):  # --help
        command.parse_args(context, list(words))


def test_the_example_answers_what_its_readme_asks() -> None:
    for module in ("fastapi", "numpy", "orjson", "multipart"):
        pytest.importorskip(module)
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    folder = ROOT / "examples" / "fastapi_app"
    asked = re.findall(r"^curl .*", (folder / "README.md").read_text(), re.M)
    assert len(asked) > 5
    server = Server(folder, "--workers", "2")
    try:
        for line in asked:
            words = shlex.split(
                line.replace("localhost:8000", f"127.0.0.1:{server.port}")
            )
            run = subprocess.run(
                [words[0], "--fail-with-body", "--silent", "--show-error", *words[1:]],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
            assert run.returncode == 0 and run.stdout, f"{line}: {run}"
        assert server.stop() == 0, server.log
    finally:
        server.kill()
