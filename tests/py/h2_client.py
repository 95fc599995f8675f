"""A client of HTTP/2 that shows each event."""

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
from serving import DEADLINE_S, Server


class Client:
    """A connection of the h2 package, by prior knowledge or inside TLS."""

    def __init__(self, server: Server, context: ssl.SSLContext | None = None) -> None:
        self.socket: Any = socket.create_connection(
            ("127.0.0.1", server.port), DEADLINE_S
        )
        if context is not None:
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8")
        )
        self.events: list[Any] = []
        self.ended = False
        self.auto_window = True
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        # An acknowledgement may come too late for a server that has ended.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def request(
        self, path: str, *fields: tuple[str, str], method: str = "GET", end: bool = True
    ) -> int:
        stream: int = self.h2.get_next_available_stream_id()
        pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "x"),
            (":path", path),
        ]
        self.h2.send_headers(stream, [*pseudo, *fields], end_stream=end)
        self.flush()
        return stream

    def read(self) -> None:
        """Take in what comes next."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:  # by what was sent too late; all else was read
            data = b""
        if not data:
            self.ended = True
            return
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived) and self.auto_window:
                self.h2.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
        self.flush()

    def wait(self, test: Callable[[Any], bool]) -> Any:
        """The first event that passes; what came before it stays."""
        at = 0
        while True:
            for event in self.events[at:]:
                at += 1
                if test(event):
                    return event
            assert not self.ended, self.events
            self.read()

    def send_body(self, stream: int, data: bytes) -> None:
        """As the windows allow."""
        while data:
            room = self.h2.local_flow_control_window(stream)
            size = min(room, self.h2.max_outbound_frame_size, len(data))
            if size == 0:
                self.read()
                continue
            self.h2.send_data(stream, data[:size])
            data = data[size:]
            self.flush()
        self.h2.end_stream(stream)
        self.flush()

    def answer(self, stream: int) -> tuple[int, dict[str, str], bytes]:
        ended = (h2.events.StreamEnded, h2.events.StreamReset)
        last = self.wait(lambda e: isinstance(e, ended) and e.stream_id == stream)
        assert isinstance(last, h2.events.StreamEnded), last
        mine = [e for e in self.events if getattr(e, "stream_id", 0) == stream]
        head = [e for e in mine if isinstance(e, h2.events.ResponseReceived)]
        fields = dict(head[0].headers)
        body = b"".join(e.data for e in mine if isinstance(e, h2.events.DataReceived))
        return int(fields[":status"]), fields, body


# ---- raw frames ----

# :method GET, :scheme http, :path /, :authority x
HEAD = b"\x82\x86\x84\x41\x01x"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + struct.pack(">BBI", kind, flags, stream)
        + payload
    )
