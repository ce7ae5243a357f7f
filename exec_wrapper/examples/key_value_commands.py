"""The language of the key-value service: what its clients send and get, as bytes.

A request is `operation: u8 | field…`, a reply `status: u8 | field…`, an update `change: u8 | field…`;
a field is `length: u32 | bytes`, big-endian.  Keys and values are any bytes.
"""

import struct
from typing import List, NamedTuple, Optional

GET = b"G"
SET = b"S"
DELETE = b"D"
APPEND = b"A"
COMPARE_AND_SET = b"C"
SCAN = b"N"
ECHO = b"E"
STAMP = b"T"

OK = b"\x00"
NOT_FOUND = b"\x01"
MISMATCH = b"\x02"
BAD_REQUEST = b"\x03"
TOO_LARGE = b"\x04"

KEY_BYTES_MAX = 1024
VALUE_BYTES_MAX = 1024 * 1024
SCAN_ENTRIES_MAX = 1000
SCAN_BYTES_MAX = 1024 * 1024
"""A scan ends early before its reply gets longer than this."""

_LENGTH = struct.Struct(">I")
_FIELD_LENGTH_BYTES = _LENGTH.size


class Reply(NamedTuple):
    """A decoded reply."""

    status: bytes
    """`OK`, `NOT_FOUND`, `MISMATCH`, `BAD_REQUEST` or `TOO_LARGE`."""
    fields: List[bytes]


def encode_get(key: bytes) -> bytes:
    """Ask for the value of `key`: `OK` value, or `NOT_FOUND`."""
    return GET + encode_field(key)


def encode_set(key: bytes, value: bytes) -> bytes:
    """Give `key` a value: `OK`."""
    return SET + encode_field(key) + encode_field(value)


def encode_delete(key: bytes) -> bytes:
    """Remove `key`: `OK`, or `NOT_FOUND`."""
    return DELETE + encode_field(key)


def encode_append(key: bytes, value: bytes) -> bytes:
    """Lengthen the value of `key`, at first empty: `OK` and the new length as 8 bytes."""
    return APPEND + encode_field(key) + encode_field(value)


def encode_compare_and_set(key: bytes, value: bytes, expected: Optional[bytes]) -> bytes:
    """Give `key` a value if its value is `expected` (`None`: if it has none): `OK`, or `MISMATCH` and its value."""
    condition = b"" if expected is None else encode_field(expected)
    return COMPARE_AND_SET + encode_field(key) + encode_field(value) + condition


def encode_scan(start: bytes, count: int) -> bytes:
    """Ask for up to `count` entries from `start` on, in the order of keys: `OK` key, value, key, value, …"""
    return SCAN + encode_field(start) + encode_field(_LENGTH.pack(count))


def encode_echo(data: bytes) -> bytes:
    """Ask for `data` back: `OK` data.  Touches nothing."""
    return ECHO + encode_field(data)


def encode_stamp(key: bytes) -> bytes:
    """Store the agreed time (8 bytes, µs) and 8 random bytes under `key`: `OK` and these 16 bytes."""
    return STAMP + encode_field(key)


def decode_reply(data: bytes) -> Reply:
    """Return the parts of a reply.

    Raises:
        ValueError: it is none.
    """
    if not data:
        raise ValueError("an empty reply")
    return Reply(data[:1], decode_fields(data, 1))


def encode_field(data: bytes) -> bytes:
    """Return `data` behind its length."""
    return _LENGTH.pack(len(data)) + data


def decode_fields(data: bytes, position: int) -> List[bytes]:
    """Return the fields of `data` from `position` to its end.

    Raises:
        ValueError: the end is within a field.
    """
    fields: List[bytes] = []
    end = len(data)
    while position < end:
        begin = position + _FIELD_LENGTH_BYTES
        if begin > end:
            raise ValueError("the end is within a length")
        position = begin + _LENGTH.unpack_from(data, begin - _FIELD_LENGTH_BYTES)[0]
        if position > end:
            raise ValueError("the end is within a field")
        fields.append(data[begin:position])
    return fields


def decode_count(data: bytes) -> int:
    """Return the number in a field of 4 bytes.

    Raises:
        ValueError: it has another length.
    """
    if len(data) != _LENGTH.size:
        raise ValueError("a count has %d bytes, not %d" % (_LENGTH.size, len(data)))
    count: int = _LENGTH.unpack(data)[0]
    return count
