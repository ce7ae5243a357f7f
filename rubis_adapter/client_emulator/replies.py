"""Replies of the web server: cutting them out of the byte stream, and judging what they say.

Source: RFC 9112 (message syntax); the original emulator's words for "failed" and "nothing found".
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rubis_adapter.client_emulator.interactions import Interaction, page_mark

HEAD_BYTES_MAX: Final = 16 * 1024
"""Status line and header; web servers send below 1 KiB."""
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""A page; the largest of the site are a few hundred KiB."""

SORRY: Final = b"Sorry"
ERROR: Final = b"ERROR"
DETAIL_CHARACTERS_MAX: Final = 160


class Failure(StrEnum):
    """Why a request failed."""

    CONNECT = "connect"
    """No connection could be opened."""
    CONNECTION_LOST = "connection_lost"
    """The connection ended before the first byte of the reply."""
    TRUNCATED = "truncated"
    """The connection ended in the middle of the reply."""
    TIMEOUT = "timeout"
    """No complete reply in time."""
    MALFORMED = "malformed"
    """What came is no HTTP/1.1 reply with Content-Length."""
    STATUS = "status"
    """The status is neither 2xx nor 3xx."""
    ERROR_PAGE = "error_page"
    """The page says ERROR."""
    MARK_MISSING = "mark_missing"
    """The page is not the one that was asked for."""


class MalformedReply(Exception):
    """Raised when the server sends bytes that are no reply of the accepted form: the server's fault."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply; `closes` says that the server ends the connection after it."""

    status: int
    body: bytes
    closes: bool


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A request without a usable reply; `detail` is for the reader of the report."""

    failure: Failure
    detail: str


class ReplyReader:
    """Collects the bytes of one reply at a time; the sender must not run ahead."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._end = -1
        self._body_start = 0
        self._status = 0
        self._closes = False

    @property
    def is_empty(self) -> bool:
        """Whether no byte of a reply has come yet."""
        return not self._buffer

    def feed(self, data: bytes) -> Reply | None:
        """Takes the next bytes of the stream.

        Returns:
            The reply if it is complete now.

        Raises:
            MalformedReply: The bytes are no reply with Content-Length, too long, or more than one reply.
        """
        self._buffer += data
        if self._end < 0 and not self._read_head():
            return None
        if len(self._buffer) < self._end:
            return None
        if len(self._buffer) > self._end:
            raise MalformedReply(f"{len(self._buffer) - self._end} bytes after the end of the reply")
        reply = Reply(self._status, bytes(self._buffer[self._body_start :]), self._closes)
        self._buffer.clear()
        self._end = -1
        return reply

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end > HEAD_BYTES_MAX or (end < 0 and len(self._buffer) > HEAD_BYTES_MAX):
            raise MalformedReply(f"header of more than {HEAD_BYTES_MAX} bytes")
        if end < 0:
            return False
        head = bytes(self._buffer[: end + 2]).lower()
        self._status = _status(head)
        self._closes = b"\r\nconnection: close\r\n" in head or head.startswith(b"http/1.0")
        self._body_start = end + 4
        self._end = self._body_start + _content_length(head, self._status)
        return True


_STATUS_LINE: Final = re.compile(rb"http/1\.[01] ([2-5]\d\d)[ \r]")
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n)")
_WITHOUT_BODY: Final = (204, 304)


def _status(head: bytes) -> int:
    match = _STATUS_LINE.match(head)
    if match is None:
        raise MalformedReply(f"no status line: {head[:40]!r}")
    return int(match[1])


def _content_length(head: bytes, status: int) -> int:
    if status in _WITHOUT_BODY:
        return 0
    lengths = set(_CONTENT_LENGTH.findall(head))
    if len(lengths) != 1 or b"\r\ntransfer-encoding:" in head:
        raise MalformedReply("no single Content-Length")
    length = int(lengths.pop())
    if length > BODY_BYTES_MAX:
        raise MalformedReply(f"page of {length} bytes, at most {BODY_BYTES_MAX} are read")
    return length


def judge(interaction: Interaction, reply: Reply) -> FailedRequest | None:
    """Why `reply` is no success for `interaction`; None if it is one (a page that found nothing is)."""
    if not 200 <= reply.status < 400:
        return FailedRequest(Failure.STATUS, f"status {reply.status}")
    if ERROR in reply.body:
        return FailedRequest(Failure.ERROR_PAGE, _around_error(reply.body))
    if page_mark(interaction) not in reply.body:
        return FailedRequest(Failure.MARK_MISSING, f"status {reply.status}, {len(reply.body)} bytes")
    return None


def found_nothing(reply: Reply) -> bool:
    """Whether the page says that nothing matched, so that the user goes back."""
    return SORRY in reply.body


def _around_error(body: bytes) -> str:
    start = body.index(ERROR)
    text = body[start : start + 4 * DETAIL_CHARACTERS_MAX].decode("utf-8", "replace")
    return " ".join(re.sub(r"<[^>]*>?", " ", text).split())[:DETAIL_CHARACTERS_MAX]
