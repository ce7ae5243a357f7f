"""The reply that is voted on: status, a few headers in fixed order, body; the same bytes from every correct replica.

`Date` is the agreed time.  Everything else that web servers add (`Server`, `ETag`, `Last-Modified`, connection
handling) is dropped, and the text of a web server's own error page is replaced.
"""

from collections.abc import Mapping
from email.utils import formatdate
from typing import Final, NamedTuple

KEPT_HEADERS: Final = ("Content-Type", "Location", "Cache-Control")
_BODILESS: Final = (204, 304)

_PHRASES: Final[Mapping[int, str]] = {
    200: "OK", 204: "No Content", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
    411: "Length Required", 413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
}  # fmt: skip
"""Spelled out, because Python's own table changes between versions."""


class WebReply(NamedTuple):
    """A reply of the web server, read completely."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


def canonical_reply(reply: WebReply, timestamp_us: int, is_head: bool) -> bytes:
    """The bytes for the client.

    Args:
      reply: what the service answered.
      timestamp_us: the request's agreed time.
      is_head: the client wants no body; `Content-Length` tells its length all the same (RFC 9110, section 9.3.2).
    """
    lines = [
        f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unnamed')}",
        f"Date: {formatdate(timestamp_us // 1_000_000, usegmt=True)}",
    ]
    lines += [f"{name}: {reply.headers[name.lower()]}" for name in KEPT_HEADERS if name.lower() in reply.headers]
    if reply.status not in _BODILESS:
        lines.append(f"Content-Length: {len(reply.body)}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if is_head or reply.status in _BODILESS else head + reply.body


def plain_reply(status: int, location: str | None = None) -> WebReply:
    """The reply of a replica's gate or web server, which differ: a fixed text in place of theirs."""
    phrase = _PHRASES.get(status, "Unnamed")
    word = "" if status < 400 else "ERROR "
    body = f"<!DOCTYPE html>\n<title>{phrase}</title>\n<h1>{word}{status} {phrase}</h1>\n"
    headers = {"content-type": "text/html; charset=utf-8"}
    if location is not None:
        headers["location"] = location
    return WebReply(status, headers, body.encode("ascii"))
