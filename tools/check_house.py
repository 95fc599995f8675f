"""Check the order of the house: which part of src/ may include which.

A part includes itself and the parts above it in ORDER; those on one line are siblings
and do not include each other. Only parts below the Python line include Python.h, in
themselves or through a header. And whoever comes newly is told what is where: what lies
in a folder of TOLD stands in the document that TOLD says. Prints each breach, and
exits 1.
"""

import re
import sys
from pathlib import Path

ORDER = [
    ["base"],
    ["sys"],
    ["chan", "elf", "http"],
    ["net", "pool"],
    # ---- the Python line ----
    ["interp"],
    ["parcel"],
    ["serve"],
    ["bind"],
]
PYTHON_LINE = 4
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)

#: Where what lies in a folder is told, each file or only the folders in it.
TOLD = {
    "src": "README.md",
    "python/atoll": "DEVELOPERS.md",
    "tests": "tests/README.md",
    "bench": "bench/README.md",
    "fuzz": "fuzz/README.md",
    "tools": "tools/README.md",
    "docs": "docs/README.md",
    "docs/guide": "docs/README.md",
    "docs/design": "docs/README.md",
    "docs/journeys": "docs/README.md",
}
FOLDERS_ONLY = {"src", "python/atoll", "tests"}
NOT_TOLD = {"README.md", "meson.build"}

LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}


def breaches_of(path: Path, source: Path) -> list[str]:
    """The breaches in one file, each a line to print."""
    part = path.relative_to(source).parts[0]
    if part not in LEVEL:
        return [f"{path}: {part}/ is not a part of the house (see ORDER)"]
    text = path.read_text()
    found = []
    for match in INCLUDE.finditer(text):
        place = f"{path}:{text.count(chr(10), 0, match.start()) + 1}"
        name = match[2]
        if match[1] == "<":
            if name == "Python.h" and LEVEL[part] < PYTHON_LINE:
                found.append(f"{place}: {part}/ lies above the Python line")
            continue
        other = name.split("/")[0]
        if other in ("atoll", "check.h") or other == part:
            continue
        if other not in LEVEL:
            found.append(f'{place}: "{name}" does not name its part')
        elif LEVEL[other] >= LEVEL[part]:
            found.append(f"{place}: {part}/ must not include {other}/")
    return found


def untold(root: Path) -> list[str]:
    """What is in a folder, and in no document, each a line to print."""
    found = []
    for folder, document in TOLD.items():
        text = (root / document).read_text()
        for path in sorted((root / folder).iterdir()):
            name = f"{path.name}/" if path.is_dir() else path.name
            passed = path.is_file() and folder in FOLDERS_ONLY
            passed |= name in NOT_TOLD or name.startswith((".", "__"))
            if not passed and name not in text:
                found.append(f"{document}: does not say what {folder}/{name} is")
    return found


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    source = root / "src"
    files = sorted([*source.glob("*/*.c"), *source.glob("*/*.h")])
    found = [breach for path in files for breach in breaches_of(path, source)]
    found += untold(root)
    print("\n".join(found) or f"the house is in order: {len(files)} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
