"""One line of JSON per message on a control socket.

Request: `{"id": 1, "method": "status", "params": {}}`.
Answers: `{"id": 1, "result": …}`, or `{"id": 1, "error": {"code", "message", "hint"}}`; a stream is any number of
`{"id": 1, "item": …}` and then `{"id": 1, "end": true}` or an error.
"""

from typing import Any

import msgspec

REQUEST_BYTES_MAX = 64 * 1024
"""Requests are a few numbers and names."""
RESPONSE_BYTES_MAX = 16 * 1024 * 1024
"""Both sides refuse more: neither may be made to buffer without bound by the other."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator's command asks."""

    id: int
    """Chosen by the client; repeated in every answer."""
    method: str
    params: dict[str, Any] = {}


class Failure(msgspec.Struct, frozen=True):
    """Why there is no result."""

    code: str
    message: str
    hint: str = ""


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer; exactly one of `result`, `error`, `item`, `end` is set."""

    id: int
    """0: the request could not be read."""
    result: Any | msgspec.UnsetType = msgspec.UNSET
    error: Failure | msgspec.UnsetType = msgspec.UNSET
    item: Any | msgspec.UnsetType = msgspec.UNSET
    end: bool = False


class GarbageRequest(Exception):
    """Raised when a line is no request: the client's fault; the connection ends."""


def decode_request(line: bytes) -> Request:
    """Return the request in `line`.

    Raises:
        GarbageRequest: it is none.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GarbageRequest(f"not a request: {error}") from error


def encode(message: Request | Response) -> bytes:
    """Return the line of `message`; values that JSON does not have are given as text."""
    return msgspec.json.encode(message, enc_hook=str) + b"\n"


_decoder = msgspec.json.Decoder(Request)
