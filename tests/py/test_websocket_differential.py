"""WebSocket frames read by atoll and by wsproto, side by side, and written by one and
read by the other."""

import random
from types import SimpleNamespace

import pytest

from atoll import _atoll

wsproto = pytest.importorskip("wsproto")
events = pytest.importorskip("wsproto.events")
connection = pytest.importorskip("wsproto.connection")
extensions = pytest.importorskip("wsproto.extensions")

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
LIMIT = 1 << 20

# What atoll refuses and wsproto takes: by close code and text.
STRICTER = {
    (1002, "invalid close code"),
    (1009, "message too big"),  # wsproto has no bound
    # An empty frame that comes last stays with wsproto until more comes.
    (1002, "continuation of no message"),
    (1002, "message inside a message"),
    (1007, "invalid compressed data"),
    (1007, "text that is not UTF-8"),
}


@pytest.fixture(autouse=True)
def seeded_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """wsproto masks with os.urandom: a failure must come again."""
    frame_protocol = pytest.importorskip("wsproto.frame_protocol")
    chooser = random.Random(0)
    os_like = SimpleNamespace(urandom=chooser.randbytes)
    monkeypatch.setattr(frame_protocol, "os", os_like)


def peer(kind, deflate: bool):
    offered = []
    if deflate:
        extension = extensions.PerMessageDeflate()
        extension._enabled = True
        offered = [extension]
    return connection.Connection(kind, offered)


def client_bytes(chooser: random.Random, deflate: bool) -> bytes:
    """What a client sends: messages whole and in parts, pings, perhaps a close."""
    client = peer(connection.ConnectionType.CLIENT, deflate)
    data = b""
    for _ in range(chooser.randrange(1, 5)):
        size = chooser.choice([0, 1, 5, 40, 125, 126, 300])
        if chooser.random() < 0.5:
            text = "".join(
                chooser.choice("ab \u00e9\u20ac\U0001f600") for _ in range(size)
            )
            cut = chooser.randrange(len(text) + 1)
            parts = [text] if chooser.random() < 0.5 else [text[:cut], text[cut:]]
            kind = events.TextMessage
        else:
            blob = chooser.randbytes(size)
            cut = chooser.randrange(size + 1)
            parts = [blob] if chooser.random() < 0.5 else [blob[:cut], blob[cut:]]
            kind = events.BytesMessage
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            data += client.send(kind(data=part, message_finished=last))
            # wsproto takes the rest of a deflated message as it is behind a ping.
            if chooser.random() < 0.3 and (last or not deflate):
                data += client.send(events.Ping(payload=chooser.randbytes(3)))
    if chooser.random() < 0.3:
        data += client.send(events.CloseConnection(code=4000, reason="so long"))
    return data


def read_with_wsproto(kind, data: bytes, deflate: bool):
    """Events in atoll's form, and how it ended: None, or the code of an error."""
    server = peer(kind, deflate)
    server.receive_data(data)
    found = []
    pieces: list = []
    for event in server.events():
        if isinstance(event, events.Message):
            pieces.append(event.data)
            if event.message_finished:
                if isinstance(event, events.TextMessage):
                    found.append((TEXT, "".join(pieces).encode(), 0))
                else:
                    found.append((BINARY, b"".join(map(bytes, pieces)), 0))
                pieces = []
        elif isinstance(event, events.Ping):
            found.append((PING, bytes(event.payload), 0))
        elif isinstance(event, events.Pong):
            found.append((PONG, bytes(event.payload), 0))
        elif isinstance(event, events.CloseConnection):
            if server.state is connection.ConnectionState.REMOTE_CLOSING:
                reason = (event.reason or "").encode()
                found.append((CLOSE, reason, int(event.code)))
                break
            return found, int(event.code)
    return found, None


@pytest.mark.parametrize("deflate", [False, True])
def test_what_wsproto_sends_is_read(deflate: bool) -> None:
    chooser = random.Random(6455)
    kinds = set()
    for _ in range(150):
        data = client_bytes(chooser, deflate)
        theirs, error = read_with_wsproto(
            connection.ConnectionType.SERVER, data, deflate
        )
        assert error is None
        assert _atoll.ws_read(data, LIMIT, deflate) == (theirs, None)
        kinds.update(opcode for opcode, _, _ in theirs)
    assert kinds == {TEXT, BINARY, PING, CLOSE}
    client = peer(connection.ConnectionType.CLIENT, deflate)
    large = client.send(events.BytesMessage(data=bytes(70_000)))
    assert _atoll.ws_read(large, LIMIT, deflate) == ([(BINARY, bytes(70_000), 0)], None)


@pytest.mark.parametrize("deflate", [False, True])
def test_damaged_frames_are_read_alike(deflate: bool) -> None:
    chooser = random.Random(7692)
    outcomes = {"accepted": 0, "refused": 0}
    for _ in range(2000):
        data = bytearray(client_bytes(chooser, deflate)[:2000])
        for _ in range(chooser.randrange(1, 3)):
            where = chooser.randrange(min(len(data), chooser.choice([2, 20, 2000])))
            data[where] ^= 1 << chooser.randrange(8)
        ours, refusal = _atoll.ws_read(bytes(data), LIMIT, deflate)
        theirs, error = read_with_wsproto(
            connection.ConnectionType.SERVER, bytes(data), deflate
        )
        if deflate and any(opcode in (PING, PONG) for opcode, _, _ in ours):
            continue  # it may have come inside a message
        if deflate and refusal is None and error == 1007:
            # wsproto takes nothing behind a block with BFINAL (RFC 7692 7.2.3.4).
            assert ours[: len(theirs)] == theirs, bytes(data)
            continue
        if refusal is None:
            assert error is None, bytes(data)
            assert ours == theirs, bytes(data)
            outcomes["accepted"] += 1
        else:
            assert ours == theirs[: len(ours)], bytes(data)
            assert error is not None or refusal in STRICTER, (refusal, bytes(data))
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100, outcomes


@pytest.mark.parametrize("deflate", [False, True])
def test_what_atoll_writes_is_read_by_wsproto(deflate: bool) -> None:
    chooser = random.Random(1)
    for _ in range(50):
        messages = []
        for _ in range(chooser.randrange(1, 6)):
            size = chooser.choice([0, 1, 125, 126, 65_535, 65_536, 100_000])
            opcode = chooser.choice([TEXT, BINARY, PING])
            if opcode == TEXT:
                data = ("a\u20ac" * (size // 4)).encode()
            else:
                data = chooser.randbytes(min(size, 125) if opcode == PING else size)
            messages.append((opcode, data))
        sent = _atoll.ws_write(tuple(messages), deflate)
        got, error = read_with_wsproto(connection.ConnectionType.CLIENT, sent, deflate)
        assert error is None
        assert [(opcode, data) for opcode, data, _ in got] == messages


def test_a_bomb_is_refused() -> None:
    client = peer(connection.ConnectionType.CLIENT, True)
    data = client.send(events.BytesMessage(data=bytes(10 << 20)))
    assert len(data) < 20_000
    found, error = _atoll.ws_read(data, LIMIT, True)
    assert found == []
    assert error == (1009, "message too big")
