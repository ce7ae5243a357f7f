"""The gate: what the web server sees of a request, and what is answered before it.

Source: RFC 9112 (request line, framing); web servers differ in everything else.
"""

from hypothesis import given
from hypothesis import strategies as st

from exec_wrapper.service_adapter import RequestContext
from rubis_adapter.auction.application import BODY_BYTES_MAX
from rubis_adapter.auction.presentation import SERVLETS
from rubis_adapter.request_gate import TARGET_BYTES_MAX, Rejection, ServiceRequest, examine, service_request_bytes

CONTEXT = RequestContext(17, 1_900_000_000_123_456, bytes(range(32)))
VIEW = f"{SERVLETS}ViewItem".encode("ascii")


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((line, b"Host: x", *headers)) + b"\r\n\r\n" + body


def refused(data: bytes) -> int:
    examined = examine(data)
    assert isinstance(examined, Rejection), examined
    return examined.status


def accepted(data: bytes) -> ServiceRequest:
    examined = examine(data)
    assert isinstance(examined, ServiceRequest), examined
    return examined


def test_only_method_address_and_form_are_passed_on() -> None:
    data = request(
        b"GET " + VIEW + b"?itemId=7 HTTP/1.1",
        b"X-Spare-Sequence: 999",
        b"x-spare-timestamp-us: 1",
        b"X-SPARE-SEED: 00",
        b"Range: bytes=0-3",
        b"If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
        b"Accept-Encoding: gzip",
        b"Connection: close",
        b"Cookie: a=b",
    )
    lines = service_request_bytes(accepted(data), CONTEXT).split(b"\r\n")
    assert lines == [
        b"GET " + VIEW + b"?itemId=7 HTTP/1.1",
        b"Host: rubis",
        b"X-Spare-Sequence: 17",
        b"X-Spare-Timestamp-Us: 1900000000123456",
        b"X-Spare-Seed: " + bytes(range(32)).hex().encode("ascii"),
        b"Connection: keep-alive",
        b"",
        b"",
    ]


def test_a_form_is_passed_on_with_its_length() -> None:
    data = request(b"POST " + VIEW + b" HTTP/1.1", b"content-length: 8", body=b"itemId=7")
    sent = service_request_bytes(accepted(data), CONTEXT)
    assert sent.endswith(b"\r\nContent-Length: 8\r\n\r\nitemId=7")
    assert b"Content-Type: application/x-www-form-urlencoded\r\n" in sent


def test_a_body_of_another_type_is_declared_so() -> None:
    data = request(b"POST " + VIEW + b" HTTP/1.1", b"Content-Type: text/xml", b"Content-Length: 1", body=b"x")
    assert b"Content-Type: application/octet-stream\r\n" in service_request_bytes(accepted(data), CONTEXT)


def test_chunks_are_joined() -> None:
    chunked = b"3;note=1\r\nite\r\n5\r\nmId=7\r\n0\r\nTrailer: x\r\n\r\n"
    data = request(b"POST " + VIEW + b" HTTP/1.1", b"Transfer-Encoding: chunked", body=chunked)
    assert accepted(data).form == b"itemId=7"


def test_head_is_a_get_without_a_body() -> None:
    examined = accepted(request(b"HEAD " + VIEW + b"?itemId=7 HTTP/1.0"))
    assert (examined.method, examined.is_head) == (b"GET", True)


def test_an_absolute_address_is_shortened() -> None:
    assert accepted(request(b"GET http://auctions.example:80/rubis_servlets/ HTTP/1.1")).target == b"/rubis_servlets/"
    assert accepted(request(b"GET HTTP://auctions.example HTTP/1.1")).target == b"/"


def test_what_web_servers_answer_differently_is_answered_here() -> None:
    assert refused(request(b"DELETE / HTTP/1.1")) == 405
    assert refused(request(b"OPTIONS * HTTP/1.1")) == 405
    assert refused(request(b"POST /rubis_servlets/browse.html HTTP/1.1", b"Content-Length: 0")) == 405
    assert refused(request(b"GET /rubis_servlets/%62rowse.html HTTP/1.1")) == 404
    assert refused(request(b"GET //rubis_servlets/ HTTP/1.1")) == 404
    assert refused(request(b"GET /rubis_servlets/../rubis_servlets/ HTTP/1.1")) == 404
    assert refused(request(b"GET /.hidden HTTP/1.1")) == 404
    assert refused(request(b"GET /a#b HTTP/1.1")) == 400
    assert refused(request(b"GET /\xc3\xa4 HTTP/1.1")) == 400
    assert refused(request(b"get / HTTP/1.1")) == 400
    assert refused(request(b"GET / HTTP/2.0")) == 400
    assert refused(b"GET / HTTP/1.1\r\n") == 400


def test_sizes_are_limited() -> None:
    longest = VIEW + b"?a=" + b"b" * (TARGET_BYTES_MAX - len(VIEW) - 3)
    accepted(request(b"GET " + longest + b" HTTP/1.1"))
    assert refused(request(b"GET " + longest + b"b HTTP/1.1")) == 414
    body = b"a" * BODY_BYTES_MAX
    line = b"POST " + VIEW + b" HTTP/1.1"
    accepted(request(line, b"Content-Length: %d" % len(body), body=body))
    assert refused(request(line, b"Content-Length: %d" % (len(body) + 1), body=body + b"a")) == 413


def test_broken_framing_is_refused() -> None:
    line = b"POST " + VIEW + b" HTTP/1.1"
    assert refused(request(line, b"Content-Length: 3", body=b"ab")) == 400
    assert refused(request(line, b"Content-Length: +2", body=b"ab")) == 400
    assert refused(request(line, b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")) == 400
    assert refused(request(line, b"Transfer-Encoding: chunked", body=b"2\r\nabc\r\n0\r\n\r\n")) == 400
    assert refused(request(line, b"Transfer-Encoding: chunked", body=b"zz\r\n")) == 400
    assert refused(request(line, b"Transfer-Encoding: chunked", body=b"2\r\nab\r\n")) == 400


@given(st.binary(max_size=300))
def test_any_bytes_are_decided_about(data: bytes) -> None:
    for candidate in (data, b"POST " + VIEW + b" HTTP/1.1\r\n" + data, b"GET " + data + b" HTTP/1.1\r\n\r\n"):
        examined = examine(candidate)
        if isinstance(examined, Rejection):
            assert examined.status in (400, 404, 405, 413, 414)
        else:
            assert b"\r\n\r\n" in service_request_bytes(examined, CONTEXT)
