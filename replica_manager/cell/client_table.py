"""The agreed half of the client table: who sent what last.

The other half, the stable replies, is local to each server (`intake.reply_cache`).

Source: design "Client table"; `L7` of its list of traps: a table without the payload's digest lets one client read
another one's reply, one without eviction rules executes a request twice.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from typing import NamedTuple

from replica_manager.identifiers import ClientId

PAYLOAD_DIGEST_BYTES = 16

Row = tuple[bytes, int, int, bytes]
"""`(client, number, sequence, payload digest)` of a client's last request."""


class LastRequest(NamedTuple):
    """The last request of a client."""

    number: int
    """0: none yet."""
    sequence: int
    """Position of the last request, or of the `OpenClient` entry."""
    payload_digest: bytes


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
        self._clients: OrderedDict[ClientId, LastRequest] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of known clients."""
        return len(self._clients)

    def open(self, client: ClientId, sequence: int) -> None:
        """Remember a new client; evicts the least recently used one above the bound."""
        self._clients[client] = LastRequest(0, sequence, b"")
        if len(self._clients) > self.entries_max:
            self._clients.popitem(last=False)

    def judge(self, client: ClientId, number: int, payload: bytes, sequence: int) -> Verdict:
        """Decide about a request at `sequence`, and record it if it is new."""
        last = self._clients.get(client)
        if last is None:
            return _UNKNOWN
        digest = sha256(payload).digest()[:PAYLOAD_DIGEST_BYTES]
        if number > last.number:
            self._clients[client] = LastRequest(number, sequence, digest)
            self._clients.move_to_end(client)
            return _NEW
        if number == last.number and digest == last.payload_digest:
            self._clients.move_to_end(client)
            return Verdict(repeats_sequence=last.sequence)
        return _SUPERSEDED

    def newest_rows(self, count: int) -> Iterator[Row]:
        """Yield the `count` most recently used rows, the newest first."""
        for client, last in islice(reversed(self._clients.items()), count):
            yield client, last.number, last.sequence, last.payload_digest

    def rows(self) -> Iterator[Row]:
        """Yield all rows, least recently used first."""
        for client, last in self._clients.items():
            yield client, last.number, last.sequence, last.payload_digest

    def load(self, rows: Iterable[Row]) -> None:
        """Replace the content by rows as `rows` gave them."""
        self._clients = OrderedDict(
            (ClientId(client), LastRequest(number, sequence, digest)) for client, number, sequence, digest in rows
        )
