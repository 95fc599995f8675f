"""One to many: atoll.Broadcast, between threads and interpreters."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from atoll import (
    Broadcast,
    Channel,
    ClosedError,
    Empty,
    Full,
    Interpreter,
    LaggedError,
    NotShareableError,
    SharedBuffer,
    Subscription,
    select,
)

WAIT = 60.0


def test_each_subscriber_gets_what_came_after_it() -> None:
    broadcast = Broadcast(8)
    assert broadcast.send("nobody") == 0
    first = broadcast.subscribe()
    assert broadcast.send({"a": [1]}) == 1
    second = broadcast.subscribe()
    assert broadcast.try_send(2.5) == 2
    assert broadcast.subscribers == 2
    assert [first.recv(), first.recv()] == [{"a": [1]}, 2.5]
    assert second.recv() == 2.5
    with pytest.raises(Empty):
        second.try_recv()


def test_each_gets_a_copy_of_its_own() -> None:
    broadcast = Broadcast()
    one, other = broadcast.subscribe(), broadcast.subscribe()
    array = bytearray(b"x" * 100_000)
    broadcast.send([array])
    first, second = one.recv(), other.recv()
    first[0][0] = 0
    assert bytes(second[0]) == bytes(array)


def test_an_object_is_packed_once() -> None:
    packed = []

    class Counted:
        def __reduce__(self) -> Any:
            packed.append(1)
            return int, (7,)

    broadcast = Broadcast()
    subscriptions = [broadcast.subscribe() for _ in range(5)]
    assert broadcast.send(Counted()) == 5
    assert [each.recv() for each in subscriptions] == [7] * 5
    assert len(packed) == 1


def test_shared_things_stay_shared() -> None:
    broadcast = Broadcast()
    one, other = broadcast.subscribe(), broadcast.subscribe()
    broadcast.send(SharedBuffer(16))
    first, second = one.recv(), other.recv()
    memoryview(first)[3] = 9
    assert memoryview(second)[3] == 9


def test_block_is_all_or_nothing() -> None:
    broadcast = Broadcast(1)
    fast, slow = broadcast.subscribe(), broadcast.subscribe()
    broadcast.send(1)
    assert fast.recv() == 1
    with pytest.raises(Full):
        broadcast.try_send(2)
    with pytest.raises(TimeoutError):
        broadcast.send(2, timeout=0.01)
    with pytest.raises(Empty):
        fast.try_recv()
    assert slow.recv() == 1
    assert broadcast.send(2, timeout=WAIT) == 2
    slow.close()
    assert fast.recv() == 2
    assert broadcast.send(3, timeout=WAIT) == 1  # one that is closed is passed over
    assert broadcast.slow == "block"


def test_a_waiting_sender_goes_on_when_the_slow_one_is_dropped() -> None:
    broadcast = Broadcast(1)
    slow: Subscription | None = broadcast.subscribe()
    broadcast.send(1)
    sent: list[int] = []
    thread = threading.Thread(target=lambda: sent.append(broadcast.send(2, WAIT)))
    thread.start()
    slow = None
    gc.collect()
    thread.join(WAIT)
    assert sent == [0] and slow is None


def test_drop_oldest_tells_how_many() -> None:
    broadcast = Broadcast(2, slow="drop_oldest")
    subscription = broadcast.subscribe()
    for number in range(10):
        assert broadcast.send(number) == 1
    with pytest.raises(LaggedError) as caught:
        subscription.recv()
    assert caught.value.missed == 8
    assert caught.value.subscription is subscription
    assert subscription.recv_many() == [8, 9]
    broadcast.send(10)
    assert subscription.recv() == 10


def test_a_batch_ends_before_a_gap_or_the_end() -> None:
    broadcast = Broadcast(3, slow="close")
    subscription = broadcast.subscribe()
    for number in range(4):
        broadcast.send(number)
    assert subscription.recv_many() == [0, 1, 2]
    with pytest.raises(LaggedError):
        subscription.recv_many()
    with pytest.raises(ClosedError):
        subscription.recv_many()


def test_select_and_iteration_tell_it_as_well() -> None:
    broadcast = Broadcast(1, slow="drop_oldest")
    subscription = broadcast.subscribe()
    broadcast.send(1)
    broadcast.send(2)
    with pytest.raises(LaggedError, match="1 object was missed") as caught:
        select(Channel(), subscription, timeout=WAIT)
    assert caught.value.subscription is subscription
    assert select(subscription, timeout=WAIT) == (subscription, 2)
    broadcast.send(3)
    broadcast.send(4)
    broadcast.close()
    with pytest.raises(LaggedError):
        next(subscription)
    assert list(subscription) == [4]


def test_close_ends_the_slow_one_after_what_it_has() -> None:
    broadcast = Broadcast(2, slow="close")
    subscription = broadcast.subscribe()
    assert [broadcast.send(i) for i in range(4)] == [1, 1, 0, 0]
    assert subscription.closed and broadcast.subscribers == 0
    assert [subscription.recv(), subscription.recv()] == [0, 1]
    with pytest.raises(LaggedError):
        subscription.recv()
    with pytest.raises(ClosedError):
        subscription.recv()
    assert not broadcast.closed


def test_closing() -> None:
    with Broadcast() as broadcast:
        subscription = broadcast.subscribe()
        broadcast.send("last")
    assert broadcast.closed
    assert list(subscription) == ["last"]
    with pytest.raises(ClosedError):
        broadcast.send(1)
    with pytest.raises(ClosedError):
        broadcast.subscribe()


def test_dropping_the_last_handle_closes() -> None:
    broadcast = Broadcast()
    subscription = broadcast.subscribe()
    broadcast.send(1)
    del broadcast
    gc.collect()
    assert list(subscription) == [1]


def test_misuse() -> None:
    with pytest.raises(ValueError):
        Broadcast(0)
    with pytest.raises(ValueError):
        Broadcast(slow="hope")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Subscription()
    with pytest.raises(NotShareableError):
        Broadcast().send(threading.Lock())
    with pytest.raises(TypeError):
        Broadcast().subscribe(3)  # type: ignore[call-arg]
    assert not hasattr(Broadcast().subscribe(), "send")


def total(subscription: Subscription, ready: Channel) -> int:
    ready.send(None)
    return sum(subscription)


def test_across_interpreters() -> None:
    broadcast, ready = Broadcast(16), Channel()
    results: list[int] = []
    interpreters = [Interpreter() for _ in range(2)]
    threads = []
    for interpreter in interpreters:
        arguments = (total, broadcast.subscribe(), ready)
        thread = threading.Thread(
            target=lambda i=interpreter, a=arguments: results.append(i.call(*a))
        )
        thread.start()
        threads.append(thread)
    for _ in interpreters:
        ready.recv(WAIT)
    for number in range(1000):
        broadcast.send(number, timeout=WAIT)
    broadcast.close()
    for thread in threads:
        thread.join(WAIT)
    for interpreter in interpreters:
        interpreter.close()
    assert results == [sum(range(1000))] * 2


def subscribe_there(broadcast: Broadcast, keep: Channel) -> None:
    import builtins

    builtins.kept = [broadcast.subscribe(), broadcast]  # type: ignore[attr-defined]
    keep.send(broadcast.subscribers)


def test_a_closed_interpreter_holds_up_nobody() -> None:
    broadcast, told = Broadcast(1), Channel()
    here = broadcast.subscribe()
    with Interpreter() as interpreter:
        interpreter.call(subscribe_there, broadcast, told)
        assert told.recv(WAIT) == 2
        broadcast.send(1)
        assert here.recv() == 1
        with pytest.raises(Full):
            broadcast.try_send(2)
    assert broadcast.send(2, timeout=WAIT) == 1
    assert here.recv() == 2 and broadcast.subscribers == 1


def send_there(broadcast: Broadcast) -> list[int]:
    return [broadcast.send(number, timeout=60) for number in range(100)]


def test_a_broadcast_can_be_sent() -> None:
    broadcast = Broadcast(200)
    subscription = broadcast.subscribe()
    with Interpreter() as interpreter:
        assert interpreter.call(send_there, broadcast) == [1] * 100
        there = interpreter.call(lambda given: given, broadcast)
        assert there == broadcast and hash(there) == hash(broadcast)
    assert subscription.recv_many() == list(range(100))
    assert not broadcast.closed


def test_several_senders_in_one_order_for_all() -> None:
    broadcast = Broadcast(4)
    subscriptions = [broadcast.subscribe() for _ in range(3)]
    got: list[list[Any]] = [[], [], []]
    receivers = [
        threading.Thread(target=lambda i=i: got[i].extend(subscriptions[i]))
        for i in range(3)
    ]
    senders = [
        threading.Thread(
            target=lambda name=name: [
                broadcast.send((name, number), WAIT) for number in range(300)
            ]
        )
        for name in "ab"
    ]
    for thread in receivers + senders:
        thread.start()
    for thread in senders:
        thread.join(WAIT)
    broadcast.close()
    for thread in receivers:
        thread.join(WAIT)
    assert got[0] == got[1] == got[2]
    for name in "ab":
        assert [n for who, n in got[0] if who == name] == list(range(300))


def test_on_an_event_loop() -> None:
    async def main() -> tuple[list[Any], list[Any]]:
        broadcast = Broadcast(1)
        one, other = broadcast.subscribe(), broadcast.subscribe()

        async def take(subscription: Subscription) -> list[Any]:
            return [each async for each in subscription]

        tasks = [asyncio.create_task(take(one)), asyncio.create_task(take(other))]
        for number in range(50):
            assert await broadcast.send_async(number, timeout=WAIT) == 2
        broadcast.close()
        async with asyncio.timeout(WAIT):
            return await tasks[0], await tasks[1]

    assert asyncio.run(main()) == (list(range(50)), list(range(50)))


def test_async_send_packs_once() -> None:
    packed = []

    class Counted:
        def __reduce__(self) -> Any:
            packed.append(1)
            return int, (7,)

    async def main() -> None:
        channel = Channel(1)
        channel.send(0)
        sending = asyncio.create_task(channel.send_async(Counted(), timeout=WAIT))
        while not packed:
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await channel.send_async(1, timeout=0.01)
        assert channel.recv() == 0
        await sending
        assert await channel.recv_async() == 7

    asyncio.run(main())
    assert len(packed) == 1
