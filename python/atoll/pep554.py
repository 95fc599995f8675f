"""The channels of PEP 554, over atoll's queues.

PEP 554 was where channels between interpreters came from; PEP 734 took over all but
them. Code that was written for its drafts (`interpreters.create_channel()`) finds them
here under their names. New code has `atoll.Channel`.

`send` waits until the object was received, as PEP 554 has it; `send_nowait` does not,
and says whether somebody was waiting. Nothing polls.
"""

from __future__ import annotations

import time
from typing import Any, Self

from atoll import _atoll, _errors
from atoll._channel import Channel

__all__ = [
    "ChannelClosedError",
    "ChannelEmptyError",
    "ChannelError",
    "ChannelNotEmptyError",
    "ChannelNotFoundError",
    "RecvChannel",
    "SendChannel",
    "create_channel",
    "list_all_channels",
]

_TAG = 554  # tells these queues from others over the same C type
_REMOVE = 1  # src/chan/queue.h: what a closed interpreter sent is not received


class ChannelError(Exception):
    """The base of what goes wrong with a channel."""


class ChannelNotFoundError(ChannelError):
    """There is no channel of that ID."""


class ChannelClosedError(ChannelError):
    """The channel is closed."""


class ChannelEmptyError(ChannelError):
    """Nothing has been sent."""


class ChannelNotEmptyError(ChannelError):
    """The channel holds objects that nobody has received: it does not close."""


_UNSET = object()


class _End:
    """What both ends have; see `RecvChannel` and `SendChannel`."""

    _core: _atoll.Queue
    __slots__ = ("__weakref__", "_core")

    def __init__(self, id: int, /) -> None:
        if not isinstance(id, int):
            raise TypeError(f"id must be an int, got {id!r}")
        core = _atoll.Queue.find(id)
        if core is None or core.tag != _TAG:
            raise ChannelNotFoundError(f"channel {id} not found")
        self._core = core

    @classmethod
    def _of(cls, core: _atoll.Queue) -> Self:
        end = cls.__new__(cls)
        end._core = core
        return end

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.id == self.id

    def __hash__(self) -> int:
        return hash((type(self), self.id))

    def __reduce__(self) -> tuple[Any, ...]:
        # The core goes by reference: the channel stays while it is on its way.
        return _restore, (type(self), self._core)

    @property
    def id(self) -> int:
        """The channel's number in this process; never used twice."""
        return self._core.number

    @property
    def is_closed(self) -> bool:
        """Is it closed, or closing?"""
        return self._core.closed

    def close(self, *, force: bool = False) -> None:
        """Close both ends, in all interpreters.

        Args:
            force: Drop what was sent and not received.

        Raises:
            ChannelNotEmptyError: There is such, and not `force`.
            ChannelClosedError: It is closed already.
        """
        if self._core.closed:
            raise ChannelClosedError(f"channel {self.id} is closed")
        if len(self._core) and not force:
            raise ChannelNotEmptyError(f"channel {self.id} may not be closed")
        self._core.close(False)
        while True:
            try:
                (_, receipt), _ = self._core.get(0)
            except _errors.ClosedError:
                return
            if receipt is not None:
                receipt.close()  # its sender waits no longer


class RecvChannel(_End):
    """The receiving end of a channel.

    Args:
        id: Of a channel that exists.

    Raises:
        ChannelNotFoundError: There is none of that ID.
    """

    __slots__ = ()

    def _recv(self, timeout: float | None) -> Any:
        timeout = _atoll.seconds(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                (value, receipt), _ = self._core.get(left)
            except _errors.ClosedError:
                raise ChannelClosedError(f"channel {self.id} is closed") from None
            if receipt is None:
                return value
            try:
                receipt.try_send(None)
            except _errors.ClosedError:
                continue  # its sender has given up
            return value

    def recv(self, timeout: float | None = None) -> Any:
        """Receive the next object; wait if none has been sent.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: Nothing came in time.
            ChannelClosedError: The channel is closed.
        """
        try:
            return self._recv(timeout)
        except _errors.Empty:
            raise TimeoutError(f"nothing came in {timeout} s") from None

    def recv_nowait(self, default: Any = _UNSET) -> Any:
        """Receive the next object if one has been sent, else return `default`.

        Raises:
            ChannelEmptyError: None has, and there is no default.
            ChannelClosedError: The channel is closed.
        """
        try:
            return self._recv(0)
        except _errors.Empty:
            if default is not _UNSET:
                return default
            raise ChannelEmptyError(f"channel {self.id} is empty") from None


class SendChannel(_End):
    """The sending end of a channel.

    Args:
        id: Of a channel that exists.

    Raises:
        ChannelNotFoundError: There is none of that ID.
    """

    __slots__ = ()

    def _put(self, value: object, receipt: Channel | None) -> None:
        try:
            self._core.put((value, receipt), _REMOVE, 0)
        except _errors.ClosedError:
            raise ChannelClosedError(f"channel {self.id} is closed") from None

    def send(self, obj: object, timeout: float | None = None) -> None:
        """Send a copy of `obj`, and wait until it was received.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: It was not received in time, and will not be.
            ChannelClosedError: The channel is closed, or was before it was received.
            NotShareableError: `obj` cannot leave this interpreter.
        """
        receipt = Channel(1, keep_open=True)
        self._put(obj, receipt)
        self._wait(receipt, timeout)

    def _wait(self, receipt: Channel, timeout: float | None) -> None:
        try:
            receipt.recv(timeout)
        except TimeoutError:
            # The receiver that has it already has sent the receipt; none will after.
            receipt.close()
            try:
                receipt.try_recv()
            except (_errors.ClosedError, _errors.Empty):
                raise TimeoutError(f"not received in {timeout} s") from None
        except _errors.ClosedError:
            raise ChannelClosedError(f"channel {self.id} is closed") from None
        except BaseException:
            receipt.close()
            raise

    def send_nowait(self, obj: object) -> bool:
        """Send a copy of `obj` without waiting; was somebody waiting for it?

        Raises:
            ChannelClosedError: The channel is closed.
            NotShareableError: `obj` cannot leave this interpreter.
        """
        awaited = self._core.waiting > len(self._core)
        self._put(obj, None)
        return awaited

    def send_buffer(self, obj: Any, timeout: float | None = None) -> None:
        """Send a view of the memory of `obj`, and wait until it was received.

        A `SharedBuffer`, `SharedArray` or a read-only buffer of 64 KiB or more that
        main sends is not copied: the receiver's memoryview is of the same memory. Any
        other buffer is copied once.

        Raises:
            As `send`, and TypeError where `obj` has no buffer.
        """
        self.send(memoryview(obj) if not _is_shared(obj) else obj, timeout)

    def send_buffer_nowait(self, obj: Any) -> bool:
        """As `send_buffer`, without waiting; was somebody waiting for it?"""
        return self.send_nowait(memoryview(obj) if not _is_shared(obj) else obj)


def _is_shared(obj: object) -> bool:
    return isinstance(obj, _atoll.SharedBuffer | _atoll.SharedArray)


def _restore(kind: type[_End], core: _atoll.Queue) -> _End:
    return kind._of(core)


def create_channel() -> tuple[RecvChannel, SendChannel]:
    """Make a channel; its two ends.

    It lives as long as some interpreter has an end of it.
    """
    core = _atoll.Queue(0, _REMOVE, _TAG)
    return RecvChannel._of(core), SendChannel._of(core)


def list_all_channels() -> list[tuple[RecvChannel, SendChannel]]:
    """Both ends of every open channel of the process, oldest first."""
    return [
        (RecvChannel._of(core), SendChannel._of(core))
        for core in _atoll.Queue.list()
        if core.tag == _TAG and not core.closed
    ]
