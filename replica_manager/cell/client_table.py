"""The agreed half of the client table: who sent what last.

The other half, the stable replies, is local to each server (`intake.reply_cache`).

Source: design "Client table"; `L7` of its list of traps: a table without the payload's digest lets one client read
another one's reply, one without eviction rules executes a request twice.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import NamedTuple

from replica_manager.identifiers import CLIENT_ID_BYTES, ClientId

PAYLOAD_DIGEST_BYTES = 16

_LAST_REQUEST = struct.Struct(f">QQ{PAYLOAD_DIGEST_BYTES}s")
"""A client's last request: its number, 0 for none yet; its position, or that of the `OpenClient` entry; its digest.

Packed: a table of 50,000 is never small, and objects would be twice as large, and as many for the garbage collector.
"""
_NO_DIGEST = bytes(PAYLOAD_DIGEST_BYTES)
ROW_BYTES = CLIENT_ID_BYTES + _LAST_REQUEST.size


class Verdict(NamedTuple):
    """What to do with a request: exactly one field is set."""

    is_new: bool = False
    repeats_sequence: int = 0
    is_unknown: bool = False
    is_superseded: bool = False


_NEW = Verdict(is_new=True)
_UNKNOWN = Verdict(is_unknown=True)
_SUPERSEDED = Verdict(is_superseded=True)


def payload_digest(payload: bytes) -> bytes:
    """Return 16 bytes that tell payloads apart."""
    return sha256(payload).digest()[:PAYLOAD_DIGEST_BYTES]


class ClientTable:
    """Client ids in the order of their last use, at most `entries_max` of them."""

    def __init__(self, entries_max: int) -> None:
        """Make an empty table; the bound must be equal on all servers."""
        self.entries_max = entries_max
        self._clients: OrderedDict[ClientId, bytes] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of known clients."""
        return len(self._clients)

    def open(self, client: ClientId, sequence: int) -> None:
        """Remember a new client; evicts the least recently used one above the bound."""
        self._clients[client] = _LAST_REQUEST.pack(0, sequence, _NO_DIGEST)
        if len(self._clients) > self.entries_max:
            self._clients.popitem(last=False)

    def judge(self, client: ClientId, number: int, payload: bytes, sequence: int) -> Verdict:
        """Decide about a request at `sequence`, and record it if it is new."""
        last = self._clients.get(client)
        if last is None:
            return _UNKNOWN
        last_number, last_sequence, last_digest = _LAST_REQUEST.unpack(last)
        digest = sha256(payload).digest()[:PAYLOAD_DIGEST_BYTES]
        if number > last_number:
            self._clients[client] = _LAST_REQUEST.pack(number, sequence, digest)
            self._clients.move_to_end(client)
            return _NEW
        if number == last_number and digest == last_digest:
            self._clients.move_to_end(client)
            return Verdict(repeats_sequence=last_sequence)
        return _SUPERSEDED

    def newest_rows(self, count: int) -> list[bytes]:
        """Return the `count` most recently used rows, the newest first."""
        return [client + last for client, last in islice(reversed(self._clients.items()), count)]

    def rows(self) -> Iterator[bytes]:
        """Yield all rows, least recently used first: the client's id, then its last request."""
        for client, last in self._clients.items():
            yield client + last

    def encode(self) -> bytes:
        """Return all rows in one piece, without an object per row beside it."""
        data = bytearray()
        for client, last in self._clients.items():
            data += client
            data += last
        return bytes(data)

    def load(self, data: bytes) -> None:
        """Replace the content by what `encode` gave."""
        rows = (data[start : start + ROW_BYTES] for start in range(0, len(data), ROW_BYTES))
        self._clients = OrderedDict((ClientId(row[:CLIENT_ID_BYTES]), row[CLIENT_ID_BYTES:]) for row in rows)
