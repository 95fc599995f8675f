"""Mutated parcels against the decoder, in this process.

The decoder makes Python objects, so it is driven from Python: mutated bytes of random
values, seeded. A crash is a crash of this process; run it under a debug or sanitizer
build of the module. Only the exceptions that bad bytes may raise are passed over.

    python fuzz/fuzz_parcel.py [ROUNDS] [SEED]
"""

import random
import sys
import time
from typing import Any

from atoll import _atoll

LEAVES: list[Any] = [
    None, True, 0, -1, 127, 2**31, -(2**63), 2**200, 1.5, 2j, "", "ascii", "Grüße",
    "日本", "😀", b"", b"bytes", bytearray(b"array"), ..., slice(1, None), range(5),
]  # fmt: skip
ALLOWED = (ValueError, TypeError, RecursionError, OverflowError, MemoryError)


def value(rng: random.Random, depth: int = 0) -> Any:
    """A random value of plain types, with shared parts."""
    if depth > 4 or rng.random() < 0.4:
        return rng.choice(LEAVES)
    items = [value(rng, depth + 1) for _ in range(rng.randrange(6))]
    if items and rng.random() < 0.3:
        items.append(rng.choice(items))
    kind = rng.randrange(5)
    if kind == 0:
        return tuple(items)
    if kind == 1:
        return {
            rng.choice(["k", 1, (2, "t"), b"b", None, i]): v
            for i, v in enumerate(items)
        }
    if kind == 2:
        return {rng.choice([1, "s", (1, 2), 2.5, None]) for _ in items}
    if kind == 3:
        return frozenset(rng.choice([1, "s", (1, 2), 2.5, None]) for _ in items)
    if rng.random() < 0.2:
        items.append(items)
    return items


def mutate(rng: random.Random, data: bytearray) -> None:
    """Change a few bytes, in place."""
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[place] = rng.randrange(256)
        elif kind == 1 and data:
            data[place] = rng.choice([0, 0x7F, 0x80, 0xFF, *range(0x8A, 0xA5)])
        elif kind == 2:
            del data[place : place + rng.randrange(1, 9)]
        elif kind == 3:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        else:
            piece = data[place : place + rng.randrange(1, 17)]
            data[place:place] = piece


def main() -> None:
    """Run it."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() & 0xFFFFFFFF
    rng = random.Random(seed)
    accepted = 0
    for round_ in range(rounds):
        if round_ % 8 == 0:
            original = _atoll.dumps(value(rng))
        data = bytearray(original)
        mutate(rng, data)
        if rng.random() < 0.9:
            data[:2] = original[:2]
        try:
            repr(_atoll.loads(bytes(data)))
            accepted += 1
        except ALLOWED:
            pass
    print(f"{rounds} inputs of seed {seed}: {accepted} decoded, the rest refused")


if __name__ == "__main__":
    main()
