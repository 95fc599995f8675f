"""`atoll.pep554`: the channels of PEP 554."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import atoll
from atoll import interpreters
from atoll.pep554 import (
    ChannelClosedError,
    ChannelEmptyError,
    ChannelNotEmptyError,
    ChannelNotFoundError,
    RecvChannel,
    create_channel,
    list_all_channels,
)

WAIT = 60


def test_channel_is_found_and_listed():
    receiving, sending = create_channel()
    assert (receiving, sending) in list_all_channels()
    assert RecvChannel(receiving.id) == receiving
    number = receiving.id
    sending.close()
    assert receiving.is_closed
    assert (receiving, sending) not in list_all_channels()
    with pytest.raises(ChannelClosedError):
        receiving.recv()
    with pytest.raises(ChannelClosedError):
        sending.send(1)
    with pytest.raises(ChannelClosedError):
        sending.close()
    del receiving, sending
    gc.collect()
    with pytest.raises(ChannelNotFoundError):
        RecvChannel(number)


def test_send_waits_for_the_receiver():
    receiving, sending = create_channel()
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(sending.send, {"a": 1})
        assert receiving.recv(WAIT) == {"a": 1}
        sent.result(WAIT)


def test_what_was_given_up_is_not_received():
    receiving, sending = create_channel()
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        sending.send("late", timeout=0.2)
    assert time.monotonic() - begin >= 0.2
    sending.send_nowait("next")
    assert receiving.recv_nowait() == "next"
    with pytest.raises(ChannelEmptyError):
        receiving.recv_nowait()
    assert receiving.recv_nowait("default") == "default"
    with pytest.raises(TimeoutError):
        receiving.recv(timeout=0.05)


def test_send_nowait_says_whether_somebody_waits():
    receiving, sending = create_channel()
    assert sending.send_nowait(1) is False
    assert receiving.recv() == 1
    with ThreadPoolExecutor(1) as threads:
        received = threads.submit(receiving.recv, WAIT)
        deadline = time.monotonic() + WAIT
        while not receiving._core.waiting and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        assert sending.send_nowait(2) is True
        assert received.result(WAIT) == 2


def test_close_minds_what_was_not_received():
    receiving, sending = create_channel()
    sending.send_nowait(1)
    with pytest.raises(ChannelNotEmptyError):
        receiving.close()
    receiving.close(force=True)
    with pytest.raises(ChannelClosedError):
        receiving.recv_nowait()


def test_close_ends_the_wait_of_a_sender():
    receiving, sending = create_channel()
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(sending.send, 1, WAIT)
        deadline = time.monotonic() + WAIT
        while not len(receiving._core) and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        receiving.close(force=True)
        with pytest.raises(ChannelClosedError):
            sent.result(WAIT)


def test_between_interpreters():
    receiving, sending = create_channel()
    answers, answering = create_channel()

    def serve(receiving, answering):
        while (value := receiving.recv(60)) is not None:
            answering.send(value * 2, 60)

    made = interpreters.create()
    thread = made.call_in_thread(serve, receiving, answering)
    for value in range(20):
        sending.send(value, WAIT)
        assert answers.recv(WAIT) == value * 2
    sending.send(None, WAIT)
    thread.join(WAIT)
    made.close()


def test_send_buffer_shares_memory():
    receiving, sending = create_channel()
    shared = atoll.SharedBuffer(16)
    sending.send_buffer_nowait(shared)
    received = receiving.recv(WAIT)
    memoryview(shared)[3] = 77
    assert memoryview(received)[3] == 77
    sending.send_buffer_nowait(bytearray(b"copied"))
    assert bytes(receiving.recv(WAIT)) == b"copied"
    with pytest.raises(TypeError):
        sending.send_buffer_nowait("text")
