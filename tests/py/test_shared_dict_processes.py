"""SharedDict between processes: the ways there, what it holds, and who is killed."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from children import script, tell, told

from atoll import (
    Channel,
    Interpreter,
    Lock,
    Pool,
    SharedDict,
)

DEADLINE = 60.0
SPAWN = multiprocessing.get_context("spawn")
SIZE = 1 << 18


def name_for(what: str) -> str:
    return f"test-{os.getpid()}-{what}"


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
