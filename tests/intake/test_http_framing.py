"""Message boundaries of HTTP/1.1 requests.  Source: RFC 9112."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_manager.intake.http_framing import HEAD_BYTES_MAX, HttpFramer, HttpRejected

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n5;a=b\r\npedia\r\n0\r\n\r\n"


def frame(data: bytes, limit: int = 100_000) -> list[bytes]:
    return [request.raw for request in HttpFramer(limit).feed(data)]


@pytest.mark.parametrize("message", [GET, POST, CHUNKED])
def test_a_request_comes_out_byte_for_byte(message: bytes) -> None:
    assert frame(message) == [message]


def test_pipelined_requests_are_cut_at_their_boundaries() -> None:
    assert frame(POST + GET + CHUNKED + GET) == [POST, GET, CHUNKED, GET]


@given(st.lists(st.sampled_from([GET, POST, CHUNKED]), max_size=6), st.lists(st.integers(1, 50), min_size=1))
def test_boundaries_do_not_depend_on_how_bytes_arrive(messages: list[bytes], sizes: list[int]) -> None:
    framer, stream, got, position, turn = HttpFramer(100_000), b"".join(messages), [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        got += [request.raw for request in framer.feed(stream[position : position + size])]
        position, turn = position + size, turn + 1
    assert got == messages
    assert framer.is_between_requests


@pytest.mark.parametrize(
    "bad",
    [
        b"GET /a HTTP/1.1\nHost: x\n\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /a\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nA: b\x01\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(bad: bytes) -> None:
    with pytest.raises(HttpRejected) as rejected:
        frame(bad)
    assert rejected.value.status in {400, 417, 501}


def test_limits_are_named() -> None:
    with pytest.raises(HttpRejected) as too_long:
        frame(b"GET /a HTTP/1.1\r\nHost: x\r\nA: " + b"b" * HEAD_BYTES_MAX)
    assert too_long.value.status == 431
    with pytest.raises(HttpRejected) as too_large:
        frame(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", limit=1000)
    assert too_large.value.status == 413
    endless = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 500
    with pytest.raises(HttpRejected) as endless_chunks:
        frame(endless, limit=1000)
    assert endless_chunks.value.status == 413


@pytest.mark.parametrize(
    ("head", "is_last"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
def test_whether_the_connection_goes_on(head: bytes, is_last: bool) -> None:
    assert HttpFramer(1000).feed(head)[0].is_last is is_last


_token = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=10).filter(
    lambda name: name not in {"host", "content-length", "transfer-encoding", "upgrade", "expect", "connection"}
)


@given(st.dictionaries(_token, st.text("abc 123;=/", max_size=20), max_size=5), st.binary(max_size=50))
def test_well_formed_requests_end_where_h11_ends_them(headers: dict[str, str], body: bytes) -> None:
    lines = [(b"Host", b"x"), (b"Content-Length", str(len(body)).encode())]
    lines += [(name.encode(), value.strip().encode()) for name, value in headers.items()]
    client = h11.Connection(h11.CLIENT)
    sent = client.send(h11.Request(method="POST", target="/p", headers=lines)) or b""
    sent += (client.send(h11.Data(data=body)) or b"") + (client.send(h11.EndOfMessage()) or b"")
    assert frame(sent + GET) == [sent, GET]


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_waited_for_and_never_forwarded_by_accident(data: bytes) -> None:
    try:
        requests = frame(data, limit=300)
    except HttpRejected:
        return
    assert all(b"HTTP/1." in raw for raw in requests)
