"""Cutting replies out of the byte stream, and judging them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubis_adapter.client_emulator.interactions import Interaction, page_mark
from rubis_adapter.client_emulator.replies import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    Failure,
    MalformedReply,
    Reply,
    ReplyReader,
    found_nothing,
    judge,
)
from tests.rubis_emulator.small_site import http


def read(reader: ReplyReader, data: bytes, pieces: list[int]) -> Reply | None:
    """Feeds `data` cut at the given places."""
    reply = None
    start = 0
    for end in [*sorted({piece % (len(data) + 1) for piece in pieces}), len(data)]:
        assert reply is None
        reply = reader.feed(data[start:end])
        start = end
    return reply


@given(st.binary(max_size=500), st.lists(st.integers(0, 10_000), max_size=20))
def test_a_reply_comes_out_whole_however_it_is_cut(body: bytes, pieces: list[int]) -> None:
    data = http(body)
    pieces = [piece for piece in pieces if piece % (len(data) + 1) != len(data)]
    assert read(ReplyReader(), data, pieces) == Reply(200, body, closes=False)


def test_a_reader_reads_one_reply_after_the_other_byte_by_byte() -> None:
    reader = ReplyReader()
    for body in (b"first", b"", b"third"):
        data = http(body, "404 Not Found")
        results = [reader.feed(data[index : index + 1]) for index in range(len(data))]
        assert results[:-1] == [None] * (len(data) - 1)
        assert results[-1] == Reply(404, body, closes=False)
        assert reader.is_empty


def test_the_server_may_close_after_a_reply() -> None:
    assert ReplyReader().feed(http(b"x", "200 OK", "Connection: close")) == Reply(200, b"x", closes=True)
    assert ReplyReader().feed(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n") == Reply(200, b"", closes=True)


def test_replies_without_body_need_no_length() -> None:
    assert ReplyReader().feed(b"HTTP/1.1 304 Not Modified\r\n\r\n") == Reply(304, b"", closes=False)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no status line"),
        (b"HTTP/1.1 099 Odd\r\n\r\n", "no status line"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no single Content-Length"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no single Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "no single Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no single Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), "at most"),
        (http(b"x") + b"y", "1 bytes after the end"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_BYTES_MAX, "header of more than"),
    ],
)
def test_what_is_no_proper_reply_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(MalformedReply, match=complaint):
        ReplyReader().feed(data)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_hostile_bytes_are_refused_or_read_on_and_never_anything_else(chunks: list[bytes]) -> None:
    reader = ReplyReader()
    try:
        for chunk in chunks:
            assert isinstance(reader.feed(chunk), Reply | None)
    except MalformedReply:
        pass


def page(interaction: Interaction, text: bytes = b"") -> bytes:
    return b"<body " + page_mark(interaction) + b">" + text


def test_every_page_is_marked_with_its_servlet() -> None:
    assert page_mark(Interaction.SEARCH_ITEMS_IN_CATEGORY) == b'data-page="SearchItemsByCategory"'
    assert page_mark(Interaction.SELECT_CATEGORY_TO_SELL_ITEM) == b'data-page="BrowseCategories"'
    assert page_mark(Interaction.ABOUT_ME_AUTH) == b'data-page="AboutMeAuth"'


@pytest.mark.parametrize("status", [200, 204, 302])
def test_a_marked_page_with_a_good_status_is_a_success(status: int) -> None:
    assert judge(Interaction.VIEW_ITEM, Reply(status, page(Interaction.VIEW_ITEM), closes=False)) is None


def test_a_page_that_found_nothing_is_a_success() -> None:
    reply = Reply(200, page(Interaction.VIEW_ITEM, b"Sorry, there is no such item"), closes=False)
    assert judge(Interaction.VIEW_ITEM, reply) is None
    assert found_nothing(reply)


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (Reply(500, page(Interaction.VIEW_ITEM), closes=False), Failure.STATUS),
        (Reply(404, b"", closes=False), Failure.STATUS),
        (Reply(200, page(Interaction.VIEW_ITEM, b"ERROR"), closes=False), Failure.ERROR_PAGE),
        (Reply(200, page(Interaction.VIEW_USER_INFO), closes=False), Failure.MARK_MISSING),
        (Reply(200, b"", closes=False), Failure.MARK_MISSING),
    ],
)
def test_everything_else_is_a_failure(reply: Reply, failure: Failure) -> None:
    failed = judge(Interaction.VIEW_ITEM, reply)
    assert failed is not None
    assert failed.failure is failure


def test_an_error_page_is_quoted_without_its_tags() -> None:
    body = page(Interaction.STORE_BID, b"<h2>ERROR:</h2> the <b>bid</b>\nis too low" + b"." * 1000)
    failed = judge(Interaction.STORE_BID, Reply(200, body, closes=False))
    assert failed is not None
    assert failed.detail.startswith("ERROR: the bid is too low...")
    assert len(failed.detail) <= 160
