"""`Queue` of PEP 734."""

from __future__ import annotations

import queue
import weakref
from _interpreters import NotShareableError
from collections.abc import Callable
from typing import Any, Self

from atoll import _atoll, _errors, _parcel

__all__ = [
    "UNBOUND",
    "UNBOUND_ERROR",
    "UNBOUND_REMOVE",
    "ItemInterpreterDestroyed",
    "Queue",
    "QueueEmpty",
    "QueueError",
    "QueueFull",
    "QueueNotFoundError",
    "create",
    "list_all",
]

TAG = 734  # tells these queues from others over the same C type


class QueueError(RuntimeError):
    """The base of what goes wrong with a queue."""


class QueueNotFoundError(QueueError):
    """There is no queue of that ID."""


class QueueEmpty(QueueError, queue.Empty):
    """Nothing was there, or came in time."""


class QueueFull(QueueError, queue.Full):
    """There was no room, or none in time."""


class ItemInterpreterDestroyed(QueueError):
    """The interpreter that put the item has closed since."""


class UnboundItem:
    """Stands for an item whose interpreter has closed; see `UNBOUND`."""

    __slots__ = ("_name",)
    _name: str

    def __repr__(self) -> str:
        return f"{__name__}.{self._name}"

    def __reduce__(self) -> str:
        return self._name


def _constant(name: str) -> UnboundItem:
    made = UnboundItem()
    made._name = name
    return made


#: The item is replaced by this very object.
UNBOUND = _constant("UNBOUND")
#: Who gets the item gets an `ItemInterpreterDestroyed`.
UNBOUND_ERROR = _constant("UNBOUND_ERROR")
#: The item goes with its interpreter.
UNBOUND_REMOVE = _constant("UNBOUND_REMOVE")

_FATE = {UNBOUND_REMOVE: 1, UNBOUND_ERROR: 2, UNBOUND: 3}  # src/chan/queue.h
_OF_FATE = {fate: items for items, fate in _FATE.items()}


def _fate(unbounditems: object) -> int:
    if unbounditems is None:
        return -1
    fate = _FATE.get(unbounditems) if isinstance(unbounditems, UnboundItem) else None
    if fate is None:
        raise NotImplementedError(
            f"unsupported unbound replacement op {unbounditems!r}"
        )
    return fate


def _seconds(timeout: float | None) -> float | None:
    if timeout is not None and timeout < 0:
        raise ValueError("timeout value must be non-negative")
    return timeout


def create(maxsize: int = 0, *, unbounditems: UnboundItem = UNBOUND) -> Queue:
    """Make a queue that any interpreter of the process can put into and get from.

    Args:
        maxsize: How many items it holds; no bound where it is not positive.
        unbounditems: What becomes of items whose interpreter closes: `UNBOUND`,
            `UNBOUND_ERROR` or `UNBOUND_REMOVE`. `put` can say otherwise for one.
    """
    fate = _fate(unbounditems)
    return Queue._of(_atoll.Queue(maxsize, 3 if fate == -1 else fate, TAG))


def list_all() -> list[Queue]:
    """All queues of the process, oldest first."""
    return [Queue._of(core) for core in _atoll.Queue.list() if core.tag == TAG]


_known: weakref.WeakValueDictionary[int, Queue] = weakref.WeakValueDictionary()


class Queue:
    """A first-in, first-out queue between interpreters. One object for each ID.

    It lives as long as some interpreter has it, or it is on its way to one. A waiting
    thread sleeps until it is woken: nothing polls.

    Args:
        id: Of a queue that exists.

    Raises:
        QueueNotFoundError: There is none of that ID.
    """

    _core: _atoll.Queue
    __slots__ = ("__weakref__", "_core")

    def __new__(cls, id: int, /) -> Self:
        if not isinstance(id, int):
            raise TypeError(f"id must be an int, got {id!r}")
        core = _atoll.Queue.find(id)
        if core is None or core.tag != TAG:
            raise QueueNotFoundError(f"queue {id} not found")
        return cls._of(core)

    @classmethod
    def _of(cls, core: _atoll.Queue) -> Self:
        known = _known.get(core.number)
        if isinstance(known, cls):
            return known
        self = super().__new__(cls)
        self._core = core
        _known[core.number] = self
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id})"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and other.id == self.id

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self.id,)

    @property
    def id(self) -> int:
        """Its number in this process; never used twice."""
        return self._core.number

    @property
    def maxsize(self) -> int:
        """How many items it holds; no bound where it is not positive."""
        return self._core.limit

    @property
    def unbounditems(self) -> UnboundItem:
        """What becomes of items whose interpreter closes, unless `put` says else."""
        return _OF_FATE[self._core.fate]

    def empty(self) -> bool:
        """Is nothing there at this moment?"""
        return len(self._core) == 0

    def full(self) -> bool:
        """Is there no room at this moment?"""
        return 0 < self._core.limit <= len(self._core)

    def qsize(self) -> int:
        """How many items there are at this moment."""
        return len(self._core)

    def _put(self, obj: object, fate: int, timeout: float | None) -> None:
        try:
            self._core.put(obj, fate, timeout)
        except _errors.Full:
            raise QueueFull(f"queue {self.id} is full") from None
        except _errors.NotShareableError as error:
            raise NotShareableError(str(error)) from error

    def put(
        self,
        obj: object,
        block: bool = True,
        timeout: float | None = None,
        *,
        unbounditems: UnboundItem | None = None,
        _delay: float = 0.0,
    ) -> None:
        """Put a copy of `obj` behind the others.

        Args:
            block: Wait while there is no room.
            timeout: Seconds to wait; None waits for ever.
            unbounditems: What becomes of the item if this interpreter closes before it
                is got; None leaves it to the queue.
            _delay: Unused; the standard library's pause between two looks.

        Raises:
            QueueFull: There was no room, or none in time.
            NotShareableError: `obj` cannot leave this interpreter.
        """
        if not block:
            return self.put_nowait(obj, unbounditems=unbounditems)
        return self._put(obj, _fate(unbounditems), _seconds(timeout))

    def put_nowait(
        self, obj: object, *, unbounditems: UnboundItem | None = None
    ) -> None:
        """Put a copy of `obj` behind the others if there is room.

        Raises:
            QueueFull: There is none.
            NotShareableError: `obj` cannot leave this interpreter.
        """
        self._put(obj, _fate(unbounditems), 0)

    def _get(self, timeout: float | None) -> Any:
        try:
            value, fate = self._core.get(timeout)
        except _errors.Empty:
            raise QueueEmpty(f"queue {self.id} is empty") from None
        if fate == 0:
            return value
        if fate == _FATE[UNBOUND_ERROR]:
            raise ItemInterpreterDestroyed("item's original interpreter destroyed")
        return UNBOUND

    def get(
        self,
        block: bool = True,
        timeout: float | None = None,
        *,
        _delay: float = 0.0,
    ) -> Any:
        """Take the first item.

        Args:
            block: Wait while there is none.
            timeout: Seconds to wait; None waits for ever.
            _delay: Unused; the standard library's pause between two looks.

        Raises:
            QueueEmpty: Nothing was there, or came in time.
            ItemInterpreterDestroyed: The item's interpreter has closed, and its
                `unbounditems` was `UNBOUND_ERROR`.
        """
        if not block:
            return self.get_nowait()
        return self._get(_seconds(timeout))

    def get_nowait(self) -> Any:
        """Take the first item if there is one.

        Raises:
            QueueEmpty: There is none.
            ItemInterpreterDestroyed: As for `get`.
        """
        return self._get(0)


def _restore(core: _atoll.Queue) -> Queue:
    return Queue._of(core)


def _reduce(found: Queue) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How parcels take it apart: with its core, which keeps it alive on the way."""
    return _restore, (found._core,)


_parcel.REDUCERS[Queue] = _reduce
