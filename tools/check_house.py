"""Check the order of the house: which part of src/ may include which.

A part includes itself and the parts above it in ORDER; those on one line are siblings
and do not include each other. Only parts below the Python line include Python.h, in
themselves or through a header. Prints each breach as FILE:LINE and exits 1.
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


def main() -> int:
    source = Path(__file__).resolve().parent.parent / "src"
    files = sorted([*source.glob("*/*.c"), *source.glob("*/*.h")])
    found = [breach for path in files for breach in breaches_of(path, source)]
    print("\n".join(found) or f"the house is in order: {len(files)} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
