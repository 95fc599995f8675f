"""The rare paths of parcels: what the C packer asks Python about.

Functions and types go by name where the receiver can import the very same object, else
by value. By value a function is its marshalled code, defaults, closure and the globals
that its code names, each of which may again be such a function; a type is its
metaclass, bases and attributes. All of it takes the form of a `__reduce_ex__` result,
so that the packer's memo keeps shared references, recursion and cycles.

What goes by value: functions and types of `__main__`, of modules that cannot be
imported (no `__spec__`), and those that are not found under their own name (lambdas,
nested ones, and what was replaced since). Types written in C go by name only.
"""

from atoll._parcel.arrays import reduce_array
from atoll._parcel.classes import reduce_type
from atoll._parcel.code import analyse
from atoll._parcel.names import by_name, find_global, name_of
from atoll._parcel.others import REDUCERS, take_dataclasses

__all__ = [
    "REDUCERS",
    "analyse",
    "by_name",
    "find_global",
    "name_of",
    "reduce_array",
    "reduce_type",
    "take_dataclasses",
]
