"""atoll's exceptions: the one place that defines them.

The C side finds them here by name, so each has one identity in each interpreter. An
exception that crosses interpreters is rebuilt there from the class of the same name.
"""

import queue
import threading

__all__ = [
    "AtollError",
    "BrokenBarrierError",
    "ClientDisconnectedError",
    "ClosedError",
    "Empty",
    "Full",
    "InterpreterError",
    "LaggedError",
    "NotShareableError",
    "OwnerDeadError",
    "RemoteTraceback",
    "RequestTimeout",
]


class AtollError(Exception):
    """The base of every exception that atoll itself defines."""


class ClosedError(AtollError, RuntimeError):
    """The interpreter, channel or pool was closed, here or elsewhere."""


class Full(AtollError, queue.Full):
    """No room now; also a `queue.Full`."""


class Empty(AtollError, queue.Empty):
    """Nothing there now; also a `queue.Empty`."""


class LaggedError(AtollError, RuntimeError):
    """A subscription was full, and objects went past it.

    Attributes:
        missed: How many, since the last time that this was told; with
            `Broadcast(slow="close")` it is 1, for the one that closed it.
        subscription: The `Subscription`, or None where the error came from elsewhere.
    """

    def __init__(self, missed: int, subscription: object = None) -> None:
        super().__init__(missed)
        self.missed = missed
        self.subscription = subscription

    def __str__(self) -> str:
        objects = "1 object was" if self.missed == 1 else f"{self.missed} objects were"
        return f"the subscription was full: {objects} missed"


class BrokenBarrierError(AtollError, threading.BrokenBarrierError):
    """The barrier was broken; also a `threading.BrokenBarrierError`."""


class OwnerDeadError(AtollError, RuntimeError):
    """Whoever held the lock ended without letting go of it.

    Its interpreter closed, or its process ended, by whatever cause. From `acquire()`
    and `Condition.wait()` the lock comes with it: repair what it guards and call
    `mark_consistent()`. From a `with` statement it does not.
    """


class NotShareableError(AtollError, TypeError):
    """The object can be neither packed nor shared: it cannot leave its interpreter."""


class InterpreterError(AtollError, RuntimeError):
    """Code in another interpreter failed with something that cannot be rebuilt here.

    The message has the type's name and the text of the original; the remote traceback
    is the `__cause__`.
    """


class RemoteTraceback(AtollError):
    """Carries the traceback of another interpreter, as text, in a `__cause__`.

    Attributes:
        text: What `traceback.format_exception` gave there.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class ClientDisconnectedError(AtollError, ConnectionError):
    """An application sends to a client that has closed its connection.

    ASGI asks for an `OSError` here, which frameworks take as the sign to stop.
    """


class RequestTimeout(BaseException):
    """A request has taken longer than the server's `--request-timeout`.

    Raised in the code that serves it. Like `asyncio.CancelledError` it is no
    `Exception`, so that code which goes on after any failure does not go on after this
    one.
    """
