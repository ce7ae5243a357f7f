"""The canonical reply: the same bytes whatever web server wrote the original."""

import pytest

from rubis_adapter.canonical_reply import WebReply, canonical_reply, plain_reply

TIME_US = 1_900_000_000_999_999
PAGE = WebReply(
    200,
    {
        "server": "nginx", "cache-control": "no-store", "content-type": "text/html; charset=utf-8", "etag": '"x"',
        "date": "Thu, 01 Jan 1970 00:00:00 GMT", "set-cookie": "a=b", "content-length": "4",
    },
    b"page",
)  # fmt: skip


def test_a_reply_has_few_headers_in_fixed_order_and_the_agreed_date() -> None:
    assert canonical_reply(PAGE, TIME_US, is_head=False) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Date: Sun, 17 Mar 2030 17:46:40 GMT\r\n"
        b"Content-Type: text/html; charset=utf-8\r\n"
        b"Cache-Control: no-store\r\n"
        b"Content-Length: 4\r\n\r\npage"
    )


def test_the_order_of_the_original_headers_does_not_show() -> None:
    reordered = PAGE._replace(headers=dict(reversed(list(PAGE.headers.items()))))
    assert canonical_reply(reordered, TIME_US, is_head=False) == canonical_reply(PAGE, TIME_US, is_head=False)


def test_a_head_request_gets_the_length_but_no_body() -> None:
    reply = canonical_reply(PAGE, TIME_US, is_head=True)
    assert reply.endswith(b"Content-Length: 4\r\n\r\n")


def test_a_reply_that_has_no_body_has_no_length() -> None:
    reply = canonical_reply(PAGE._replace(status=304), TIME_US, is_head=False)
    assert b"Content-Length" not in reply
    assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [400, 404, 405, 413, 414])
def test_a_refusal_says_error(status: int) -> None:
    reply = canonical_reply(plain_reply(status), TIME_US, is_head=False)
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    assert b"ERROR %d" % status in reply


def test_a_redirection_keeps_its_address_and_is_no_error() -> None:
    reply = canonical_reply(plain_reply(302, "/rubis_servlets/"), TIME_US, is_head=False)
    assert b"Location: /rubis_servlets/\r\n" in reply
    assert b"ERROR" not in reply
