"""Buffers: what is lent, what is copied, and what comes of arrays."""

import gc
import pickle
import subprocess
import sys
import sysconfig
import threading
import weakref

import pytest
from parcels import by_bytes, trip
from waiting import wait_until

import atoll
from atoll import _atoll

BLOCK_BYTES = 64 << 10


@pytest.mark.parametrize("size", [0, 10, BLOCK_BYTES - 1, BLOCK_BYTES, 3 << 20])
@pytest.mark.parametrize("readonly", [True, False])
def test_buffers(size, readonly):
    source = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    buffer = pickle.PickleBuffer(source if readonly else bytearray(source))
    got = memoryview(trip(buffer))
    assert got.readonly is readonly and bytes(got) == source
    assert bytes(by_bytes(buffer)) == source
    if not readonly and size:
        got[0] = 7
        assert bytes(buffer) == source


def test_readonly_memory_is_lent_and_comes_back():
    class Owner(bytearray):
        pass

    owner = Owner(BLOCK_BYTES)
    view = memoryview(owner).toreadonly()
    message = _atoll.pack(pickle.PickleBuffer(view))
    assert message.attachments == 1
    got = memoryview(_atoll.unpack(message))
    owner[0] = 9  # the same memory, and so it shows
    assert got[0] == 9
    del message
    with pytest.raises(BufferError):
        owner.append(1)
    got.release()
    del got, view
    gc.collect()
    trip(None)  # what was lent comes back when its owner next packs
    owner.append(1)


LENT_BYTES = 4 << 10
RETURNED_BYTES = 1 << 20
LENT_LIMIT_BYTES = 32 << 20
DEADLINE_S = 60


@pytest.mark.parametrize("size", [LENT_BYTES - 1, LENT_BYTES, BLOCK_BYTES])
def test_bytes_are_lent_and_let_go(size):
    source = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    held = sys.getrefcount(source)
    message = _atoll.pack([source, source])
    assert (message.attachments == 1) is (size >= LENT_BYTES)
    first, second = _atoll.unpack(message)
    assert first == source and first is second and first is not source
    del message
    trip(None)  # what was lent comes back when its owner next packs
    assert sys.getrefcount(source) == held
    assert by_bytes(source) == source


def test_what_is_lent_comes_back_to_one_that_packs_no_more():
    source = bytes(RETURNED_BYTES)
    uses = lambda: sys.getrefcount(source)  # noqa: E731
    held = uses()
    message = _atoll.pack(source)
    assert uses() > held
    del message
    wait_until(lambda: uses() == held, "it did not come back")


def test_what_is_lent_comes_back_while_others_run():
    def take(channel, count, taken, finish):
        for _ in range(count):
            assert len(channel.recv()) > 0
        taken.set()
        finish.wait()

    source = bytes(256 << 10)
    count = 16
    uses = lambda: sys.getrefcount(source)  # noqa: E731
    held = uses()
    channel, taken, finish = atoll.Channel(count), atoll.Event(), atoll.Event()
    with atoll.Interpreter() as other:
        thread = threading.Thread(
            target=other.call, args=(take, channel, count, taken, finish)
        )
        thread.start()
        try:
            for _ in range(count):
                channel.send(source)
            assert taken.wait(DEADLINE_S)
            # Less than what it is asked to take may be left, for when it packs again.
            wait_until(
                lambda: uses() - held <= RETURNED_BYTES // len(source),
                "it did not come back",
            )
        finally:
            finish.set()
            thread.join()


def take_and_wait(channel, freed):
    data = channel.recv()
    assert len(memoryview(data)) > 0
    del data
    return freed.wait(60)


# There an object is freed by the thread that made it, when it next runs Python.
needs_gil = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="freed by its own thread"
)


@needs_gil
def test_what_is_lent_comes_back_to_one_that_waits_in_c():
    source = memoryview(bytes(RETURNED_BYTES))
    channel, freed = atoll.Channel(), atoll.Event()
    weakref.finalize(source, freed.set)
    channel.send(pickle.PickleBuffer(source))
    del source
    assert not freed.is_set()
    # No thread of main runs any Python until the call returns.
    with atoll.Interpreter() as other:
        assert other.call(take_and_wait, channel, freed)


def test_again_and_again_and_at_the_exit():
    """Main waits, computes and ends while others bring back what it lent."""
    program = """if True:
        import atoll, sys, time

        def take(channel, count, seconds):
            for _ in range(count):
                assert len(channel.recv()) == 2 << 20
                time.sleep(seconds)

        channel = atoll.Channel(100)
        other = atoll.Interpreter()
        for seconds in (0, 0.01, 0.06):
            for _ in range(5):
                channel.send(bytes(2 << 20))
            other.call(take, channel, 5, seconds)
            sum(range(1_000_000))
        for _ in range(5):
            channel.send(bytes(2 << 20))
        other.call(take, channel, 5, 0)
        time.sleep(float(sys.argv[1]))
        """
    for seconds in ("0", "0.09", "0.1"):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", program, seconds],
            capture_output=True,
            timeout=DEADLINE_S * 2,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_gil
def test_in_a_forked_child():
    """What the parent's thread is about to do is done by one of the child's own."""
    program = """if True:
        import os, pickle, weakref
        import atoll
        from atoll import _atoll

        def take_and_wait(channel, freed):
            assert len(memoryview(channel.recv())) == 2 << 20
            return freed.wait(60)

        _atoll.pack(bytes(2 << 20))  # and gone: a thread comes in a moment
        child = os.fork()
        source = memoryview(bytes(2 << 20))
        channel, freed = atoll.Channel(), atoll.Event()
        weakref.finalize(source, freed.set)
        channel.send(pickle.PickleBuffer(source))
        del source
        with atoll.Interpreter() as other:
            assert other.call(take_and_wait, channel, freed)
        if child:
            assert os.waitpid(child, 0)[1] == 0
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        timeout=DEADLINE_S * 3,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_no_more_than_some_is_lent():
    gc.collect()
    trip(None)  # what came back before
    source = bytes(16 << 10)
    held = sys.getrefcount(source)
    messages = [_atoll.pack(source) for _ in range(3000)]
    lent = sum(each.attachments for each in messages)
    assert 0 < lent <= LENT_LIMIT_BYTES // len(source)
    assert messages[0].attachments == 1 and messages[-1].attachments == 0
    assert _atoll.unpack(messages[0]) == _atoll.unpack(messages[-1]) == source
    # A large one is lent all the same, copying it is what costs.
    assert _atoll.pack(bytes(1 << 20)).attachments == 1
    messages.clear()
    trip(None)
    assert sys.getrefcount(source) == held
    assert _atoll.pack(source).attachments == 1


def test_writable_memory_is_copied_for_each_receiver():
    message = _atoll.pack(pickle.PickleBuffer(bytearray(BLOCK_BYTES)))
    first = memoryview(_atoll.unpack(message))
    second = memoryview(_atoll.unpack(message))
    first[0] = 1
    assert second[0] == 0


def test_numpy():
    np = pytest.importorskip("numpy")
    for array_ in (
        np.arange(10),
        np.arange(10**5, dtype="f8").reshape(100, -1),
        np.asfortranarray(np.arange(10**5).reshape(10, -1)),
        np.arange(10**5)[::2],
        np.array(["a", None], dtype=object),
        np.zeros((), dtype="i4"),
        np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.array([1, 2], mask=[0, 1]),
        np.datetime64("2024-01-01"),
    ):
        got = trip(array_)
        assert type(got) is type(array_) and got.dtype == array_.dtype
        assert np.array_equal(np.asarray(got), np.asarray(array_))
    big = np.ones(10**5)
    got = trip(big)
    got[0] = 5
    assert big[0] == 1 and got.flags.writeable
    big.flags.writeable = False
    lent = trip(big)
    assert not lent.flags.writeable and np.shares_memory(lent, big)


def test_pandas():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": range(20000), "b": ["x", "y"] * 10000})
    assert trip(frame).equals(frame)
