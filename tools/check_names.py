"""Check that what the documents and comments name is there.

- A file named in a document, or by its path in a comment, exists.
- Of "`function` (`file`)" and "`file: function`" in a document, the file has the word.
- A name that begins with ``at_`` is one that the C code has.

Prints each breach as FILE:LINE and exits 1.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    "bench",
    "docs",
    "examples",
    "fuzz",
    "include",
    "python",
    "src",
    "tests",
    "tools",
)
#: Files that documents speak of and that are somebody else's.
NOT_OURS = {"Python.h", "atoll.toml", "script.py"}
#: Words that a macro makes, and so no file has.
MADE = {"ensure_0123"}

FILE = re.compile(
    r"(?<![\w./<-])((?:[\w-]+/)*[\w-]+\.(?:c|h|py|pyi|md|mk|toml))\b(?!\()"
)
PATH = re.compile(rf"(?<![\w./<-])((?:{'|'.join(FOLDERS)})/[\w./-]+\.(?:c|h|py|md))\b")
WORD_FILE = re.compile(r"`(?:\w+\.)*(\w+)(?:\(\))?` \(`?([\w/]+\.(?:c|h|py))\b")
FILE_WORD = re.compile(r"`([\w/]+\.(?:c|h|py)): (?:\w+\.)*(\w+)`")
AT_NAME = re.compile(r"\bat_[a-z]\w+")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


class House:
    """The text of each file of the project, by its path from the root."""

    def __init__(self) -> None:
        files = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"}]
        for folder in FOLDERS:
            files += [
                path
                for path in (ROOT / folder).rglob("*.*")
                if path.suffix in {".c", ".h", ".py", ".pyi", ".md", ".mk", ".toml"}
                and "__pycache__" not in path.parts
            ]
        self.texts = {
            str(path.relative_to(ROOT)): path.read_text(errors="replace")
            for path in sorted(files)
        }
        code = [
            COMMENT.sub(" ", text)
            for name, text in self.texts.items()
            if name.endswith((".c", ".h"))
        ]
        self.c_names = set(AT_NAME.findall("\n".join(code)))

    def called(self, name: str) -> list[str]:
        """The files that `name`, the end of a path, may mean."""
        return [path for path in self.texts if f"/{path}".endswith(f"/{name}")]

    def has_c_name(self, name: str) -> bool:
        """Is it one, or the common beginning of several?"""
        return name in self.c_names or (
            name.endswith("_") and any(one.startswith(name) for one in self.c_names)
        )

    def breaches(self) -> Iterator[tuple[str, int, str]]:
        """Each as (file, position in its text, what is wrong)."""
        for path, text in self.texts.items():
            if path == "CHANGELOG.md":
                continue
            document = path.endswith(".md")
            for match in (FILE if document else PATH).finditer(text):
                if match[1] not in NOT_OURS and not self.called(match[1]):
                    yield path, match.start(), f"there is no {match[1]}"
            for match in AT_NAME.finditer(text):
                if not self.has_c_name(match[0]):
                    yield path, match.start(), f"there is no {match[0]}"
            if document:
                yield from self._misplaced(path, text)

    def _misplaced(self, path: str, text: str) -> Iterator[tuple[str, int, str]]:
        """Functions that are not in the file that the document says."""
        pairs = [(m.start(), m[1], m[2]) for m in WORD_FILE.finditer(text)]
        pairs += [(m.start(), m[2], m[1]) for m in FILE_WORD.finditer(text)]
        for position, word, name in pairs:
            files = self.called(name) if word not in MADE else []
            there = re.compile(rf"\b{word}\b")
            if files and not any(there.search(self.texts[file]) for file in files):
                yield path, position, f"{name} has no {word}"


def main() -> int:
    """Print what is wrong; the exit code."""
    house = House()
    found = [
        f"{path}:{house.texts[path].count(chr(10), 0, position) + 1}: {what}"
        for path, position, what in house.breaches()
    ]
    print("\n".join(found) or f"the names are true: {len(house.texts)} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
