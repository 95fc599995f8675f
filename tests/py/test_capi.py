"""The C API: the example's C threads send and receive without a thread state."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Any

import pytest

from atoll import Channel, ClosedError, Interpreter

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("capi")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{ROOT / 'include'}"]
    source = ROOT / "examples/c_api/feed.c"
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-pthread", "-Wall"]
    command += [*includes, "-o", f"{folder}/feed{suffix}", str(source)]
    subprocess.run(command, check=True)
    sys.path.insert(0, str(folder))
    try:
        import feed  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(folder))
    return feed


def expected(count: int) -> list[bytes]:
    return [*(b"number %d" % i for i in range(count)), b"x" * (1 << 20)]


def test_a_c_thread_feeds_a_receiver(feed: Any) -> None:
    channel = Channel(4)
    feed.start(channel, 1000)
    received = []
    with pytest.raises(ClosedError):
        while True:
            received.append(channel.recv(timeout=DEADLINE))
    assert all(type(message) is bytes for message in received[:-1])
    assert [bytes(message) for message in received] == expected(1000)


def collect(channel: Channel) -> list[bytes]:
    return [bytes(message) for message in channel]


def test_a_c_thread_feeds_another_interpreter(feed: Any) -> None:
    channel = Channel(4)
    with Interpreter() as interpreter:
        feed.start(channel, 100)
        assert interpreter.call(collect, channel) == expected(100)


def test_closing_refuses_the_c_thread(feed: Any) -> None:
    channel = Channel(1)
    feed.start(channel, 10**9)
    assert channel.recv(timeout=DEADLINE) == b"number 0"
    channel.close()
    accepted = list(channel)
    assert accepted == [b"number %d" % (i + 1) for i in range(len(accepted))]


def test_c_receives(feed: Any) -> None:
    channel = Channel(4)

    def send() -> None:
        long, longer = b"x" * 5000, b"x" * 100_000  # apart from the message
        for obj in (b"", b"seven77", long, longer, 7, "text", None, 1.5, [1], b"ab"):
            channel.send(obj, timeout=DEADLINE)
        channel.close()

    sender = threading.Thread(target=send)
    sender.start()
    assert feed.total(channel) == (0 + 7 + 5000 + 100_000 + 2, 5)
    sender.join(DEADLINE)


def test_c_receives_a_batch(feed: Any) -> None:
    """Small messages of one batch lie together, and are bytes all the same."""
    channel = Channel(64)
    objects = [b"", b"eight888", (1, 2), b"x" * 900, "some more text", b"y" * 2000]
    assert channel.send_many(objects * 8) == 48
    channel.close()
    assert feed.total(channel) == (8 * (8 + 900 + 2000), 16)


def test_only_channels_have_one(feed: Any) -> None:
    with pytest.raises(TypeError):
        feed.start(object(), 1)
