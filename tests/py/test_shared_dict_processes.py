"""SharedDict between processes: the ways there, what it holds, and who is killed."""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atoll import (
    AtomicInt,
    Channel,
    Full,
    Interpreter,
    Lock,
    NotShareableError,
    Pool,
    SharedBuffer,
    SharedDict,
)

DEADLINE = 60.0
SPAWN = multiprocessing.get_context("spawn")
SIZE = 1 << 18


def name_for(what: str) -> str:
    return f"test-{os.getpid()}-{what}"


@contextmanager
def script(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code`; it has printed "ready", and is killed after."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys, atoll\n" + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.wait(DEADLINE)
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def told(child: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


def mapped(label: str) -> int:
    """How many mappings and descriptors this process has of memory called `label`."""
    maps = Path("/proc/self/maps").read_text().count(f"/memfd:{label} (deleted)")
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            pass  # the one that listed them
    return maps + links.count(f"/memfd:{label} (deleted)")


# ---- the ways to another process ------------------------------------------------------


def count_there(shared: SharedDict, rounds: int, name: int) -> None:
    for i in range(rounds):
        shared.change("count", lambda n: n + 1, 0)
        shared[name * rounds + i] = (name, i)
        shared.setdefault(f"key {i}", name)


def test_multiprocessing_passes_it() -> None:
    shared = SharedDict(shared=True, size=SIZE)
    children = [
        SPAWN.Process(target=count_there, args=(shared, 200, name)) for name in range(2)
    ]
    for child in children:
        child.start()
    count_there(shared, 200, 2)
    for child in children:
        child.join(DEADLINE)
        assert child.exitcode == 0
    assert shared["count"] == 600
    assert len(shared) == 1 + 600 + 200
    assert all(shared[n * 200 + i] == (n, i) for n in range(3) for i in range(200))


def add_there(shared: SharedDict, number: int) -> int:
    return shared.change("sum", lambda n: n + number, 0)


@pytest.mark.parametrize("model", ["interpreters", "processes"])
def test_a_pool_passes_it(model: Any) -> None:
    shared = SharedDict(shared=True, size=SIZE)
    with Pool(2, model=model) as pool:
        answers = [pool.submit(add_there, shared, i) for i in range(20)]
        results = [future.result(DEADLINE) for future in answers]
    assert shared["sum"] == sum(range(20)) == max(results)


def test_channels_interpreters_and_pickles_pass_it() -> None:
    shared = SharedDict({"a": 1}, shared=True)
    channel = Channel()
    channel.send([shared, {"deep": shared}])
    first, second = channel.recv()
    assert first == shared == second["deep"] and hash(first) == hash(shared)
    assert pickle.loads(pickle.dumps(shared)) == shared
    with Interpreter() as interpreter:
        interpreter.call(lambda d: d.update(b=2), shared)
    assert shared.copy() == {"a": 1, "b": 2}
    assert shared != SharedDict({"a": 1}, shared=True) != 3
    private = SharedDict(inner=shared)
    assert private["inner"] == shared
    with pytest.raises(TypeError, match="SharedDict\\(shared=True\\)"):
        pickle.dumps(private)


def test_a_name() -> None:
    name = name_for("name")
    shared = SharedDict({"size": 7, "name": b"x"}, name=name, size=4096, rest=[1])
    assert SharedDict.open(name) == shared
    assert "shared" in repr(shared) and "3 items" in repr(shared)
    with pytest.raises(FileExistsError):
        SharedDict(name=name)
    with pytest.raises(FileExistsError):
        Lock(name=name)
    with pytest.raises(TypeError, match=r"SharedDict.*not.*Lock"):
        Lock.open(name)
    code = """
d = atoll.SharedDict.open(sys.argv[1])
print("ready", flush=True)
print(sorted(d.items(), key=str), flush=True)
d["from there"] = {1, 2}
print("done", flush=True)
sys.stdin.readline()
"""
    with script(code, name) as child:
        assert told(child) == "[('name', b'x'), ('rest', [1]), ('size', 7)]"
        assert told(child) == "done"
        assert shared["from there"] == {1, 2}
        del shared
        gc.collect()
        assert SharedDict.open(name)["rest"] == [1]  # that process has it still
    with pytest.raises(FileNotFoundError):
        SharedDict.open(name)


def test_what_it_is_made_with() -> None:
    for size in (-5, 0, 1, 4095, 2**37 + 1, 2**100):
        with pytest.raises(ValueError, match="size must be 4096 to"):
            SharedDict(shared=True, size=size)
    with pytest.raises(TypeError, match="shared=True or name="):
        SharedDict(size=8192)
    with pytest.raises(TypeError, match="an item of that key"):
        SharedDict(name=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name must not have a null character"):
        SharedDict(name="one\0two")  # which memory would have as "one"
    with pytest.raises(TypeError):
        SharedDict(shared=True, size=1e6)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SharedDict(shared=True, size="x")  # type: ignore[arg-type]
    assert SharedDict({"name": 1, "size": 2, "shared": 3}).copy() == {
        "name": 1,
        "size": 2,
        "shared": 3,
    }
    assert len(SharedDict(shared=True, size=None)) == 0
    assert len(SharedDict(shared=True, name=None, size=2**30, a=1)) == 1


def test_it_is_freed_with_its_last_user() -> None:
    name = name_for("freed")
    shared = SharedDict(name=name, size=SIZE)
    shared["a"] = shared.copy()
    assert mapped(f"atoll-sync:{name}") == 2
    other = SharedDict.open(name)
    assert mapped(f"atoll-sync:{name}") == 2
    del shared, other
    gc.collect()
    assert mapped(f"atoll-sync:{name}") == 0


# ---- what it holds ----------------------------------------------------------------------


class Point:
    def __init__(self, x: float) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.x == other.x

    __hash__ = None  # type: ignore[assignment]


VALUES: list[Any] = [
    None, True, -1, 2**100, 1.5, 2j, "größe \udc80", b"\0" * 100_000,
    bytearray(b"abc"), [1, [2, (3, {4})]], {"a": frozenset([1])}, Point(2.5), range(3),
    Path("/tmp"), len, Point, memoryview(b"view").tobytes(),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values(value: Any) -> None:
    shared = SharedDict(shared=True)
    shared["a"] = value
    assert shared["a"] == value and type(shared["a"]) is type(value)


def test_values_keep_their_shape_and_functions_come_along() -> None:
    shared = SharedDict(shared=True)
    inner: list[Any] = [1]
    inner.append(inner)
    shared["shape"] = [inner, inner]
    first, second = shared["shape"]
    assert first is second and first[1] is first
    three = 3
    shared["function"] = lambda n: n + three
    code = """
d = atoll.SharedDict.open(sys.argv[1])
print("ready", flush=True)
print(d["function"](4), flush=True)
"""
    named = SharedDict(name=name_for("functions"), function=shared["function"])
    with script(code, name_for("functions")) as child:
        assert told(child) == "7"
    assert named["function"](1) == 4


def test_what_cannot_last_is_refused() -> None:
    shared = SharedDict(shared=True, a=1)
    things = [
        Lock(shared=True),
        AtomicInt(),
        SharedBuffer(8),
        SharedDict(shared=True),
        SharedDict(),
        Channel(),
        shared,
    ]
    for thing in things:
        with pytest.raises(NotShareableError, match=r"object\['deep'\]\[1\]"):
            shared["b"] = {"deep": [0, thing]}
        with pytest.raises(NotShareableError):
            shared.setdefault("b", thing)
        with pytest.raises(NotShareableError):
            shared.change("a", lambda _, thing=thing: thing)
    with pytest.raises(NotShareableError):
        shared["a"] = threading.Lock()
    assert shared.copy() == {"a": 1}


def test_full() -> None:
    shared = SharedDict(shared=True, size=8192)
    shared["kept"] = "old"
    with pytest.raises(Full, match=r"size= of more than 8192"):
        shared["kept"] = "x" * 8000
    assert shared["kept"] == "old"
    with pytest.raises(Full):
        SharedDict({"a": bytes(10_000)}, shared=True, size=8192)
    count = 0
    with pytest.raises(Full):
        for count in range(1000):
            shared[count] = "x" * 100
    assert 20 < count < 50 and len(shared) == count + 1
    with pytest.raises(Full):
        shared.setdefault("one more", "x" * 200)
    del shared[0], shared[1], shared[2]
    shared[3] = "y" * 100
    assert shared[3] == "y" * 100 and shared["kept"] == "old"
    shared.clear()
    shared["large"] = "x" * 6000
    assert len(shared["large"]) == 6000


def test_memory_is_used_again() -> None:
    shared = SharedDict(shared=True, size=1 << 16)
    chance = random.Random(5)
    values = [bytes(chance.randrange(3000)) for _ in range(50)]
    for i in range(100_000):
        shared[i % 5] = values[i % 50]
        if i % 3 == 0:
            shared.pop(i % 5)
    shared.clear()
    assert " 0 of " in repr(shared)


def test_only_what_is_used_takes_memory() -> None:
    name = name_for("sparse")
    shared = SharedDict(name=name, size=1 << 32)
    for i in range(1000):
        shared[i % 10] = i
    descriptor = shared._describe()
    assert descriptor is not None
    blocks = os.fstat(descriptor[0]).st_blocks
    assert blocks * 512 < 1 << 20


def test_many_keys() -> None:
    shared = SharedDict(shared=True, size=4 << 20)
    plain = {f"key {i}" if i % 2 else i: (i, str(i)) for i in range(10_000)}
    shared.update(plain)
    assert len(shared) == 10_000 and shared.copy() == plain
    assert set(shared) == set(plain) == set(shared.keys())
    while shared:
        key, value = shared.popitem()
        assert plain.pop(key) == value
    assert plain == {}
    with pytest.raises(KeyError):
        shared.popitem()


def test_keys_with_one_hash_in_python() -> None:
    """Python's hash is another in each process, or chosen; the dict has its own."""
    shared = SharedDict(shared=True)
    keys = [i * (2**61 - 1) for i in range(1, 300)]
    for key in keys:
        shared[key] = key
    assert sorted(shared) == keys and all(shared[key] == key for key in keys)


# ---- many at once ----------------------------------------------------------------------

WRITER = """
import random
shared = atoll.SharedDict.open(sys.argv[1])
chance = random.Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    key = chance.randrange(20)
    match chance.randrange(6):
        case 0:
            shared.pop(key, None)
        case 1:
            shared.setdefault(key, [key, b"s" * 10])
        case 2:
            shared.change(key, lambda value: [value[0], value[1] * 2 % 3000], [key, 1])
        case _:
            shared[key] = [key, bytes([key]) * chance.randrange(3000)]
"""


def test_writers_are_killed_and_readers_see_whole_values() -> None:
    """Thousands of kills are in tests/c/test_common_dict.c; here they are of Python."""
    name = name_for("kills")
    shared = SharedDict(name=name, size=1 << 19)
    writer = WRITER.replace("value[1] * 2 % 3000", "b'c' * 20").replace(
        ", 1]", ", b'']"
    )
    looks = 0
    for turn in range(8):
        with script(writer, name, str(turn)) as child:
            deadline = time.monotonic() + DEADLINE
            seen: set[Any] = set()
            while len(seen) < 20 and time.monotonic() < deadline:
                for key, (said, data) in shared.items():
                    assert said == key and len(data) < 3000
                    assert set(data) <= {key, *b"sc"}
                    seen.add(key)
                    looks += 1
            os.kill(child.pid, signal.SIGKILL)
            child.wait(DEADLINE)
        shared["after"] = [turn, b""]
        assert shared.pop("after") == [turn, b""]
        assert len(shared.keys()) == len(shared)
    assert looks > 100
    shared.clear()
    assert " 0 of " in repr(shared)


HOLDER = """
import os, signal
shared = atoll.SharedDict.open(sys.argv[1])
shared["there"] = 1
print("ready", flush=True)
sys.stdin.readline()
shared["there"] = 2
print("written", flush=True)
sys.stdin.readline()
"""


def test_a_reader_needs_nobody() -> None:
    """A process that is stopped, wherever it is, keeps no one from reading."""
    name = name_for("stopped")
    shared = SharedDict(name=name, size=SIZE)
    with script(HOLDER, name) as child:
        os.kill(child.pid, signal.SIGSTOP)
        assert shared["there"] == 1 and shared.keys() == ["there"]
        os.kill(child.pid, signal.SIGCONT)
        tell(child, "")
        assert told(child) == "written"
        assert shared["there"] == 2


def test_ctrl_c_ends_a_wait_for_the_lock() -> None:
    code = """
import mmap, os, signal, threading
shared = atoll.SharedDict(shared=True, size=8192)
shared["a"] = 1
descriptor = shared._describe()[0]
memory = mmap.mmap(descriptor, 8192)
other = atoll.Lock(shared=True)
with other:  # whose word says who has it: this process itself
    word = mmap.mmap(other._describe()[0], 4096)[64:68]
memory[64:68] = memory[64:68]
with other:
    memory[64:68] = mmap.mmap(other._describe()[0], 4096)[64:68]
try:
    print("ready", flush=True)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    shared["a"] = 2
except KeyboardInterrupt:
    print("interrupted", shared["a"], flush=True)
memory[64:68] = bytes(4)
shared["a"] = 3
print(shared["a"], flush=True)
"""
    with script(code) as child:
        assert told(child) == "interrupted 1"
        assert told(child) == "3"


CLOSING = """
import mmap, threading
shared = atoll.SharedDict(shared=True, size=8192, a=1)
other = atoll.Lock(shared=True)
interpreter = atoll.Interpreter()
began = atoll.Event()
def write(shared, began):
    began.set()
    shared["a"] = 2
with mmap.mmap(shared._describe()[0], 8192) as memory:
    with other:  # whose word says who has it: this process itself
        with mmap.mmap(other._describe()[0], 4096) as page:
            memory[64:68] = page[64:68]
    future = interpreter.submit(write, shared, began)
    print("ready", flush=True)
    began.wait()
    interpreter.close()
    try:
        future.result(60)
    except BaseException as error:
        print(type(error).__name__, shared["a"], flush=True)
    memory[64:68] = bytes(4)
shared["a"] = 3
print(shared["a"], flush=True)
"""


def test_the_close_of_an_interpreter_ends_its_wait_for_the_lock() -> None:
    with script(CLOSING) as child:
        kind, value = told(child).split()
        assert kind != "TimeoutError" and value == "1"
        assert told(child) == "3"


# ---- memory that somebody wrote over ----------------------------------------------------


def test_what_is_no_dict_is_refused() -> None:
    def adopt(content: bytes) -> None:
        from atoll import _atoll

        descriptor = os.memfd_create("foreign", os.MFD_ALLOW_SEALING)
        os.write(descriptor, content)
        fcntl_seal(descriptor)
        try:
            _atoll.sync_adopt(descriptor, None)
        except BaseException:
            os.close(descriptor)
            raise

    shared = SharedDict(shared=True, size=8192, a=1)
    described = shared._describe()
    assert described is not None
    good = os.pread(described[0], 8192, 0)
    adopt(good)
    for content in (bytes(8192), b"x" * 8192, good[:4096], good + bytes(4096)):
        with pytest.raises(ValueError, match="the shared memory holds no"):
            adopt(content)
    with pytest.raises(ValueError):
        adopt(good[:5000])
    for place in (*range(8), *range(128, 168)):
        wrong = bytearray(good)
        wrong[place] ^= 0x40
        with pytest.raises(ValueError, match="the shared memory holds no"):
            adopt(bytes(wrong))


def test_one_that_is_being_made_is_waited_for() -> None:
    """Its maker has the claim of the name, and its memory is found before it is whole."""
    from atoll import _sync

    name = name_for("making")
    whole = SharedDict(shared=True, size=8192, a=1)
    model = whole._describe()
    assert model is not None
    claim = _sync.claim(name)
    descriptor = os.memfd_create(f"atoll-sync:{name}", os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, 8192)
    fcntl_seal(descriptor)
    opened: list[Any] = []
    thread = threading.Thread(target=lambda: opened.append(SharedDict.open(name)))
    thread.start()
    thread.join(0.2)  # or it comes later, and finds it whole
    os.pwrite(descriptor, os.pread(model[0], 8192, 0), 0)
    claim.close()
    thread.join(DEADLINE)
    os.close(descriptor)
    assert opened[0].copy() == {"a": 1}


def fcntl_seal(descriptor: int) -> None:
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)


SCRIBBLER = """
import mmap, random
chance = random.Random(int(sys.argv[1]))
print("ready", flush=True)
told = done = 0
for turn in range(150):
    shared = atoll.SharedDict(shared=True, size=16384)
    wanted = {i if i % 2 else str(i): [i] * (i % 30) for i in range(60)}
    wanted["function"] = 1
    shared.update(wanted)
    shared["function"] = lambda n: n + turn
    with mmap.mmap(shared._describe()[0], 16384) as memory:
        for _ in range(chance.choice([1, 5, 100])):
            place = chance.randrange(128, 16384 - 8) & -chance.choice([1, 8])
            memory[place : place + 8] = chance.choice(
                [chance.randbytes(8), bytes(8), memory[place - 8 : place]]
            )
    for key in wanted:
        try:
            value = shared[key]
            assert value == wanted[key] or value(1) == turn + 1, (key, value)
            done += 1
        except (KeyError, ValueError):
            told += 1
    for use in (
        shared.items, shared.keys, shared.values, shared.popitem, shared.copy,
        lambda: shared.change(3, lambda value: value), lambda: shared.pop("2"),
        lambda: shared.update(wanted), lambda: shared.setdefault("new", 1),
        lambda: len(shared) >= 0 and repr(shared),
    ):
        try:
            use()
        except (KeyError, ValueError, atoll.Full):
            told += 1
    shared.clear()
    shared.update(wanted)
    assert shared.copy() == wanted
print(told > 10 and done > 10, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_memory_that_somebody_wrote_over(seed: int) -> None:
    """It is told of, or what is read is right; nothing crashes or goes on for ever."""
    with script(SCRIBBLER, str(seed)) as child:
        assert told(child) == "True"
        child.wait(DEADLINE)
        assert child.returncode == 0


def test_a_damaged_value_is_told_of_and_clear_helps() -> None:
    shared = SharedDict(shared=True, size=8192, a="text that is there", b=2)
    described = shared._describe()
    assert described is not None
    with mmap.mmap(described[0], 8192) as memory:
        place = memory.find(b"text that")
        memory[place] ^= 1
    with pytest.raises(ValueError, match="clear\\(\\) makes it whole"):
        shared["a"]
    assert shared["b"] == 2 and "a" in shared
    shared["a"] = "new"
    assert shared.copy() == {"a": "new", "b": 2}
    shared.clear()
    assert len(shared) == 0
