"""Structs of named fields over shared memory."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest

from atoll import (
    AtomicInt,
    Channel,
    Interpreter,
    SharedBuffer,
    Struct,
    StructArray,
    open_shared,
)

DEADLINE = 60.0


class Inner(Struct):
    low: Annotated[int, "uint8"]
    high: Annotated[int, "uint32"]


class Particle(Struct):
    mass: float
    charge: Annotated[int, "int8"]
    alive: bool
    position: Annotated[memoryview, "float32", 3]
    label: Annotated[bytes, 5]
    hits: AtomicInt
    grid: Annotated[memoryview, "int16", (2, 3)]
    inner: Inner


class Heavier(Particle):
    extra: Annotated[float, "float32"]


def test_fields() -> None:
    particle = Particle(mass=1.5, charge=-3, label=b"abc")
    assert particle.mass == 1.5 and particle.charge == -3 and particle.alive is False
    particle.alive = True
    assert particle.alive is True
    particle.position = memoryview(struct.pack("3f", 1, 2, 3)).cast("f")
    assert particle.position.tolist() == [1, 2, 3]
    particle.position[1] = 8
    assert list(particle.position) == [1, 8, 3]
    particle.grid = [[1, 2, 3], [4, 5, 6]]  # type: ignore[assignment]
    assert particle.grid[1, 2] == 6 and particle.grid.shape == (2, 3)
    assert particle.label == b"abc"
    particle.label = b"12345"
    assert particle.label == b"12345"
    particle.inner.high = 2**32 - 1
    assert particle.inner == Inner(high=2**32 - 1)
    particle.inner = Inner(low=7)
    assert (particle.inner.low, particle.inner.high) == (7, 0)
    assert "mass=1.5" in repr(particle) and "hits=atoll.AtomicInt(0)" in repr(particle)
    assert particle != Particle()
    assert Heavier(extra=0.5, mass=2.0).extra == 0.5


def test_the_layout_is_that_of_c() -> None:
    import ctypes

    class InnerC(ctypes.Structure):
        _fields_ = [("low", ctypes.c_uint8), ("high", ctypes.c_uint32)]

    class C(ctypes.Structure):
        _fields_ = [
            ("mass", ctypes.c_double),
            ("charge", ctypes.c_int8),
            ("alive", ctypes.c_bool),
            ("position", ctypes.c_float * 3),
            ("label", ctypes.c_char * 5),
            ("hits", ctypes.c_int64),
            ("more_of_hits", ctypes.c_int64),
            ("grid", ctypes.c_int16 * 6),
            ("inner", InnerC),
        ]

    assert Particle.size() == ctypes.sizeof(C)
    buffer = SharedBuffer(Particle.size() + 8)
    particle = Particle.over(buffer, 8)
    same = C.from_buffer(memoryview(buffer)[8:])
    same.mass, same.hits, same.inner.high = 2.5, -9, 77
    same.label, same.position[2] = b"xy", 4.0
    assert particle.mass == 2.5 and particle.hits.load() == -9
    assert particle.inner.high == 77 and particle.label == b"xy"
    assert particle.position[2] == 4.0


def test_an_atomic_field() -> None:
    particle = Particle(hits=5)  # type: ignore[arg-type]
    particle.hits += 2
    assert particle.hits.load() == 7
    particle.hits = 3  # type: ignore[assignment]
    assert int(particle.hits) == 3

    def count() -> None:
        for _ in range(1000):
            particle.hits.add()

    with ThreadPoolExecutor(4) as pool:
        waiting = pool.submit(particle.hits.wait, 3, DEADLINE)
        for future in [pool.submit(count) for _ in range(3)]:
            future.result(DEADLINE)
        particle.hits.notify_all()
        assert waiting.result(DEADLINE) > 3
    assert particle.hits.load() == 3003
    with pytest.raises(TypeError, match="Struct"):
        pickle.dumps(particle.hits)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("charge", 128, OverflowError),
        ("charge", -129, OverflowError),
        ("charge", "x", TypeError),
        ("charge", 1.5, (TypeError, OverflowError)),
        ("mass", "x", TypeError),
        ("label", b"123456", ValueError),
        ("position", [1, 2], ValueError),
        ("grid", [[1, 2], [3, 4]], ValueError),
        ("hits", 2**63, OverflowError),
        ("inner", 3, TypeError),
    ],
)
def test_wrong_values(name: str, value: Any, error: Any) -> None:
    particle = Particle()
    with pytest.raises(error):
        setattr(particle, name, value)
    assert particle == Particle()


def test_wrong_definitions() -> None:
    for annotation in ("dict", "Annotated[int, 'int3']", "Annotated[int, 'int8', 0]"):
        with pytest.raises((TypeError, ValueError)):
            type("Wrong", (Struct,), {"__annotations__": {"a": eval(annotation)}})
    with pytest.raises(TypeError, match="no field 'weight'"):
        Particle(weight=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no fields"):
        Struct()
    buffer = SharedBuffer(Particle.size())
    for offset in (1, -8, 8):
        with pytest.raises(ValueError):
            Particle.over(buffer, offset)
    with pytest.raises(ValueError, match="aligned"):
        Particle.over(SharedBuffer(Particle.size() + 8), 4)
    with pytest.raises(ValueError, match="aligned"):
        StructArray(Particle, SharedBuffer(Particle.size() + 1)[1:])


def test_other_names_of_types() -> None:
    made = type(
        "Made",
        (Struct,),
        {"__annotations__": {"a": "uint16", "b": "d", "c": int, "d": float}},
    )
    one = made(a=65535, b=0.5, c=-1, d=2)
    assert made.size() == 32 and (one.a, one.b, one.c, one.d) == (65535, 0.5, -1, 2.0)


def test_numpy_sees_the_fields() -> None:
    numpy = pytest.importorskip("numpy")
    particles = Particle.array(3)
    particles[1].mass = 4
    particles[2].position = [1, 2, 3]
    view = numpy.asarray(particles)
    assert view.shape == (3,) and view["mass"].tolist() == [0, 4, 0]
    assert view["position"][2].tolist() == [1, 2, 3]
    view["hits"] += 5
    view["inner"]["high"] = 9
    view["label"][0] = b"name"
    assert [one.hits.load() for one in particles] == [5, 5, 5]
    assert particles[0].inner.high == 9 and particles[0].label == b"name"
    single = numpy.asarray(particles[1])
    assert single["mass"] == 4 and single.shape == ()
    single["mass"] = 6
    assert particles[1].mass == 6
    aligned = numpy.dtype(
        [("a", "u1"), ("b", "f8"), ("c", "i2")], align=True
    )  # as numpy lays it out

    types = {"a": numpy.uint8, "b": numpy.float64, "c": numpy.dtype("int16")}
    Small = type("Small", (Struct,), {"__annotations__": types})
    assert Small.size() == aligned.itemsize
    small = numpy.asarray(Small(a=1, b=2.5, c=3))
    assert [small.dtype.fields[n][1] for n in "abc"] == [
        aligned.fields[n][1] for n in "abc"
    ]


def test_arrays() -> None:
    name = f"test-{os.getpid()}-structs"
    inners = Inner.array(10, name=name)
    assert len(inners) == 10 and len(list(inners)) == 10
    inners[-1].high = 5
    part = inners[8:]
    assert len(part) == 2 and part[1].high == 5
    same = StructArray(Inner, open_shared(name))
    assert same[9].high == 5
    for wrong in (10, -11):
        with pytest.raises(IndexError):
            inners[wrong]
    for piece in (slice(0, 4, 2), slice(3, 3)):
        with pytest.raises(ValueError):
            inners[piece]
    with pytest.raises(ValueError):
        Inner.array(0)
    with pytest.raises(ValueError):
        StructArray(Inner, SharedBuffer(3))


# ---- to others ------------------------------------------------------------------------


def change(particle: Particle, inners: StructArray[Inner]) -> float:
    particle.hits.add(10)
    particle.mass *= 2
    inners[2].low = 200
    return particle.mass


def test_an_interpreter_sees_the_same_fields() -> None:
    particle, inners = Particle(mass=3), Inner.array(4)
    with Interpreter() as interpreter:
        assert interpreter.call(change, particle, inners) == 6
    assert particle.hits.load() == 10 and particle.mass == 6 and inners[2].low == 200
    channel = Channel()
    channel.send({"one": particle})
    channel.recv()["one"].charge = 4
    assert particle.charge == 4


def test_another_process_sees_the_same_fields() -> None:
    particle, inners = Particle(mass=3), Inner.array(4)
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=change, args=(particle, inners))
    child.start()
    child.join(DEADLINE)
    assert child.exitcode == 0
    assert particle.hits.load() == 10 and particle.mass == 6 and inners[2].low == 200


BY_VALUE = """
from typing import Annotated
from atoll import AtomicInt, Interpreter, Struct

class Mine(Struct):
    number: int
    hits: AtomicInt

def change(mine):
    mine.number = 5
    mine.hits += 1

mine = Mine()
with Interpreter() as interpreter:
    interpreter.call(change, mine)
print(mine)
"""


def test_a_struct_of_main() -> None:
    import subprocess
    import sys

    ran = subprocess.run(
        [sys.executable, "-c", BY_VALUE], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "Mine(number=5, hits=atoll.AtomicInt(1))\n"
