"""SharedDict between processes: what its memory holds, and who wrote over it."""

from __future__ import annotations

import mmap
import os
import random
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from children import script, told

from atoll import (
    AtomicInt,
    Channel,
    Full,
    Lock,
    NotShareableError,
    SharedBuffer,
    SharedDict,
)

DEADLINE = 60.0


def name_for(what: str) -> str:
    return f"test-{os.getpid()}-{what}"


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
    with pytest.raises(Full, match=r"key 'kept' needs \d+ bytes.* size=\d+ or more$"):
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


def numbers_of(error: Full) -> tuple[int, int, int, int, int]:
    """What it says: needed, all, free, the largest piece, and the size to use."""
    found = re.search(
        r"needs (\d+) bytes .* of (\d+) bytes (\d+) are free, the largest piece has "
        r"(\d+)\. Make it with size=(\d+) or more(, or take items out)?$",
        str(error),
    )
    assert found is not None, str(error)
    needed, total, free, largest, size = map(int, found.groups()[:5])
    assert needed > largest and total >= free >= largest
    assert (found[6] is not None) == (needed <= total)
    return needed, total, free, largest, size


@pytest.mark.parametrize("length", [10, 100, 1000, 5000, 7000, 60_000, 300_000])
@pytest.mark.parametrize("step", [0, 2, 3])
def test_the_size_that_full_says_is_enough(length: int, step: int) -> None:
    """For what is there and the item; with gaps where others were taken out."""
    shared = SharedDict(shared=True, size=8192)
    for number in range(1000):
        try:
            shared[number] = bytes(min(length, 500))
        except Full as error:
            needed, total, free, largest, size = numbers_of(error)
            assert free == largest, "there is one free piece, at the end"
            break
    for number in range(0, len(shared) if step else 0, max(step, 1)):
        del shared[number]
    item = bytes(max(length, 600))
    with pytest.raises(Full) as caught:
        shared["item"] = item
    needed, total, free, largest, size = numbers_of(caught.value)
    assert length < needed and f", {free} of" not in str(caught.value)
    assert f"{total - free} of {total} bytes used" in repr(shared)
    wider = SharedDict(shared.copy(), shared=True, size=size)
    wider["item"] = item
    assert wider.pop("item") == item and wider.copy() == shared.copy()
    assert size < 2 * (8192 + len(item))


def test_full_says_a_key_that_is_long_and_many_items_at_once() -> None:
    shared = SharedDict(shared=True, size=8192)
    with pytest.raises(Full, match=r"key 'k{10,99} needs"):
        shared["k" * 100_000] = 1
    with pytest.raises(Full, match="key 2 needs"):
        shared.update({1: 1, 2: bytes(10_000), 3: 3})
    assert shared.copy() == {1: 1}


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
    assert held_bytes(shared) < 1 << 20
    assert not any(key in shared for key in range(10, 20_000))
    assert held_bytes(shared) < 1 << 20, "what is not there takes none"


def held_bytes(shared: SharedDict) -> int:
    """What of its memory the system has given it."""
    described = shared._describe()
    assert described is not None
    return os.fstat(described[0]).st_blocks * 512


def test_clear_costs_what_is_there_and_gives_it_back() -> None:
    shared = SharedDict(shared=True, size=1 << 30)
    shared.update({i: i for i in range(10)})
    shared.clear()
    assert len(shared) == 0 and held_bytes(shared) < 1 << 18
    for _ in range(2):
        shared["large"] = bytes(20 << 20)
        shared.update({i: [i] for i in range(1000)})
        assert held_bytes(shared) > 20 << 20
        shared.clear()
        assert shared.copy() == {} and held_bytes(shared) < 1 << 18
    shared["after"] = 1
    assert shared.copy() == {"after": 1}


def test_readers_while_it_is_cleared_and_filled_again() -> None:
    """What they see is what was written, whole, or nothing."""
    shared = SharedDict(shared=True, size=16 << 20)
    over = threading.Event()
    wrong: list[Any] = []

    def fill() -> None:
        try:
            for turn in range(60):
                for key in range(8):
                    shared[key] = [key, bytes([key]) * (100 << (turn + key) % 13)]
                shared.clear()
        finally:
            over.set()

    thread = threading.Thread(target=fill)
    thread.start()
    while not over.is_set():
        for key, (said, data) in shared.items():
            if said != key or set(data) != {key}:
                wrong.append((key, said))
    thread.join(DEADLINE)
    assert wrong == [] and len(shared) == 0


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
