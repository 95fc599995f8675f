"""Where images are made when the place of choice, memory, is not to be had.

Each case is a process of its own, with a limit or a filter of the kernel's that stands
for a container, a service manager or a mount of the real world.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sins import build, run_child

IMPORT = """
import atoll, sys
with atoll.Interpreter() as one, atoll.Interpreter() as two:
    for each in (one, two):
        each.exec("import global_state; assert global_state.add() == 1")
print("imported")
"""

# A container whose filter knows no memfd_create: docker's of some years ago, gVisor's.
NO_MEMFD = """
import ctypes, platform, struct
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 319, "aarch64": 279}[platform.machine()]
filter = b"".join(struct.pack("HBBI", *step) for step in (
    (0x20, 0, 0, 0),           # load the number of the call
    (0x15, 0, 1, number),      # is it this one?
    (0x06, 0, 0, 0x00050026),  # yes: ENOSYS
    (0x06, 0, 0, 0x7fff0000),  # no: go on
))
steps = ctypes.create_string_buffer(filter, len(filter))
class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
program = Program(4, ctypes.addressof(steps))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(program)) == 0  # PR_SET_SECCOMP, a filter
"""

FAILS = """
import atoll, sys
with atoll.Interpreter() as one:
    before()
    try:
        one.exec("import global_state")
    except BaseException as error:
        print(type(error).__name__, error)
    after()
    one.exec("import global_state; assert global_state.add() == 1")
print("imported")
"""


def run(source: str, cache: Path, **environment: str) -> str:
    return run_child(
        "-c",
        source,
        PYTHONPATH=str(build("global_state")),
        ATOLL_CACHE_DIR=str(cache),
        **environment,
    )


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"}, reason="numbers of its calls"
)
def test_without_memfd_create_images_are_files_in_the_cache(tmp_path: Path) -> None:
    assert run(NO_MEMFD + IMPORT, tmp_path) == "imported\n"
    # Only while they are loaded are they there by name.
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    source = (
        NO_MEMFD
        + """
import atoll
with atoll.Interpreter() as one:
    try:
        one.exec("import global_state")
    except ImportError as error:
        print(error)
"""
    )
    words = run(source, taken / "below")
    assert "memfd_create" in words and "Function not implemented" in words, words
    assert "ATOLL_CACHE_DIR" in words and str(taken) in words, words


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path) -> None:
    # They could put a library of their own in the place of a copy.
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    words = run(
        NO_MEMFD
        + """
import atoll
with atoll.Interpreter() as one:
    try:
        one.exec("import global_state")
    except ImportError as error:
        print(error)
""",
        cache,
    )
    assert "in a folder that others can write" in words, words
    assert list(cache.iterdir()) == []
    cache.chmod(0o1777)  # as /tmp is: nobody touches the files of others
    assert run(NO_MEMFD + IMPORT, cache) == "imported\n"


# The limit is taken back, and then the same import works.
LIMITS = {
    "descriptors": (
        "resource.RLIMIT_NOFILE",
        "len(__import__('os').listdir('/proc/self/fd')) - 1",
        "Too many open files",
    ),
    "file size": ("resource.RLIMIT_FSIZE", "4096", "File too large"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_the_process_is_an_error_that_says_so(
    name: str, tmp_path: Path
) -> None:
    which, value, text = LIMITS[name]
    source = f"""
import resource
whole = resource.getrlimit({which})
def before():
    resource.setrlimit({which}, ({value}, whole[1]))
def after():
    resource.setrlimit({which}, whole)
{FAILS}"""
    words = run(source, tmp_path)
    assert words.endswith("imported\n"), words
    assert words.startswith(("ImportError", "OSError", "Interp")) and text in words, (
        words
    )


def unshared(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--mount", *options, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": str(build("global_state"))},
    )


def needs_unshare(*options: str) -> None:
    if shutil.which("unshare") is None or unshared("exit 0", *options).returncode:
        pytest.skip("needs root and unshare, for mounts of its own")


def python(source: str, folder: Path) -> str:
    script = folder / "script.py"
    script.write_text(source)
    return f"{sys.executable} {script}"


def test_where_memory_may_not_be_executed_the_cache_is_used(tmp_path: Path) -> None:
    needs_unshare("--pid", "--fork", "--mount-proc")
    cache = tmp_path / "cache"
    done = unshared(
        "echo 2 > /proc/sys/vm/memfd_noexec || exit 77\n"
        f"ATOLL_CACHE_DIR={cache} {python(IMPORT, tmp_path)}",
        "--pid",
        "--fork",
        "--mount-proc",
    )
    if done.returncode == 77:
        pytest.skip("the kernel has no vm.memfd_noexec")
    assert (done.returncode, done.stdout) == (0, "imported\n"), done


def test_a_cache_mounted_noexec_is_named(tmp_path: Path) -> None:
    needs_unshare()
    cache = tmp_path / "cache"
    cache.mkdir()
    source = NO_MEMFD + IMPORT
    done = unshared(
        f"mount -t tmpfs -o noexec none {cache} || exit 77\n"
        f"ATOLL_CACHE_DIR={cache} {python(source, tmp_path)}"
    )
    if done.returncode == 77:
        pytest.skip("no mounts here")
    assert done.returncode == 1, done
    assert "not mounted noexec in ATOLL_CACHE_DIR" in done.stderr, done


def test_a_full_cache_is_named(tmp_path: Path) -> None:
    needs_unshare()
    cache = tmp_path / "cache"
    cache.mkdir()
    source = NO_MEMFD + IMPORT
    done = unshared(
        f"mount -t tmpfs -o size=4k none {cache} || exit 77\n"
        f"ATOLL_CACHE_DIR={cache} {python(source, tmp_path)}"
    )
    if done.returncode == 77:
        pytest.skip("no mounts here")
    assert done.returncode == 1, done
    assert "No space left on device" in done.stderr, done
