"""Objects into bytes and back, for calls into other interpreters: parcels."""

from typing import Any

from atoll import _atoll

__all__ = ["pack", "unpack"]


def pack(value: Any, name: str = "object") -> bytes:
    """The bytes of `value`.

    Raises:
        NotShareableError: It cannot leave its interpreter; the path to what in it
            cannot begins with `name`.
    """
    data: bytes = _atoll.dumps(value, name)
    return data


def unpack(data: bytes) -> Any:
    """The value again."""
    return _atoll.loads(data, trusted=True)
