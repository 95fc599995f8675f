"""What can be said of a function's code without running it."""

import functools
import marshal
import types

__all__ = ["analyse", "assigns_globals"]

_GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
_NAME_OPERATIONS = frozenset({"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


@functools.lru_cache(maxsize=512)
def analyse(code: types.CodeType) -> tuple[bytes, frozenset[str], frozenset[str]]:
    """Marshal `code`; say which globals it names, and every name in it."""
    import dis  # who only receives functions does without

    names: set[str] = set()
    every: set[str] = set()
    pending = [code]
    while pending:
        inner = pending.pop()
        every.update(inner.co_names)
        for instruction in dis.get_instructions(inner):
            if instruction.opname in _GLOBAL_OPERATIONS or (
                instruction.opname in _NAME_OPERATIONS
            ):
                names.add(instruction.argval)
        pending.extend(c for c in inner.co_consts if isinstance(c, types.CodeType))
    return marshal.dumps(code), frozenset(names), frozenset(every)


def assigns_globals(code: types.CodeType) -> bool:
    """Does it, or a function in it, assign or delete a global?"""
    import dis

    return any(
        instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
        for instruction in dis.get_instructions(code)
    ) or any(
        assigns_globals(c) for c in code.co_consts if isinstance(c, types.CodeType)
    )
