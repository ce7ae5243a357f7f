"""One record of an audit log, and its hash.  Pure.

A line of the file is the hash in hexadecimal, a blank, and the record's canonical bytes: JSON with sorted keys and
without blanks.  The hash is SHA-256(hash of the record before, 32 bytes ‖ canonical bytes); before the first record
stand 32 zero bytes.  What is hashed is what stands in the file, never a second encoding of it.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

AGREED_KINDS = frozenset(("role_changed", "membership_changed", "domain_suspected", "cell_restarted"))
"""Changes that all servers record equally, at their position in the agreed order."""
NOTED_KINDS = AGREED_KINDS | {"request_resolved", "vote_contradicts"}
"""What is recorded of the core's events.  The last two carry no position of the order: they are not compared."""
LOG_OPENED = "log_opened"
"""A server began to write: `standing`, and whether the operator accepted a loss of the agreed order."""
BORN = "serving"
"""The standing with which a server of a new cell begins."""
LOG_CLOSED = "log_closed"
"""It ended in good order: nothing of this life of the process is missing."""
ROLES_READ = "roles_read"
"""Changes after `since` up to `through` are not in this log; these are the roles at `through`."""
LINE_TORN = "line_torn"
"""The `bytes` from `offset` on are no whole record: a write that a power cut or a full disk ended."""
RECORDS_LOST = "records_lost"
"""Records up to `head_number` were durable and are not in the file any more."""
CHANGES_DROPPED = "changes_dropped"
"""The disk refused for so long that `count` changes, from position `since` to `through`, were not kept."""

GENESIS = bytes(32)
HASH_CHARACTERS = 64
LINE_BYTES_MAX = 256 * 1024
"""Values are cut to much less when they are recorded."""
_LINE = re.compile(rb"([0-9a-f]{64}) (\{.*\})", re.DOTALL)


class AuditRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One record."""

    number: int
    """Ascending by one from 1 within a file."""
    at_us: int
    """The server's clock, microseconds since 1970-01-01 UTC."""
    server: int
    kind: str
    position: int
    """In the agreed order; 0: this server alone says so."""
    data: dict[str, Any]
    """The evidence.  Equal on all servers where `position` is not 0."""

    @property
    def content(self) -> bytes:
        """What is compared between servers and with what is recorded already."""
        return content_of(self.kind, self.data)

    @property
    def is_birth(self) -> bool:
        """Whether a new cell begins here, whose positions begin anew."""
        return self.kind == LOG_OPENED and self.data.get("standing") == BORN

    def number_in(self, key: str) -> int:
        """Return a number of the evidence; 0 if there is none: the file may have been changed by anybody."""
        value = self.data.get(key)
        return value if isinstance(value, int) else 0


class Line(msgspec.Struct, frozen=True):
    """One line of a file, taken apart."""

    stated: bytes
    """The hash that stands in it."""
    body: bytes
    record: AuditRecord

    def continues(self, previous: bytes) -> bool:
        """Whether the stated hash is that of this record behind the record with the hash `previous`."""
        return chain(previous, self.body) == self.stated


def content_of(kind: str, data: Mapping[str, Any]) -> bytes:
    """Return what a change says, in the one way to spell it."""
    return msgspec.json.encode([kind, data], order="sorted")


def chain(previous: bytes, body: bytes) -> bytes:
    """Return the hash of a record."""
    return sha256(previous + body).digest()


def encode(record: AuditRecord, previous: bytes) -> tuple[bytes, bytes]:
    """Return the line of `record`, with its line end, and its hash."""
    body = msgspec.json.encode(record, order="sorted")
    stated = chain(previous, body)
    return stated.hex().encode() + b" " + body + b"\n", stated


def parse(line: bytes) -> Line | None:
    """Take a line without its end apart; `None`: it is no record."""
    found = _LINE.fullmatch(line) if len(line) <= LINE_BYTES_MAX else None
    if found is None:
        return None
    try:
        record = msgspec.json.decode(found[2], type=AuditRecord)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Line(bytes.fromhex(found[1].decode()), found[2], record)
