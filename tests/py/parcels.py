"""What the tests of parcels share: the way there and back, and values to send."""

import dataclasses
import enum
import math
import typing

from atoll import _atoll


def trip(value: typing.Any) -> typing.Any:
    return _atoll.unpack(_atoll.pack(value))


def by_bytes(value: typing.Any) -> typing.Any:
    return _atoll.loads(_atoll.dumps(value), trusted=True)


def exactly(value: typing.Any) -> str:
    """A repr in which the order of sets does not show, nor what strings hash to."""
    if isinstance(value, tuple | list):
        return f"{type(value)}{[exactly(v) for v in value]}"
    if isinstance(value, set | frozenset):
        return f"{type(value)}{sorted(exactly(v) for v in value)}"
    if isinstance(value, dict):
        return f"{type(value)}{[(exactly(k), exactly(v)) for k, v in value.items()]}"
    return repr(value)


PLAIN = [
    None,
    True,
    False,
    ...,
    NotImplemented,
    *[sign * (1 << bits) + d for bits in (0, 7, 8, 31, 32, 63, 64, 65, 200, 4000)
      for sign in (1, -1) for d in (-1, 0, 1)],
    0.0, -0.0, 1.5, math.inf, 2j, complex(-0.0, 3),
    "", "a", "ä", "plain", "Grüße", "日本語", "😀", "a\0b", "\ud800", "x" * 5000,
    b"", b"a", b"\0\xff" * 300, bytearray(), bytearray(b"abc"),
    (), (1,), (1, (2, (3,))), [], [1, [2, [3]]], {}, {"a": 1, 2: [3], None: ()},
    set(), {1, "a", (2,)}, frozenset(), frozenset({1, frozenset({2})}),
    slice(1, None, "x"), range(3), range(10, -5, -3), range(2**70, 2**70 + 5),
]  # fmt: skip


class Color(enum.Enum):
    RED = 1
    GREEN = 2

    def low(self):
        return self.name.lower()


@dataclasses.dataclass
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)


class MyList(list):
    pass
