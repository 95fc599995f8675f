"""The C runtime of atoll; each group belongs to one file of src/bind/."""

import threading
import types
from asyncio import AbstractEventLoop, Task
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    MutableMapping,
    Sequence,
)
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Literal, Self, SupportsIndex, TypeVar, final, overload

from typing_extensions import disjoint_base

from atoll._server.stats import WorkerStats

_T = TypeVar("_T")

# interpreter.c

class _Job: ...

def interpreter_create(name: str | None, path: bytes, start: bytes, /) -> int: ...
def interpreter_ids() -> list[int]: ...
def interpreter_left() -> list[int]: ...
def interpreter_count() -> int: ...
def heap_install() -> None: ...
def heap_bytes(interpreter_id: int, /) -> int | None: ...
def interrupt_thread(ident: int, exception: type[BaseException], /) -> bool: ...
def seconds(timeout: float | None, /) -> float | None: ...
def gil_shares(interpreter_ids: list[int], seconds: float, /) -> list[float | None]: ...
def interpreter_here() -> int: ...
def interpreter_state(id: int, /) -> str: ...
def interpreter_name(id: int, /) -> str | None: ...
def interpreter_ref(id: int, /) -> int: ...
def interpreter_unref(id: int, /) -> int: ...
def interpreter_post(
    id: int, request: Message, waits: bool, alone: bool = False, /
) -> _Job: ...
def job_wait(job: _Job, timeout: float | None, /) -> Message | None: ...
def job_listen(job: _Job, /) -> int: ...
def interpreter_end(id: int, /) -> _Job: ...
def interpreter_interrupt(id: int, job: _Job | None, exception: str, /) -> None: ...
def interpreter_close_begin(id: int, timeout: float | None, /) -> None: ...
def interpreter_close_wait(id: int, timeout: float | None, /) -> tuple[str, str]: ...
def interpreter_close_hurry(id: int, /) -> None: ...
def interpreter_reap(id: int, /) -> None: ...
def interpreter_freeze(id: int, timeout: float | None, /) -> bool: ...
def interpreters_stop() -> None: ...

# extension.c

def load_extension(spec: ModuleSpec, private: bool, /) -> ModuleType: ...
def load_builtin(spec: ModuleSpec, refuses: bool = False, /) -> ModuleType | None: ...
def needs_no_gil(module: ModuleType, /) -> bool: ...
def prepare_close_extensions(timeout: float, /) -> tuple[int, int]: ...
def extensions_closed(interpreter_id: int, /) -> None: ...
def extensions_ended(interpreter_id: int, /) -> None: ...
def install_importer(interpreter_id: int, /) -> None: ...
def set_image_policy(
    private_names: str | None, shared_names: str | None, /
) -> None: ...
def spare_children(path: str, /) -> None: ...
def image_stats() -> dict[str, int]: ...

# channel.c

@final
class Channel:
    """A bounded queue between interpreters and threads.

    Several may send and several receive; the order of each sender is kept. A channel
    can itself be sent: both handles are of one channel. Iterating, also with `async
    for`, receives until it is closed and drained. It closes by itself when the last
    interpreter on one side closes.

    Args:
        capacity: How many objects it holds before `send` waits; at least 1.
        keep_open: Do not close when interpreters do.
    """

    def __new__(cls, capacity: int = 1024, *, keep_open: bool = False) -> Channel: ...
    def send(self, obj: object, timeout: float | None = None) -> None:
        """Send obj, waiting for room.

        The receiver gets a copy; buffers of 64 KiB and more that cannot change, and
        bytes of 4 KiB, are lent, not copied, and shared things (channels, locks,
        buffers) stay shared.
        Any thread of any interpreter may call; the GIL is not held while waiting.

        Args:
            obj: Anything that pickle can carry, functions and lambdas too.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Raises:
            NotShareableError: obj holds something that cannot be sent; the message
                names the path to it. Nothing was sent.
            ClosedError: The channel is closed, or this interpreter is closing.
            TimeoutError: There was no room in time.
        """

    def try_send(self, obj: object, /) -> None:
        """Send obj if there is room; never waits.

        Raises:
            Full: There is no room now.
            NotShareableError, ClosedError: As send().
        """

    def send_many(self, objects: Iterable[object], timeout: float | None = None) -> int:
        """Send each of objects, in order, waiting for room.

        Cheaper than as many send(): receivers are woken once for a batch. What
        stands before an object that cannot be sent is sent all the same.

        Args:
            objects: An iterable. Up to 256 of its objects are taken and packed before
                the first of them is sent.
            timeout: Seconds to wait, for all together; None waits for ever, 0 does not
                wait.

        Returns:
            How many there were.

        Raises:
            NotShareableError, ClosedError, TimeoutError: As send(). This and whatever
                else it raises has an attribute sent: how many were sent, the first
                ones.
        """

    def recv(self, timeout: float | None = None) -> Any:
        """Receive the first object, waiting for one.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The object. Each is received once, by one receiver.

        Raises:
            ClosedError: The channel is closed and drained, or this interpreter is
                closing.
            TimeoutError: Nothing came in time.
        """

    def try_recv(self) -> Any:
        """Receive the first object if there is one; never waits.

        Raises:
            Empty: There is nothing now.
            ClosedError: The channel is closed and drained.
        """

    def recv_many(self, limit: int = 256, timeout: float | None = None) -> list[Any]:
        """Receive what is there, waiting only for the first object.

        Args:
            limit: At most so many objects, and never more than 256.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            A list of at least one object. It ends before an object that cannot be
            unpacked, whose error the next receive on this handle raises.

        Raises:
            ClosedError, TimeoutError: As recv().
        """

    async def send_async(self, obj: object, timeout: float | None = None) -> None:
        """send() for coroutines: waits on the running event loop."""

    async def recv_async(self, timeout: float | None = None) -> Any:
        """recv() for coroutines: waits on the running event loop."""

    def close(self) -> None:
        """Refuse further sends; what was accepted can still be received.

        Waiting senders and, once it is drained, receivers get ClosedError. Closing
        again does nothing.
        """

    @property
    def closed(self) -> bool:
        """Whether sends are refused."""

    @property
    def capacity(self) -> int:
        """How many objects it holds at most."""

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Channel: ...
    def __next__(self) -> Any: ...
    def __aiter__(self) -> Channel: ...
    async def __anext__(self) -> Any: ...
    def __enter__(self) -> Channel: ...
    def __exit__(self, *exception: object) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def _try_send_packed(self, packed: object, /) -> None: ...

def pack_item(obj: object, /) -> object: ...

# subscription.c

@final
class Subscription:
    """What `Broadcast.subscribe` gives: receives like a `Channel`.

    Several threads may receive from one subscription; each object then goes to one of
    them. It can be sent to another interpreter, and takes part in `select`. Iterating,
    also with `async for`, receives until it is closed and drained.
    """

    def recv(self, timeout: float | None = None) -> Any:
        """Receive the next object, waiting for one.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            A copy of the object of this subscription's own.

        Raises:
            LaggedError: Objects before the next one were missed, because this
                subscription was full. The next call goes on behind them.
            ClosedError: The broadcast is closed and this is drained, or this
                interpreter is closing.
            TimeoutError: Nothing came in time.
        """

    def try_recv(self) -> Any:
        """Receive the next object if there is one; never waits.

        Raises:
            Empty: There is nothing now.
            LaggedError, ClosedError: As `recv`.
        """

    def recv_many(self, limit: int = 256, timeout: float | None = None) -> list[Any]:
        """Receive what is there, waiting only for the first object.

        Args:
            limit: At most so many objects, and never more than 256.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            A list of at least one object.

        Raises:
            LaggedError, ClosedError, TimeoutError: As `recv`.
        """

    async def recv_async(self, timeout: float | None = None) -> Any:
        """`recv` for coroutines: waits on the running event loop."""

    def close(self) -> None:
        """End the subscription: nothing more comes; what came can still be received.

        Dropping the last handle does the same.
        """

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""

    @property
    def capacity(self) -> int:
        """How many objects it holds at most."""

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Subscription: ...
    def __next__(self) -> Any: ...
    def __aiter__(self) -> Subscription: ...
    async def __anext__(self) -> Any: ...
    def __enter__(self) -> Subscription: ...
    def __exit__(self, *exception: object) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

# broadcast.c

@final
class Broadcast:
    """One to many: every subscriber receives every object, in one order.

    Several may send. An object is packed once, whatever the number of subscribers, and
    each receives a copy of its own. A broadcast can itself be sent.

    Args:
        capacity: How many objects each subscription holds; at least 1.
        slow: What becomes of a subscription that is full. `"block"`: senders wait for
            it. `"drop_oldest"`: it loses the oldest object, and its next receive raises
            `LaggedError` with the count. `"close"`: it ends; its receiver gets what is
            there, then `LaggedError`, then `ClosedError`.
    """

    def __new__(
        cls,
        capacity: int = 1024,
        *,
        slow: Literal["block", "drop_oldest", "close"] = "block",
    ) -> Broadcast: ...
    def send(self, obj: object, timeout: float | None = None) -> int:
        """Send obj to every subscriber.

        With `slow="block"` this waits for room at all of them: it reaches all, or, when
        it raises, none. Any thread of any interpreter may call; the GIL is not held
        while waiting.

        Args:
            obj: Anything that pickle can carry, functions and lambdas too.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            How many subscriptions got it.

        Raises:
            NotShareableError: obj holds something that cannot be sent.
            ClosedError: The broadcast is closed, or this interpreter is closing.
            TimeoutError: There was no room in time.
        """

    def try_send(self, obj: object, /) -> int:
        """Send obj if there is room at every subscriber; never waits.

        Raises:
            Full: There is none at one of them, and nobody got obj.
            NotShareableError, ClosedError: As `send`.
        """

    def send_many(self, objects: Iterable[object], timeout: float | None = None) -> int:
        """Send each of objects, in order, to every subscriber, as `send`.

        Cheaper than as many `send`: a subscriber is woken once for a batch. Others
        may send between any two of them. What stands before an object that cannot be
        sent is sent all the same.

        Args:
            objects: An iterable. Up to 256 of its objects are taken and packed before
                the first of them is sent.
            timeout: Seconds to wait, for all together; None waits for ever, 0 does not
                wait.

        Returns:
            How many there were.

        Raises:
            NotShareableError, ClosedError, TimeoutError: As `send`. This and whatever
                else it raises has an attribute `sent`: how many were sent, the first
                ones.
        """

    async def send_async(self, obj: object, timeout: float | None = None) -> int:
        """`send` for coroutines: waits on the running event loop."""

    def subscribe(self) -> Subscription:
        """A subscription that receives what is sent from now on.

        Raises:
            ClosedError: The broadcast is closed.
        """

    def close(self) -> None:
        """Refuse further sends; what was sent can still be received.

        Dropping the last handle, or closing the last interpreter that has one, does the
        same.
        """

    @property
    def closed(self) -> bool:
        """Whether sends are refused."""

    @property
    def capacity(self) -> int:
        """How many objects each subscription holds at most."""

    @property
    def slow(self) -> Literal["block", "drop_oldest", "close"]:
        """What becomes of a subscription that is full."""

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""

    def __enter__(self) -> Broadcast: ...
    def __exit__(self, *exception: object) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def _try_send_packed(self, packed: object, /) -> int: ...

# shared_dict.c

@final
class SharedDict(MutableMapping[str | bytes | int, Any]):
    """A dict that interpreters and threads share, and with `shared=True` processes.

    Keys are str, bytes or int; any other is a TypeError, also for `in` and `get`. Those
    of subclasses stand for what they equal: True for 1, an `IntEnum` or `StrEnum` for
    its value. A value is anything that a `Channel` can carry; what is read is a copy,
    and changing it changes nothing here. No lock is held while a value is packed or
    unpacked.

    What concerns one key (a read, a write, `setdefault`, `pop`, `compare_and_set`,
    `change`) is one step, and all see such steps in one order. What concerns several
    (iteration, `keys`, `values`, `items`, `update`, `clear`, `len`) is not: it shows
    each key as it was at some moment of the call. There is no order of the keys.

    One that processes share lies in `size` bytes of memory, of which about a tenth is
    its index; only what is used takes memory. An item takes 40 bytes, its key and its
    packed value, rounded up to 64, in one piece, and a value that is replaced is there
    until the new one is. Where that does not fit, `Full` is raised, and the old value
    stays. Its values are bytes that last: what goes to other processes by descriptor (a
    `Lock`, a `SharedBuffer`, a `SharedDict`) cannot stand in it, but its name can. Reads
    take no lock, unless writers are always faster; a process that is killed leaves the
    old value or the new one. To read or to write one key takes constant time, and the
    time for its bytes.

    It can be sent. One of this process that holds itself is never freed. Any thread of
    any interpreter that has it may call the methods. Two are equal when they are handles
    to one dict, so that it can be a key; `d.copy() == {...}` compares what is in it.

    Args:
        *args, **kwargs: Its first items, as for `dict`.
        shared: Whether other processes can have it.
        name: What they find it by, with `SharedDict.open`; this says `shared=True`.
        size: Bytes of its memory, 4096 to 2**37, rounded up to pages.

    Raises:
        FileExistsError: There is one of that name.
        Full: The first items do not fit.
    """

    def __new__(
        cls,
        *args: Any,
        shared: bool = False,
        name: str | None = None,
        size: int | None = 16777216,
        **kwargs: Any,
    ) -> SharedDict: ...
    @classmethod
    def open(cls, name: str, /) -> SharedDict:
        """The dict that another process, or this one, made with `name=`.

        Raises:
            FileNotFoundError: No process that may be looked into has it.
            TypeError: The name is that of something else.
            ValueError: The memory of that name is damaged, or of another version.
        """

    def __copy__(self) -> SharedDict:
        """Another handle to the same dict."""

    def __deepcopy__(self, memo: object, /) -> SharedDict:
        """The same items in a dict of their own, of the same kind and size."""

    def _describe(self) -> tuple[int, None] | None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __getitem__(self, key: str | bytes | int, /) -> Any: ...
    def __setitem__(self, key: str | bytes | int, value: object, /) -> None: ...
    def __delitem__(self, key: str | bytes | int, /) -> None: ...
    def __iter__(self) -> Iterator[str | bytes | int]: ...
    def __len__(self) -> int: ...
    def get(self, key: str | bytes | int, default: Any = None, /) -> Any: ...
    @overload
    def pop(self, key: str | bytes | int, /) -> Any: ...
    @overload
    def pop(self, key: str | bytes | int, default: _T, /) -> Any | _T:
        """Take key out and return its value: one step, so one caller gets it.

        A value that cannot be unpacked here (its class cannot be imported, say) stays,
        and the error is raised; `del` takes it out unseen.

        Raises:
            KeyError: It is not there, and there is no default.
        """

    def popitem(self) -> tuple[str | bytes | int, Any]:
        """Take any item out and return (key, value): one step, so one caller gets it.

        One that cannot be unpacked here stays, and the error is raised, with a note
        that says its key; the next call looks at another one first.

        Raises:
            KeyError: There is none.
        """

    def clear(self) -> None:
        """Take everything out, a part after the other.

        Where processes share it, what was more than a little memory (256 KiB) is the
        system's again, and memory that other programs wrote over is made whole.
        """

    def keys(self) -> list[str | bytes | int]:  # type: ignore[override]
        """A list of the keys: a snapshot, in no order."""

    def values(self) -> list[Any]:  # type: ignore[override]
        """A list of copies of the values: a snapshot, in no order."""

    def items(  # type: ignore[override]
        self,
    ) -> list[tuple[str | bytes | int, Any]]:
        """A list of (key, value): a snapshot, in no order."""

    def copy(self) -> dict[str | bytes | int, Any]:
        """A plain dict with copies of the values: a snapshot."""

    def __or__(self, other: dict[Any, Any] | SharedDict, /) -> dict[Any, Any]: ...
    def __ror__(self, other: dict[Any, Any], /) -> dict[Any, Any]: ...
    def __ior__(self, other: Any, /) -> Self: ...  # type: ignore[misc]
    def compare_and_set(
        self, key: str | bytes | int, expected: object, new: object, /
    ) -> bool:
        """Set key to new if its value equals expected: one step.

        Returns:
            Whether it did. False where key is not there: see `setdefault`.
        """

    def change(
        self,
        key: str | bytes | int,
        function: Callable[[Any], _T],
        default: Any = ...,
    ) -> _T:
        """Set key to function(its value): one step, for `d[key] += 1` is not.

        The function is called again where another change came between, so it must not
        change key itself.

        Args:
            key: A str, bytes or int.
            function: Called with a copy of the value, or with default.
            default: What stands for the value where there is none.

        Returns:
            The new value.

        Raises:
            KeyError: key is not there, and there is no default.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

# select.c

def select(channels: tuple[Any, ...], timeout: float | None, /) -> tuple[Any, Any]: ...

# wakeups.c

@final
class Wakeups:
    def fileno(self) -> int: ...
    def arm(self, channel: object, sends: bool, number: int, /) -> object: ...
    def collect(self) -> list[int]: ...

def disarm(armed: object, used: bool, /) -> None: ...

# server.c

def die_with_parent(signal: int, /) -> None: ...
def adopt_orphans() -> None: ...

@final
class Service:
    def __new__(
        cls,
        *,
        request_line_bytes: int = ...,
        head_bytes: int = ...,
        header_count: int = ...,
        body_bytes: int = ...,
        head_timeout: float = ...,
        body_timeout: float = ...,
        idle_timeout: float = ...,
        write_timeout: float = ...,
        linger_timeout: float = ...,
        ws_message_bytes: int = ...,
        ws_queue: int = ...,
        ws_ping_interval: float = ...,
        ws_ping_timeout: float = ...,
        ws_deflate: bool = ...,
        handshake_timeout: float = ...,
        forwarded_allow: str = ...,
        proxy_headers: bool = ...,
        proxy_protocol: bool = ...,
    ) -> Self: ...
    @property
    def number(self) -> int: ...
    def listen(self, host: str, port: int, backlog: int, /) -> None: ...
    def listen_unix(self, path: str, backlog: int, /) -> None: ...
    def adopt(self, descriptor: int, /) -> None: ...
    def mount(self, prefix: str, folder: str, /) -> None: ...
    def set_tls(
        self,
        certificates: tuple[tuple[str, str | None], ...],
        password: str | None,
        ca: str | None,
        verify: int,
        ciphers: str | None,
        h2: bool,
        /,
    ) -> None: ...
    def join_passage(self, receiving: int, sending: int, /) -> None: ...
    def retire(self) -> None: ...
    def descriptors(self) -> list[int]: ...
    def addresses(self) -> list[tuple[str, int]]: ...
    def drain(self) -> None: ...
    def drain_thread(self, thread: int, /) -> bool: ...
    def signal_thread(self, thread: int, number: int, /) -> bool: ...
    def probe(self) -> list[tuple[int, float]]: ...
    def give_up(self, thread: int, retry_after: int, /) -> tuple[int, int]: ...
    def cut(self, thread: int, retry_after: int, /) -> tuple[int, int]: ...
    def stats(self) -> list[dict[str, int]]: ...
    def workers(self) -> list[WorkerStats]: ...
    def restarts(self) -> dict[str, int]: ...
    def count_restart(self, why: str, /) -> None: ...
    def metrics(self) -> str: ...
    def set_overload(
        self,
        queue_delay: float,
        running: int,
        connections: int,
        connections_here: int,
        /,
    ) -> None: ...
    def set_control(
        self, metrics: str, health: str, ready: str, workers: int, /
    ) -> None: ...
    def listen_control(self, host: str, port: int, /) -> None: ...
    def set_h2(
        self,
        streams: int,
        stream_window: int,
        connection_window: int,
        resets: int,
        control: int,
        /,
    ) -> None: ...
    def set_most(self, thread: int, requests: int, /) -> None: ...
    def spent(self) -> int: ...
    def clear_spent(self) -> None: ...
    def log_access(self, path: str, format: str, /) -> None: ...
    def reopen_logs(self) -> None: ...
    def open_boards(self, processes: int, workers: int, /) -> int: ...
    def give_board(self, process: int, /) -> int: ...
    def take_board_back(self, place: int, /) -> None: ...
    def join_boards(self, descriptor: int, place: int, /) -> None: ...
    def start_guard(self) -> None: ...
    def control_addresses(self) -> list[tuple[str, int]]: ...

@final
class Worker:
    def __new__(
        cls,
        service: int,
        app: Callable[..., Any],
        loop: AbstractEventLoop,
        state: dict[str, Any] | None,
        root_path: str,
        on_error: Callable[[dict[str, Any] | None, BaseException | None, str], None],
        on_drain: Callable[[], None],
        on_drained: Callable[[], None],
        gone_class: type[OSError],
        index: int = 0,
        on_debug: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
    ) -> Self: ...
    @property
    def running(self) -> int: ...
    def run(self) -> None: ...
    def fileno(self) -> int: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...
    def overdue(
        self, seconds: float, /
    ) -> tuple[list[tuple[Task[Any], dict[str, Any]]], float]: ...
    def ask(self) -> int: ...
    def interrupt(self, batches: int, /) -> bool: ...
    def close(self) -> None: ...

@final
class WsgiWorker:
    def __new__(
        cls,
        service: int,
        app: Callable[..., Any],
        root_path: str,
        threads: int,
        processes: int,
        errors: Any,
        on_error: Callable[[dict[str, Any] | None, BaseException | None, str], None],
        file_wrapper: type[Any],
        gone_class: type[OSError],
        index: int = 0,
    ) -> Self: ...
    @property
    def running(self) -> int: ...
    def work(self) -> None: ...
    def wait_drain(self, timeout: float | None, /) -> bool: ...
    def wait_drained(self, timeout: float | None, /) -> bool: ...
    def drain(self) -> None: ...
    def interrupt(self, seconds: float, /) -> int: ...
    def end(self) -> None: ...

@final
class Message:
    @property
    def attachments(self) -> int: ...
    @property
    def sender(self) -> int: ...
    def __len__(self) -> int: ...

def pack(object: object, name: str | tuple[str, ...] = "object", /) -> Message: ...
def unpack(message: Message, /) -> Any: ...
def dumps(
    object: object,
    /,
    name: str | tuple[str, ...] = "object",
    *,
    whole: bool = False,
    apart: list[Any] = ...,
    apart_bytes: int = 0,
) -> bytes: ...
def type_version(type: type, /) -> int: ...
def loads(
    data: bytes | bytearray | memoryview,
    /,
    *,
    trusted: bool = False,
    apart: list[Any] = ...,
) -> Any: ...

# remedy.c

def leave_out(hazard: str, /) -> None: ...
def left_out() -> frozenset[str]: ...

# queue.c

@final
class Queue:
    """Messages found by number; see src/chan/queue.h."""

    def __new__(cls, limit: int, fate: int, tag: int) -> Self: ...
    @classmethod
    def find(cls, number: int, /) -> Self | None: ...
    @classmethod
    def list(cls) -> list[Self]: ...
    def put(self, obj: object, fate: int, timeout: float | None, /) -> None: ...
    def get(self, timeout: float | None, /) -> tuple[Any, int]: ...
    def close(self, drop: bool, /) -> None: ...
    @property
    def number(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def fate(self) -> int: ...
    @property
    def tag(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def waiting(self) -> int: ...
    def __len__(self) -> int: ...

# buffer.c

class _View:
    def release(self) -> None:
        """Let the memory go: this handle raises from now on. Others keep theirs.

        Raises:
            BufferError: A view of it (memoryview, array) is in use.
        """

    def toreadonly(self) -> Self:
        """A view of the same memory that cannot be written to."""

    def __copy__(self) -> Self:
        """Another handle to the same memory."""

    def __deepcopy__(self, memo: object, /) -> Self:
        """The same items in memory of their own, without a name."""

    def __eq__(self, other: object, /) -> bool:
        """Whether both look at the same memory, in the same way."""

    def __hash__(self) -> int: ...
    def _transfer(self) -> Self: ...
    def _describe(self) -> tuple[int, int, str, tuple[int, ...], bool]: ...
    @classmethod
    def _restore(
        cls,
        descriptor: int,
        offset: int,
        format: str,
        shape: int | Sequence[int],
        readonly: bool,
        /,
    ) -> Self: ...
    @property
    def nbytes(self) -> int:
        """Its size in bytes."""

    @property
    def readonly(self) -> bool:
        """Whether it cannot be written to through this handle."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size in items, for each dimension."""

    @property
    def dtype(self) -> str:
        """The type of an item, as numpy writes it."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> Self: ...
    @overload
    def __getitem__(self, key: int | tuple[int, ...], /) -> Any: ...
    def __setitem__(
        self, key: slice | int | tuple[int, ...], value: Any, /
    ) -> None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __dlpack__(self, **options: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

@final
class SharedBuffer(_View):
    """Bytes that every interpreter and process sees.

    Speaks the buffer protocol (PEP 3118) and DLPack. A slice without a step is a view
    of the same memory that can be sent.

    Two are equal, and hash alike, that look at the same bytes of one memory and may
    both write or both only read: handles that were sent and came back, not memory with
    the same contents, which `bytes()` compares. What was released or transferred equals
    itself alone.

    Args:
        size: Bytes, at least 1; zeros at first.
        name: By which `open_shared` finds it, up to 180 bytes.

    Raises:
        FileExistsError: There is memory of this name.
    """

    def __new__(cls, size: int, *, name: str | None = None) -> SharedBuffer: ...

@final
class SharedArray(_View):
    """Items of one type and a shape, which every interpreter and process sees.

    Speaks the buffer protocol (PEP 3118) and DLPack: `numpy.asarray` gives a view. A
    slice of the first dimension, without a step, is a view that can be sent.

    Two are equal, and hash alike, that look at the same memory with the same shape and
    dtype and may both write or both only read, as it is with `SharedBuffer`. Items are
    compared by `numpy.asarray`.

    Args:
        shape: How many items, for each of 1 to 32 dimensions; zeros at first.
        dtype: The type of an item, in the machine's byte order: bool, int8 to int64,
            uint8 to uint64, float16 to float64, complex64 or complex128. Its name
            (`"float32"`), numpy's code (`"f4"`), its `struct` format, a `numpy.dtype`,
            or a class of that name (`numpy.float32`, `float`).
        name: By which `open_shared` finds it, up to 180 bytes.

    Raises:
        TypeError: dtype is another, or of the other byte order.
        FileExistsError: There is memory of this name.
    """

    def __new__(
        cls, shape: int | Sequence[int], dtype: Any, *, name: str | None = None
    ) -> SharedArray: ...

def item_format(dtype: Any, /) -> str | None: ...

# Doors to the protocol parsers, for tests and tools (src/bind/http.c).
def h1_parse(data: bytes, /) -> dict[str, Any] | None: ...
def ws_read(
    data: bytes, message_bytes_max: int, deflate: bool, /
) -> tuple[list[tuple[int, bytes, int]], tuple[int, str] | None]: ...
def ws_write(messages: tuple[tuple[int, bytes], ...], deflate: bool, /) -> bytes: ...

# sync.c and sync_*.c

def sync_adopt(descriptor: int, lock: object, /) -> Any: ...
def atomic_at(buffer: SharedBuffer, offset: int, /) -> AtomicInt: ...
def check_alignment(buffer: SharedBuffer, offset: int, alignment: int, /) -> None: ...

class _Sync:
    """What all of these have: `shared=True` or a name is for other processes."""

    def _describe(self) -> tuple[int, Lock | RLock | None] | None: ...
    @classmethod
    def open(cls, name: str, /) -> Self: ...

class _Lock(_Sync):
    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def mark_consistent(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exception: object) -> None: ...

@final
class Lock(_Lock):
    """`threading.Lock`, between interpreters and processes."""

    def __new__(cls, *, shared: bool = False, name: str | None = None) -> Self: ...

@final
class RLock(_Lock):
    """`threading.RLock`, between interpreters and processes."""

    def __new__(cls, *, shared: bool = False, name: str | None = None) -> Self: ...

@final
class Condition(_Lock):
    """`threading.Condition`, between interpreters and processes."""

    def __new__(
        cls,
        lock: Lock | RLock | None = None,
        *,
        shared: bool = False,
        name: str | None = None,
    ) -> Self: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def wait_for(
        self, predicate: Callable[[], _T], timeout: float | None = None
    ) -> _T: ...
    def notify(self, n: int = 1) -> None: ...
    def notify_all(self) -> None: ...

@final
class Event(_Sync):
    """`threading.Event`, between interpreters and processes."""

    def __new__(cls, *, shared: bool = False, name: str | None = None) -> Self: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...

class _Semaphore(_Sync):
    def __new__(
        cls, value: int = 1, *, shared: bool = False, name: str | None = None
    ) -> Self: ...
    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool: ...
    def release(self, n: int = 1) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exception: object) -> None: ...

@final
class Semaphore(_Semaphore):
    """`threading.Semaphore`, between interpreters and processes."""

@final
class BoundedSemaphore(_Semaphore):
    """`threading.BoundedSemaphore`, between interpreters and processes."""

@final
class Barrier(_Sync):
    """`threading.Barrier`, between interpreters and processes."""

    def __new__(
        cls,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: None = None,
        *,
        shared: bool = False,
        name: str | None = None,
    ) -> Self: ...
    def wait(self, timeout: float | None = None) -> int: ...
    action: Callable[[], object] | None
    def abort(self) -> None: ...
    def reset(self) -> None: ...
    @property
    def parties(self) -> int: ...
    @property
    def n_waiting(self) -> int: ...
    @property
    def broken(self) -> bool: ...

@final
class AtomicInt(_Sync):
    """An int of 64 bits that threads, interpreters and processes change without a lock.

    Each operation is atomic and sequentially consistent. Arithmetic wraps around:
    2**63 - 1 and one more is -2**63. `counter += n` is atomic; `int(counter)`,
    `bool(counter)` and `operator.index(counter)` are `load`. Two are equal that are one
    thing, whatever their values: compare numbers with `counter.load() == 5`.

    Args:
        value: What it is at first.
        shared: For other processes too.
        name: By which `AtomicInt.open(name)` finds it, in any process of the same user.

    Raises:
        TypeError: value is no int.
        OverflowError: value has more than 64 bits; so it is for every method.
        FileExistsError: Something has that name.
    """

    def __new__(
        cls,
        value: SupportsIndex = 0,
        *,
        shared: bool = False,
        name: str | None = None,
    ) -> Self: ...
    def load(self) -> int:
        """The value now."""

    def store(self, value: SupportsIndex, /) -> None:
        """Set the value."""

    def exchange(self, value: SupportsIndex, /) -> int:
        """Set the value, and return the one before."""

    def add(self, n: SupportsIndex = 1, /) -> int:
        """Add n, modulo 2**64, and return the value after."""

    def sub(self, n: SupportsIndex = 1, /) -> int:
        """Subtract n, modulo 2**64, and return the value after."""

    def fetch_add(self, n: SupportsIndex, /) -> int:
        """Add n, modulo 2**64, and return the value before."""

    def fetch_sub(self, n: SupportsIndex, /) -> int:
        """Subtract n, modulo 2**64, and return the value before."""

    def fetch_and(self, bits: SupportsIndex, /) -> int:
        """Keep those bits alone, and return the value before."""

    def fetch_or(self, bits: SupportsIndex, /) -> int:
        """Set those bits, and return the value before."""

    def fetch_xor(self, bits: SupportsIndex, /) -> int:
        """Flip those bits, and return the value before."""

    def compare_exchange(
        self, expected: SupportsIndex, desired: SupportsIndex, /
    ) -> bool:
        """Set the value to desired if it is expected.

        Returns:
            Whether it was.
        """

    def wait(self, old: SupportsIndex, timeout: float | None = None) -> int:
        """Wait while the value is old: until somebody changed it and called `notify`.

        Args:
            old: What the value was.
            timeout: Seconds to wait; None waits for ever, 0 does not wait.

        Returns:
            The value, which is another than old.

        Raises:
            TimeoutError: It was old all the time.
            ClosedError: This interpreter is closing.
        """

    def notify(self, n: int = 1, /) -> int:
        """Let up to n of those who wait look at the value. Returns how many slept."""

    def notify_all(self) -> int:
        """Let all of those who wait look at the value. Returns how many slept."""

    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iadd__(self, n: SupportsIndex, /) -> Self: ...
    def __isub__(self, n: SupportsIndex, /) -> Self: ...

@disjoint_base
class PoolFutureBase:
    @property
    def _task_id(self) -> int: ...
    @property
    def _pool(self) -> Any: ...
    _function: Any
    _state: str
    _result: Any
    _exception: Any
    _interrupt: bool
    _interrupt_sent: bool
    _waiters: list[Any]
    _done_callbacks: list[Any]
    @property
    def _made(self) -> threading.Condition | None: ...
    def _settle(self, state: str, result: Any, exception: Any, /) -> bool: ...
    def _adopt(self, condition: threading.Condition, /) -> threading.Condition: ...

@final
class Desk[F: PoolFutureBase]:
    @property
    def futures(self) -> dict[int, F]: ...
    def __new__(
        cls,
        scheduler: Scheduler,
        pool: Any,
        type: type[F],
        values: dict[int, tuple[Any, BaseException | None]] | None,
        pending: str,
        finished: str,
    ) -> Self: ...
    def future(self, function: Any, /) -> F: ...
    def submit(self, function: Any, args: Any, kwargs: Any, /) -> F: ...
    def collect(self, timeout: float | None, /) -> list[Any]: ...
    def lead(
        self, future: F, timeout: float | None, left: list[Any], /
    ) -> bool | BaseException | None: ...

@final
class Scheduler:
    def __new__(cls, workers: int, address: int = 0) -> Self: ...
    def submit(
        self, id: int, function: Any, args: Any, kwargs: Any, worker: int, /
    ) -> None: ...
    def submit_number(self, id: int, worker: int, /) -> None: ...
    def submit_bytes(
        self, id: int, data: bytes, worker: int, beside: bool = False, /
    ) -> None: ...
    def work(
        self,
        worker: int,
        limit: int,
        runner: Any,
        report: Any,
        settle: Any,
        heap_limit: int = 0,
        /,
    ) -> int: ...
    def feed(
        self, worker: int, socket: int, limit: int, /
    ) -> tuple[int, int, Any, int, bytes, int]: ...
    def finish_bytes(self, task: Any, outcome: int, data: bytes, /) -> bool: ...
    def put_back(self, task: Any, /) -> bool: ...
    def share_gil(self) -> None: ...
    def lead_release(self, id: int, /) -> None: ...
    def notice(self, worker: int, object: object, /) -> None: ...
    def cancel(self, id: int, /) -> bool: ...
    def cancel_all(self) -> int: ...
    def running(self, id: int, interrupt: bool = False, /) -> int: ...
    def done(self, worker: int, /) -> int: ...
    def current(self, worker: int, /) -> int: ...
    def stop_worker(self, worker: int, stop: bool, /) -> None: ...
    def close(self) -> None: ...
    def nudge(self) -> None: ...
    def running_seconds(self, number: int, /) -> float: ...
    def abandon(self, number: int, /) -> int: ...
    def wait_room(self, limit: int, /) -> None: ...
    def queued(self) -> int: ...
    def share(self) -> int: ...

# pool_feed.c

def block_head(kind: int, size_bytes: int, region_count: int, /) -> bytes: ...
def block_head_read(head: bytes | bytearray, /) -> tuple[int, int, int]: ...
def block_send(socket: int, kind: int, data: bytes, /) -> None: ...
def block_receive(socket: int, /) -> tuple[int, bytes, int]: ...

# frames.c

def current_frames() -> dict[int, types.FrameType]: ...
def current_exceptions() -> dict[int, BaseException | None]: ...
