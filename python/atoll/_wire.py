"""Objects into messages and back, for calls into other interpreters: parcels."""

from typing import Any

from atoll import _atoll

__all__ = ["pack", "unpack"]


def pack(value: Any) -> _atoll.Message:
    """The message that carries `value`.

    Raises:
        NotShareableError: It cannot leave its interpreter; the message names the path
            to what in it cannot.
    """
    return _atoll.pack(value)


def unpack(message: _atoll.Message) -> Any:
    """The value again."""
    return _atoll.unpack(message)
