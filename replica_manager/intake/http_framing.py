"""Finds where one HTTP/1.1 request ends and the next begins, strictly; the bytes themselves are forwarded unchanged.

Every replica must see the same message boundaries, so anything two parsers could read differently is refused: bare
line feeds, folded lines, several or signed lengths, a length beside a transfer coding, codings other than `chunked`.
A request must pass two independent readers: this one and `httptools` (llhttp in strict mode).

Source: RFC 9112 sections 2, 3, 5, 6, 7.1, 11.2.
"""

import re
from typing import NamedTuple

import httptools

HEAD_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
_CHUNK_LINE_BYTES_MAX = 256

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,16384}) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x20-\x7e\x80-\xff\t]*?)[ \t]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\x20-\x7e\t]*)?")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_NO_LINE_END = re.compile(rb"\x00|(?<!\r)\n")


class HttpRejected(Exception):
    """Raised when bytes are no request that is forwarded: the client's fault.  Nothing of it was executed.

    The connection answers with `status` and ends, since the next boundary is unknown.
    """

    requests: "tuple[HttpRequest, ...]" = ()
    """Complete requests before the offending bytes that no earlier call has returned."""

    def __init__(self, status: int, reason: str) -> None:
        """`status` is an HTTP status code, `reason` one sentence without the client's data."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


class HttpRequest(NamedTuple):
    """One complete request."""

    raw: bytes
    """The client's bytes, from the request line to the end of the body."""
    is_last: bool
    """Whether the connection ends after the reply."""


class _Head(NamedTuple):
    body_start: int
    body_bytes: int
    """Content-Length; -1: chunked."""
    is_last: bool
    expects_continue: bool


class HttpFramer:
    """Cuts one client's byte stream into requests."""

    def __init__(self, request_bytes_max: int) -> None:
        """Accept requests of at most `request_bytes_max` bytes, head included."""
        self._request_bytes_max = request_bytes_max
        self._buffer = bytearray()
        self._head: _Head | None = None
        # Where to go on when more bytes come: read again from the start for every piece, a request in small pieces
        # costs the square of its size.
        self._head_searched = 0
        self._chunk_line = 0
        self.wants_continue = False
        """Whether the client waits for `100 Continue`; the reader of this clears it."""

    @property
    def is_between_requests(self) -> bool:
        """Whether no request has begun."""
        return not self._buffer

    @property
    def pending_bytes(self) -> int:
        """Bytes of the request that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[HttpRequest]:
        """Take bytes; return the requests that are complete.

        Raises:
            HttpRejected: no request that is forwarded, behind its `requests`; feed nothing more.
        """
        self._buffer += data
        requests = []
        try:
            while (request := self._next()) is not None:
                requests.append(request)
        except HttpRejected as rejected:
            rejected.requests = tuple(requests)
            raise
        return requests

    def _next(self) -> HttpRequest | None:
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
            self._chunk_line = self._head.body_start
            self.wants_continue = self._head.expects_continue
        end = self._body_end(self._head)
        # Also of a request that came in one piece: the limit must not depend on how the bytes arrive.
        if (len(self._buffer) if end is None else end) > self._request_bytes_max:
            raise HttpRejected(413, f"the request exceeds {self._request_bytes_max} bytes")
        if end is None:
            return None
        raw = bytes(self._buffer[:end])
        request = HttpRequest(raw, self._head.is_last)
        del self._buffer[:end]
        self._head = None
        self.wants_continue = False
        _check_with_second_reader(raw)
        return request

    # -- the head ----------------------------------------------------------------------------------------------

    def _read_head(self) -> _Head | None:
        buffer = self._buffer
        while buffer[:2] == b"\r\n":  # RFC 9112 section 2.2: ignore an empty line before the request line
            del buffer[:2]
            self._head_searched = 0
        begin = max(0, self._head_searched - 3)
        end = buffer.find(b"\r\n\r\n", begin, HEAD_BYTES_MAX)
        if end < 0:
            if len(buffer) >= HEAD_BYTES_MAX:
                raise HttpRejected(431, f"the head exceeds {HEAD_BYTES_MAX} bytes")
            if _NO_LINE_END.search(buffer, begin):
                raise HttpRejected(400, "a line does not end in CR LF")
            self._head_searched = len(buffer)
            return None
        self._head_searched = 0
        request_line, *lines = bytes(buffer[:end]).split(b"\r\n")
        return self._interpret(request_line, lines, end + 4)

    def _interpret(self, request_line: bytes, lines: list[bytes], body_start: int) -> _Head:
        found = _REQUEST_LINE.fullmatch(request_line)
        if found is None:
            raise HttpRejected(400, "the request line is malformed")
        method, target, minor = found.groups()
        if method == b"CONNECT" or not (target.startswith(b"/") or target == b"*"):
            raise HttpRejected(400, "only requests for a path are served")
        if len(lines) > HEADERS_MAX:
            raise HttpRejected(431, f"more than {HEADERS_MAX} header lines")
        headers = _read_headers(lines)
        if minor == b"1" and len(headers.get(b"host", ())) != 1:
            raise HttpRejected(400, "exactly one Host header is needed")
        if b"upgrade" in headers:
            raise HttpRejected(400, "upgrades are not served")
        connection = b",".join(headers.get(b"connection", ())).lower()
        is_last = b"close" in connection or (minor == b"0" and b"keep-alive" not in connection)
        body_bytes = self._body_bytes(headers)
        return _Head(body_start, body_bytes, is_last, _expects_continue(headers))

    def _body_bytes(self, headers: dict[bytes, list[bytes]]) -> int:
        lengths = headers.get(b"content-length", [])
        codings = headers.get(b"transfer-encoding", [])
        if codings:
            if lengths:
                raise HttpRejected(400, "a length beside a transfer coding")
            if [coding.lower() for coding in codings] != [b"chunked"]:
                raise HttpRejected(501, "only the transfer coding chunked is served")
            return -1
        if not lengths:
            return 0
        if len(lengths) > 1 or _DIGITS.fullmatch(lengths[0]) is None:
            raise HttpRejected(400, "the content length is not one number")
        length = int(lengths[0])
        if length > self._request_bytes_max:
            raise HttpRejected(413, f"the request exceeds {self._request_bytes_max} bytes")
        return length

    # -- the body ----------------------------------------------------------------------------------------------

    def _body_end(self, head: _Head) -> int | None:
        if head.body_bytes >= 0:
            end = head.body_start + head.body_bytes
            return end if len(self._buffer) >= end else None
        return self._chunks_end()

    def _chunks_end(self) -> int | None:
        buffer = self._buffer
        while True:
            position = self._chunk_line
            line_end = buffer.find(b"\r\n", position, position + _CHUNK_LINE_BYTES_MAX)
            if line_end < 0:
                if len(buffer) - position >= _CHUNK_LINE_BYTES_MAX:
                    raise HttpRejected(400, "a chunk line is too long")
                return None
            found = _CHUNK_LINE.fullmatch(buffer, position, line_end)
            if found is None:
                raise HttpRejected(400, "a chunk line is malformed")
            size = int(found[1], 16)
            if size == 0:
                return self._trailer_end(line_end)
            position = line_end + 2 + size + 2
            if position - 2 > self._request_bytes_max:
                raise HttpRejected(413, f"the request exceeds {self._request_bytes_max} bytes")
            if len(buffer) < position:
                return None
            if buffer[position - 2 : position] != b"\r\n":
                raise HttpRejected(400, "a chunk does not end in CR LF")
            self._chunk_line = position

    def _trailer_end(self, last_chunk_line_end: int) -> int | None:
        buffer = self._buffer
        if len(buffer) < last_chunk_line_end + 4:
            return None
        if buffer[last_chunk_line_end : last_chunk_line_end + 4] != b"\r\n\r\n":
            raise HttpRejected(400, "trailers are not served")
        return last_chunk_line_end + 4


def _read_headers(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise HttpRejected(400, "a header line is malformed")
        headers.setdefault(found[1].lower(), []).append(found[2])
    return headers


def _expects_continue(headers: dict[bytes, list[bytes]]) -> bool:
    expectations = [value.lower() for value in headers.get(b"expect", [])]
    if expectations and expectations != [b"100-continue"]:
        raise HttpRejected(417, "the expectation is not known")
    return bool(expectations)


class _SecondReader:
    def __init__(self) -> None:
        self.completed = 0

    def on_message_complete(self) -> None:
        self.completed += 1


def _check_with_second_reader(raw: bytes) -> None:
    reader = _SecondReader()
    try:
        httptools.HttpRequestParser(reader).feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise HttpRejected(400, "the request is malformed") from error
    if reader.completed != 1:
        raise HttpRejected(400, "the end of the request is ambiguous")
