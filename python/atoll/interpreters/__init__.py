"""The interface of `concurrent.interpreters` (PEP 734), over atoll's own runtime.

Names, signatures and exceptions are those of CPython 3.14's module, on every Python
that atoll supports, so that `from atoll import interpreters` takes the place of
`from concurrent import interpreters`. What is different, is more:

- Extensions import in the interpreters.
- A `Queue` wakes its waiters instead of being polled by them, and a timeout of half a
  second is half a second.
- What can be sent is what `atoll.Interpreter.call` can send: lambdas, nested functions
  and those of `__main__` go by value, where the standard library refuses them or runs
  the main script again.
- `exec` and `call` block the thread that calls them, but the code runs on the
  interpreter's own thread. So Ctrl-C reaches a main thread that waits, and interrupts
  what it waits for.

`is_shareable` says of an object whether it goes without being pickled, as PEP 734 has
it; `call`, `prepare_main` and `Queue.put` take others as well.
"""

from atoll.interpreters._interpreter import (
    ExecutionFailed,
    Interpreter,
    InterpreterError,
    InterpreterNotFoundError,
    NotShareableError,
    create,
    get_current,
    get_main,
    is_shareable,
    list_all,
)
from atoll.interpreters._queues import Queue, QueueEmpty, QueueFull
from atoll.interpreters._queues import create as create_queue

__all__ = [
    "ExecutionFailed",
    "Interpreter",
    "InterpreterError",
    "InterpreterNotFoundError",
    "NotShareableError",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "create",
    "create_queue",
    "get_current",
    "get_main",
    "is_shareable",
    "list_all",
]
