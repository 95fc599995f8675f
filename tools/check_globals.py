"""List the writable globals of the built objects and refuse those not argued for.

State in C globals is what breaks under many interpreters, so each one that atoll itself
has is named in ALLOWED with the reason why it belongs to the process. A thread's own
(_Thread_local) are not shared, and pass. Usage:
``check_globals.py BUILD_FOLDER`` (a meson build folder with object files).
"""

import re
import subprocess
import sys
from pathlib import Path

# Name (a pattern) -> why the process has exactly one of it.
ALLOWED = {
    r"at_runtime": "the process global",
    r"known_services": "an interpreter finds a service of the process by its number",
    r".*_(kind|type|spec|slots|methods?|getset|members|def|module|keywords|table)": (
        "a constant in CPython's terms; its API takes it without const"
    ),
    r"steps(\.\d+)?": "constants: a table of functions, relocated once",
    r"registry|all": "elf/: what is known of files, and all images, is the process's",
    r"arguments": "elf/load.c: what the program was started with",
    r"held|keys": "elf/holdings.c, keys.c: mappings and keys are the process's",
    r"serials(\.\d+)?": "elf/rewrite.c: paths are never the same twice in a process",
    r"start_thread|(has_)?ended_key|once(\.\d+)?|rounds(\.\d+)?": (
        "elf/threads.c: one libstdc++, one thread key"
    ),
    r"(_parser|kwlist|keywords|names)(\.\d+)?": "argument names for CPython",
    r"asked": "sys/park.c: on which CPUs threads run is the process's",
    r"no_waitv": "sys/park.c: what the kernel can do is the same for the process",
    r"(.*_)?functions|methods|.*_attributes": "tables of CPython's, never written",
    r"ledgers": "interp/heap.c: allocators belong to the process",
    r"constants": "interp/constants.c: code of all interpreters has the same ones",
    r"table_lock": "interp/slot.c: the slots of the thunks, which are compiled in",
    r"shared_init_lock": "interp/module.c: one shared file, one init at a time",
    r"corrected_defs": "interp/module.c: of CPython's own definitions, the process's",
    r"record_lock": "interp/extension.c: of the table of the process",
    r"parsers": "interp/parsers.c: the list that it cleans is the process's",
    r"definitions": "interp/module_index.c: CPython numbers the process's",
    r"queues": "chan/queue.c: any interpreter finds a queue by its number",
    r"prompt_(function|hook)": "interp/hooks.c: images set them, for nobody",
    r"guardian": "sys/guardian.c: who tells of this process's death is one thread",
    r"left_out": "interp/remedy.c: tests do without a remedy in the whole process",
    r"mapped": "chan/mapped.c: what is mapped is one thing in a process",
    r"peers": "chan/peer.c: who may wait for whom spans interpreters",
    r"last(\.\d+)?": "chan/lock.c: no two threads of the process have one number",
    r"wake_cost_ns": "chan/spin.c: what a wake costs is the machine's",
}
# "address flags section size name"; a const table of pointers lies in .data.rel.ro,
# which the loader makes read-only.
SYMBOL = re.compile(r"^[0-9a-f]+ .{7} (\.(?:data|bss)\S*)\t[0-9a-f]+ +(\S+)$")


def writable_globals(object_file: Path) -> list[str]:
    """Names of the data and bss symbols of one object file."""
    out = subprocess.run(
        ["objdump", "-t", str(object_file)], capture_output=True, text=True, check=True
    ).stdout
    return [
        m[2].removeprefix(".hidden ")
        for line in out.replace(".hidden ", "").splitlines()
        if (m := SYMBOL.match(line))
        and not m[1].startswith(".data.rel.ro")
        and m[1] != m[2]
    ]


def main() -> int:
    objects = sorted(
        path
        for path in Path(sys.argv[1]).rglob("*.o")
        if "tests" not in path.parts and "fuzz" not in path.parts
    )
    if not objects:
        sys.exit(f"check_globals: no object files under {sys.argv[1]}")
    allowed = re.compile("|".join(f"(?:{name})" for name in ALLOWED))
    found = [
        f"{path.name}: {name} is a writable global: move it into at_runtime, or say in "
        "tools/check_globals.py why the process has one"
        for path in objects
        for name in writable_globals(path)
        if not allowed.fullmatch(name)
    ]
    print("\n".join(found) or f"no stray globals in {len(objects)} object files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
