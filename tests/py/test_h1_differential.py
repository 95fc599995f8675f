"""Requests read by atoll, by h11 and by llhttp (through httptools), side by side.

Two servers that read one request differently are a way to smuggle another past the
first. So whatever atoll accepts, both others must accept and read the same; where they
accept and atoll refuses, the reason must be one that is listed here.
"""

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll import _atoll

h11 = pytest.importorskip("h11")
httptools = pytest.importorskip("httptools")

HOST = b"Host: a\r\n"


@dataclass
class Reading:
    """What one parser made of a request."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Refused(Exception):
    pass


class Incomplete(Exception):
    pass


def read_with_h11(data: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    body = b""
    request = None
    try:
        # h11 refuses the empty line that RFC 9112 2.2 wants skipped.
        connection.receive_data(data.removeprefix(b"\r\n"))
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                raise Incomplete
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                headers = [(bytes(n), bytes(v)) for n, v in request.headers]
                return Reading(request.method, request.target, headers, body)
            else:
                raise Incomplete
    except h11.RemoteProtocolError as error:
        raise Refused(str(error)) from None


class Llhttp:
    """The callbacks of httptools, for the first request of a connection."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.method: bytes | None = None
        self.complete = False
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        if not self.complete:
            self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete and self.in_head:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if not self.complete:
            self.in_head = False
            self.method = self.parser.get_method()

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def read_with_llhttp(data: bytes) -> Reading:
    seen = Llhttp()
    parser = httptools.HttpRequestParser(seen)
    seen.parser = parser
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        if not seen.complete:
            raise Refused(str(error)) from None
    if not seen.complete or seen.method is None:
        raise Incomplete
    return Reading(seen.method, seen.target, seen.headers, seen.body)


def read_with_atoll(data: bytes) -> dict[str, Any]:
    try:
        request = _atoll.h1_parse(data)
    except ValueError as error:
        raise Refused(*error.args) from None
    if request is None:
        raise Incomplete
    return request


# llhttp knows a list of methods and takes no others.
LLHTTP_METHODS = {b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH"}

# Why atoll may refuse what one of the others accepts.
STRICTER_THAN_H11 = {
    "invalid Host",
    "Host given twice",
    "invalid authority in the request target",
    "user information in the request target",
    "request target is neither a path nor an http URL",
    "'*' as the target of a method other than OPTIONS",
    "CONNECT needs host:port as its target",
    "invalid character in the request target",
    "invalid method",  # more than one empty line before the request
    "line feed without carriage return",  # h11 takes it as the end of a line
    "folded header line",
    "only HTTP/1.0 and HTTP/1.1 are spoken here",
    "unknown expectation",
    "Content-Length given twice",  # equal ones
    "invalid Content-Length",  # a list of equal ones
    "Transfer-Encoding and Content-Length together",
    "Transfer-Encoding in HTTP/1.0",
    "Transfer-Encoding does not end in chunked",
    "invalid chunk size",  # white space behind it
    "invalid chunk extension",
    "chunk size too large",  # leading zeros
    "carriage return without line feed",
    "forbidden trailer",
    "invalid trailer",
    "control character in a header",
    "request line without HTTP version",
    "invalid HTTP version in the request line",
    "no Host",
}
STRICTER_THAN_LLHTTP = STRICTER_THAN_H11 | {
    "unknown transfer coding",
    "invalid header name",
    "Transfer-Encoding given twice",
    "empty request target",
}


def comparable(request: dict[str, Any], headers: list[tuple[bytes, bytes]]):
    """Headers without what may differ: others leave Host as sent where an absolute
    target overrules it, and h11 writes the transfer coding in lower case."""
    host = request["authority"] and request["host"]
    return [
        (name, host or value if name == b"host" else value)
        if name != b"transfer-encoding"
        else (name, value.lower())
        for name, value in headers
    ]


def check_same(data: bytes, request: dict[str, Any], other: Reading) -> None:
    assert other.method == request["method"], data
    assert other.target == request["target"], data
    theirs = comparable(request, other.headers)
    assert theirs == comparable(request, request["headers"]), data
    assert other.body == request["body"], data


def compare(data: bytes) -> str:
    """Read data three times. Returns what atoll said: accepted, refused, incomplete."""
    try:
        request = read_with_atoll(data)
    except Incomplete:
        return "incomplete"
    except Refused as refusal:
        _, text = refusal.args
        for read, reasons in (
            (read_with_h11, STRICTER_THAN_H11),
            (read_with_llhttp, STRICTER_THAN_LLHTTP),
        ):
            try:
                read(data)
            except (Refused, Incomplete):
                continue
            assert text in reasons, (read.__name__, text, data)
        return "refused"
    check_same(data, request, read_with_h11(data))
    if request["method"] in LLHTTP_METHODS:
        check_same(data, request, read_with_llhttp(data))
    return "accepted"


PLAIN = [
    b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"GET /a%20b?c=d&e HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nX:\t y z \r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET http://b:80/x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n",
]


@pytest.mark.parametrize("data", PLAIN)
def test_plain_requests_are_read_alike(data: bytes) -> None:
    assert compare(data) == "accepted"


SMUGGLING = [
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    b"Content-Length: 1, 1\r\n\r\na",
    b"Content-Length: +1\r\n\r\na",
    b"Content-Length : 1\r\n\r\na",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n1;\n\r\na\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\na\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    b"Host: b\r\n\r\n",
]


@pytest.mark.parametrize("rest", SMUGGLING)
def test_smuggling_is_refused(rest: bytes) -> None:
    assert compare(b"POST / HTTP/1.1\r\n" + HOST + rest) == "refused"


PIECES = [
    *(b"Host: a\r\n", b"Host: b c\r\n", b"HOST: [::1]:80\r\n", b"Host:\r\n"),
    *(b"Content-Length: 3\r\n", b"content-length: 03\r\n", b"Content-Length: 3,3\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: CHUNKED\r\n"),
    *(b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: identity\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"X: y\r\n", b"X:\r\n"),
    *(b"X : y\r\n", b" folded\r\n", b"X: a\tb \r\n", b"X: \xff\r\n", b"X_y: z\r\n"),
    *(b"X: a\nb\r\n", b"X: a\r\r\n", b"X: \x00\r\n", b": y\r\n", b"X\r\n"),
    *(b"Expect: 100-continue\r\n", b"Expect: tea\r\n", b"X: 1\n"),
    b"X-Long: " + b"v" * 40 + b"\r\n",
]
LINES = [
    *(b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"PUT /a HTTP/1.0\r\n"),
    *(b"HEAD /%41 HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"GET /a#b HTTP/1.1\r\n"),
    *(b"GET http://c/d HTTP/1.1\r\n", b"GET http://e@c/ HTTP/1.1\r\n"),
    *(b"GET  / HTTP/1.1\r\n", b"GET / HTTP/1.2\r\n", b"GET / HTTP/2.0\r\n"),
    *(b"\r\nGET / HTTP/1.1\r\n", b"BREW / HTTP/1.1\r\n", b"GET /\xe9 HTTP/1.1\r\n"),
    *(b"GET / HTTP/1.1\n", b"DELETE /a HTTP/1.1 \r\n", b"G\x01T / HTTP/1.1\r\n"),
]
BODIES = [
    *(
        b"",
        b"abc",
        b"0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x=y\r\nabc\r\n0\r\n\r\n",
    ),
    *(b"3;x\r\nabc\r\n0\r\nX: y\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n"),
    *(b"03\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n"),
    *(b'3;x="y;z"\r\nabc\r\n0\r\n\r\n', b"0\r\nContent-Length: 1\r\n\r\n"),
    *(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",),
]


def build(chooser: random.Random) -> bytes:
    """A request out of good and bad pieces, more often good than not."""
    line = LINES[0] if chooser.random() < 0.5 else chooser.choice(LINES)
    host = HOST if chooser.random() < 0.9 else b""
    fields = b"".join(chooser.choice(PIECES) for _ in range(chooser.randrange(3)))
    data = bytearray(line + host + fields + b"\r\n" + chooser.choice(BODIES))
    if chooser.random() < 0.2:  # and sometimes a wrong byte
        data[chooser.randrange(len(data))] = chooser.choice(
            b"\x00\t\n\r :,;aZ0\x7f\xff"
        )
    return bytes(data)


def test_generated_requests_are_read_alike() -> None:
    chooser = random.Random(9112)
    outcomes = {"accepted": 0, "refused": 0, "incomplete": 0}
    for _ in range(20_000):
        outcomes[compare(build(chooser))] += 1
    assert min(outcomes.values()) > 50, outcomes


@settings(
    max_examples=500,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.sampled_from(PLAIN),
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3)),
        max_size=3,
    ),
)
def test_damaged_requests_are_read_alike(
    data: bytes, damages: list[tuple[int, int, bytes]]
) -> None:
    for offset, removed, inserted in damages:
        data = data[:offset] + inserted + data[offset + removed :]
    compare(data)
