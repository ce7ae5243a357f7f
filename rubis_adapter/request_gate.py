"""What becomes of a client's request before the web server sees it.

Web servers differ in how they treat odd requests (encoded slashes, ranges, conditions, unknown methods), and replicas
may run different ones.  So everything odd is answered here, the same everywhere, and what is passed on holds nothing
but method, address, and form; the service reads nothing else.  The agreed context is added.
"""

import re
from typing import Final, NamedTuple

from exec_wrapper.service_adapter import RequestContext
from rubis_adapter.auction.agreed_context import SEED_HEADER, SEQUENCE_HEADER, TIMESTAMP_HEADER
from rubis_adapter.auction.application import BODY_BYTES_MAX, FORM_TYPE
from rubis_adapter.auction.presentation import SERVLETS

TARGET_BYTES_MAX: Final = 30 * 1024
"""An item with the longest ASCII description fits into it, percent-encoded."""
CHUNKS_MAX: Final = 4096

_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([\x21\x22\x24-\x7e]+) HTTP/1\.[01]")
_ABSOLUTE: Final = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
_PATH: Final = re.compile(rb"/([A-Za-z0-9_-][A-Za-z0-9._-]*(/|$))*")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;.*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")


class ServiceRequest(NamedTuple):
    """A request that the service is to answer."""

    method: bytes
    """`GET` or `POST`; a HEAD is a GET whose reply loses its body."""
    is_head: bool
    target: bytes
    """Path and query as the client sent them."""
    form: bytes
    """Body of a POST."""
    is_form: bool
    """Whether the client declared the body to be a form, or nothing."""


class Rejection(NamedTuple):
    """A request that is answered without the service."""

    status: int
    is_head: bool


def examine(request: bytes) -> ServiceRequest | Rejection:
    """Decides about the bytes of one whole HTTP/1 request."""
    head, separator, rest = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(lines[0])
    if not separator or match is None:
        return Rejection(400, is_head=lines[0].startswith(b"HEAD "))
    method, is_head = match[1], match[1] == b"HEAD"
    headers = _headers(lines[1:])
    target = _origin_form(match[2])
    status = _refused_status(method, target)
    body = b"" if method != b"POST" or status else _body(headers, rest)
    if body is None:
        status = 400
    elif len(body) > BODY_BYTES_MAX:
        status = 413
    if status or body is None:
        return Rejection(status, is_head)
    media_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    is_form = media_type in (b"", FORM_TYPE.encode("ascii"))
    return ServiceRequest(b"POST" if method == b"POST" else b"GET", is_head, target, body, is_form)


def service_request_bytes(request: ServiceRequest, context: RequestContext) -> bytes:
    """The request as the web server gets it."""
    lines = [
        request.method + b" " + request.target + b" HTTP/1.1",
        b"Host: rubis",
        f"{SEQUENCE_HEADER}: {context.sequence}".encode("ascii"),
        f"{TIMESTAMP_HEADER}: {context.timestamp_us}".encode("ascii"),
        f"{SEED_HEADER}: {context.seed.hex()}".encode("ascii"),
        b"Connection: keep-alive",
    ]
    if request.method == b"POST":
        media_type = FORM_TYPE if request.is_form else "application/octet-stream"
        lines += [f"Content-Type: {media_type}".encode("ascii"), b"Content-Length: %d" % len(request.form)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.form


def _refused_status(method: bytes, target: bytes) -> int:
    """The status of a refusal by method and address, 0 if there is none."""
    path = target.partition(b"?")[0]
    if method not in (b"GET", b"HEAD", b"POST"):
        return 405
    if len(target) > TARGET_BYTES_MAX:
        return 414
    if not _PATH.fullmatch(path):
        return 404
    if method == b"POST" and not path.startswith(SERVLETS.encode("ascii")):
        return 405
    return 0


def _origin_form(target: bytes) -> bytes:
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers


def _body(headers: dict[bytes, bytes], rest: bytes) -> bytes | None:
    """The body without its framing, None if the framing is broken."""
    if b"transfer-encoding" in headers:
        return _unchunk(rest) if headers[b"transfer-encoding"].lower() == b"chunked" else None
    length = headers.get(b"content-length", b"0")
    if not _LENGTH.fullmatch(length) or int(length) != len(rest):
        return None
    return rest


def _unchunk(data: bytes) -> bytes | None:
    chunks: list[bytes] = []
    position = 0
    while len(chunks) < CHUNKS_MAX:
        end = data.find(b"\r\n", position)
        match = _CHUNK_SIZE.fullmatch(data[position:end]) if end >= 0 else None
        if match is None:
            return None
        size = int(match[1], 16)
        start, position = end + 2, end + 2 + size + 2
        if size == 0:
            return b"".join(chunks)  # what follows are trailers: nothing reads them
        if data[start + size : position] != b"\r\n":
            return None
        chunks.append(data[start : start + size])
    return None
