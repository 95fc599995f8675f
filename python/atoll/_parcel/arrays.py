"""Memoryviews, and the arrays of numpy that numpy takes apart less exactly than it can.

What arrives has the very items, shape and byte order of what was sent. It is copied
where its items do not lie one after the other.
"""

import struct
import sys
from _pickle import PickleBuffer, PicklingError
from typing import Any

from atoll._parcel.names import Reduced

__all__ = ["reduce_array", "reduce_memoryview"]

# What memoryview.cast() takes.
_FORMATS = "cbB?hHiIlLqQnNefdP"


def _castable(format: str) -> str | None:
    """A format that cast() takes, of the same items; None where there is none."""
    order, code = (format[0], format[1:]) if len(format) == 2 else ("@", format)
    if len(code) != 1 or code not in _FORMATS:
        return None
    if order == "@":
        return code
    # Standard sizes differ from native ones for some.
    if order == ("<" if sys.byteorder == "little" else ">") or order == "=":
        return code if struct.calcsize(format) == struct.calcsize(code) else None
    return None


def reduce_memoryview(view: memoryview) -> Reduced:
    if not view.contiguous:
        raise PicklingError("a memoryview must be contiguous")
    format = _castable(view.format)
    if format is None or (view.ndim > 1 and view.nbytes == 0):
        what = f"format {view.format!r}" if format is None else f"shape {view.shape}"
        raise PicklingError(
            f"a memoryview of {what} cannot be made again: send the array or the "
            "object that it is a view of"
        )
    if view.c_contiguous:
        data: Any = PickleBuffer(view).raw()
    else:  # Fortran's order, of which memoryviews can be taken, and not made
        data = view.tobytes() if view.readonly else bytearray(view.tobytes())
    return _make_memoryview, (PickleBuffer(data), format, view.shape)


def _make_memoryview(data: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    flat = memoryview(data)
    if format == "B" and len(shape) == 1:
        return flat
    if flat.nbytes == 0:  # cast() takes none: the beginning of another
        size = struct.calcsize(format)
        item = bytes(size) if flat.readonly else bytearray(size)
        return memoryview(item).cast(format)[:0]  # type: ignore[call-overload, no-any-return]
    return flat.cast("B").cast(format, shape)  # type: ignore[call-overload, no-any-return]


def reduce_array(array: Any, reduced: Reduced) -> Reduced:
    """What numpy takes apart into a state, as a buffer where that can be.

    A state keeps neither the order of the bytes nor that the array cannot be written.
    numpy makes one of what has gaps (a view with a step), and of types that the buffer
    protocol has no name for, such as datetime64.

    Args:
        array: Of numpy, or of a class made from its.
        reduced: What `array.__reduce_ex__(5)` gave.

    Returns:
        As exact as can be.
    """
    kind = type(array)
    if kind is not getattr(sys.modules.get("numpy"), "ndarray", None):
        return reduced  # a subclass may have a state of its own
    dtype, flags = array.dtype, array.flags
    if dtype.hasobject or dtype.kind not in "biufcmMSUV" or dtype.itemsize == 0:
        return reduced
    order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    whole = array if flags.contiguous or flags.f_contiguous else array.copy(order="C")
    data = whole.reshape(-1, order=order).view("u1")
    if not flags.writeable:
        data.flags.writeable = False
    # numpy's function for buffers, wherever this numpy has it.
    from_buffer = kind(0).__reduce_ex__(5)[0]
    return from_buffer, (PickleBuffer(data), dtype, array.shape, order)
