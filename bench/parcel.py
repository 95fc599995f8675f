"""Parcels and channels against pickle, marshal and the standard library's queue.

Prints microseconds for there and back, and how many times longer the others take.

    python bench/parcel.py [--json]
"""

import json
import marshal
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

from _standard import standard_queues

from atoll import Channel, _atoll

ROUNDS = 5
SECONDS = 0.1


def measure(action: Callable[[], Any]) -> float:
    """Microseconds of one call: the best of some rounds."""
    count = 1
    while True:
        began = time.perf_counter()
        for _ in range(count):
            action()
        taken = time.perf_counter() - began
        if taken > SECONDS / 4:
            break
        count *= 4
    best = taken / count
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(count):
            action()
        best = min(best, (time.perf_counter() - began) / count)
    return best * 1e6


def standard_queue() -> Callable[[Any], Any] | None:
    """Put and get of the standard library's queue between interpreters."""
    found = standard_queues()
    if found is None:
        return None
    _, create, _, options = found
    queue = create(**options)

    def trip(value: Any) -> Any:
        # Pickled unless told that it need not be, where that has to be said.
        queue.put(value, **({"syncobj": False} if options else {}))
        return queue.get_nowait()

    return trip


def channel() -> Callable[[Any], Any]:
    """Send and receive of a channel, in one thread, as of the queue."""
    through = Channel(1)

    def trip(value: Any) -> Any:
        through.send(value)
        return through.recv()

    return trip


class Point:
    def __init__(self) -> None:
        self.x, self.y = 1, [2.0]


def values() -> dict[str, Any]:
    """What is sent."""
    found: dict[str, Any] = {
        "int": 1,
        "str": "a short text",
        "list of 3": [1, 2, 3],
        "call": (len, ((1, 2),), {}),
        "dict": {"id": 7, "name": "x", "tags": ["a", "b"], "ok": True},
        "1000 ints": list(range(1000)),
        "1000 floats": [i * 0.5 for i in range(1000)],
        "1000 strs": [f"s{i}" for i in range(1000)],
        "100 dicts": [{"id": i, "name": f"n{i}", "v": 0.5} for i in range(100)],
        "object": Point(),
        "1 MB bytes": b"x" * (1 << 20),
    }
    try:
        import numpy
    except ImportError:
        return found
    found["64 MB array"] = numpy.zeros(8 << 20)
    lent = numpy.zeros(8 << 20)
    lent.flags.writeable = False
    found["64 MB read-only"] = lent
    return found


def main() -> None:
    """Run it."""
    others: dict[str, Callable[[Any], Any]] = {
        "channel": channel(),
        "pickle": lambda v: pickle.loads(pickle.dumps(v, 5)),
        "marshal": lambda v: marshal.loads(marshal.dumps(v)),
    }
    queue = standard_queue()
    if queue is not None:
        others["queue"] = queue
    rows = {}
    for name, value in values().items():
        row = {"parcel": measure(lambda v=value: _atoll.unpack(_atoll.pack(v)))}  # type: ignore[misc]
        for other, trip in others.items():
            try:
                row[other] = measure(lambda v=value, t=trip: t(v))  # type: ignore[misc]
            except (ValueError, TypeError, AttributeError):
                continue
        rows[name] = row
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'':16}{'parcel':>12}" + "".join(f"{o:>18}" for o in others))
    for name, row in rows.items():
        cells = [
            f"{row[o]:10.2f} {row[o] / row['parcel']:5.1f}x" if o in row else "-"
            for o in others
        ]
        print(f"{name:16}{row['parcel']:10.2f}us" + "".join(f"{c:>18}" for c in cells))
    three = rows["list of 3"]
    if "queue" in three:
        ratio = three["queue"] / three["channel"]
        print(f"a list of 3, queue / channel (at least 3): {ratio:.1f}")


if __name__ == "__main__":
    main()
