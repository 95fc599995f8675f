"""Objects into messages and back, for calls into other interpreters: parcels."""

from typing import Any

from atoll import _atoll

__all__ = ["CALL", "pack", "unpack"]

# What the parts of a call are called in the path to what cannot be sent.
CALL = ("function", "args", "kwargs")


def pack(value: Any, name: str | tuple[str, ...] = "object") -> _atoll.Message:
    """The message that carries `value`.

    Args:
        name: What it is called in the path; for a tuple a name for each of its items.

    Raises:
        NotShareableError: It cannot leave its interpreter; the message names the path
            to what in it cannot.
    """
    return _atoll.pack(value, name)


def unpack(message: _atoll.Message) -> Any:
    """The value again."""
    return _atoll.unpack(message)
