"""Everything known about sequence numbers that somebody may still need.

Source: design "What may be dropped": votes, digests and values below `stable_all`; requests below both `stable_all`
and every local cursor; nothing else.
"""

from collections import deque
from collections.abc import Iterator

import msgspec

from replica_manager.identifiers import ClientId, DomainId

KEPT_FOR_EXPLANATION = 10_000
"""Dropped numbers that an operator can still ask for, requests and commands; about 150 bytes per request."""


class RequestRecord:
    """One accepted request on this server."""

    __slots__ = (
        "client",
        "deadly_at",
        "first_vote_ms",
        "is_complete",
        "is_contested",
        "is_frozen",
        "is_held",
        "is_settled",
        "is_skipped",
        "number",
        "payload",
        "payload_bytes",
        "seed",
        "sequence",
        "stable_digest",
        "stalled_ms",
        "timestamp_us",
        "values",
        "votes",
    )

    def __init__(
        self, sequence: int, client: ClientId, number: int, timestamp_us: int, seed: bytes, payload: bytes
    ) -> None:
        """Remember the request at `sequence`; nobody has voted."""
        self.sequence = sequence
        self.client = client
        self.number = number
        self.timestamp_us = timestamp_us
        self.seed = seed
        self.payload = payload
        self.payload_bytes = len(payload)
        self.votes: dict[DomainId, bytes] = {}
        self.values: dict[bytes, tuple[bytes, bytes]] = {}
        """Digest → (reply, update), of local domains or fetched."""
        self.stable_digest: bytes | None = None
        self.is_contested = False
        """Whether votes differ."""
        self.is_complete = False
        """Whether it is stable and the stable value is here."""
        self.first_vote_ms = 0
        self.stalled_ms: int | None = None
        """When its vote diverged, or stayed out for too long; None: neither."""
        self.deadly_at = 0
        """Position at which the cell learned that a domain ended while it executed this; 0: none has."""
        self.is_held = False
        """Whether no domain may be fed it: it stopped more domains than the bound allows."""
        self.is_frozen = False
        """Whether this server has consented to skip it: no vote ends it while the others are asked."""
        self.is_settled = False
        """Whether it was stable before a restart of the cell, or must have been: nobody votes on it."""
        self.is_skipped = False
        """Whether an operator skipped it: a fixed outcome, no update."""


CommandName = str
"""What an entry is that no domain executes, such as `Progress`."""


class _Explained(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is kept of a dropped number; packed, since nearly all of them are dropped again without being looked at."""

    sequence: int
    client: ClientId
    number: int
    timestamp_us: int
    payload_bytes: int
    stable_digest: bytes | None
    is_contested: bool
    is_skipped: bool
    agreeing: tuple[DomainId, ...]
    """Domains that voted for the stable digest."""
    others: dict[DomainId, bytes]

    @classmethod
    def of(cls, record: RequestRecord) -> "_Explained":
        """What an operator may ask about a record."""
        stable, votes = record.stable_digest, record.votes
        agreeing = tuple(domain for domain, digest in votes.items() if digest == stable)
        others = {} if len(agreeing) == len(votes) else {d: vote for d, vote in votes.items() if vote != stable}
        return cls(
            record.sequence, record.client, record.number, record.timestamp_us, record.payload_bytes,
            stable, record.is_contested, record.is_skipped, agreeing, others,
        )  # fmt: skip

    def record(self) -> RequestRecord:
        """The record again, without what only executing needed."""
        record = RequestRecord(self.sequence, self.client, self.number, self.timestamp_us, b"", b"")
        record.payload_bytes = self.payload_bytes
        record.stable_digest, record.is_contested = self.stable_digest, self.is_contested
        record.is_skipped = self.is_skipped
        if self.stable_digest is not None:
            record.votes = dict.fromkeys(self.agreeing, self.stable_digest)
        record.votes |= self.others
        return record


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Explained)


class RequestLog:
    """Records by sequence number, dense from `first` to `last`; of commands it has the name alone."""

    def __init__(self) -> None:
        """Make an empty log before number 1."""
        self._records: deque[RequestRecord | CommandName] = deque()
        self.first = 1
        self._light_through = 0
        self._dropped: deque[bytes | CommandName] = deque(maxlen=KEPT_FOR_EXPLANATION)
        """What was at the numbers right before `first`, without gaps; requests packed."""
        self._packing = bytearray()

    @property
    def last(self) -> int:
        """The newest number; `first - 1` when empty."""
        return self.first + len(self._records) - 1

    @property
    def first_explained(self) -> int:
        """The oldest number that `explain` still knows."""
        return self.first - len(self._dropped)

    def append(self, sequence: int, record: RequestRecord | CommandName) -> None:
        """Add the next number: a request, or the name of a command, which nobody executes."""
        assert sequence == self.last + 1, f"number {sequence} after {self.last}"
        self._records.append(record)

    def get(self, sequence: int) -> RequestRecord | None:
        """Return the record; None for a command, a dropped or a future number."""
        index = sequence - self.first
        found = self._records[index] if 0 <= index < len(self._records) else None
        return found if isinstance(found, RequestRecord) else None

    def records(self, first: int) -> Iterator[RequestRecord]:
        """Yield the records from `first` on, ascending."""
        for sequence in range(max(first, self.first), self.last + 1):
            record = self.get(sequence)
            if record is not None:
                yield record

    def drop_through(self, sequence: int) -> None:
        """Forget every number up to and including `sequence`, but keep what it was and who voted what for a while."""
        while self._records and self.first <= sequence:
            record = self._records.popleft()
            self.first += 1
            self._dropped.append(self._pack(record) if isinstance(record, RequestRecord) else record)

    def _pack(self, record: RequestRecord) -> bytes:
        _forget_bytes(record)
        # By way of a buffer: the encoder's result would occupy 512 bytes whatever it holds.
        _encoder.encode_into(_Explained.of(record), self._packing)
        return bytes(self._packing)

    def forget_values_through(self, sequence: int) -> None:
        """Forget requests and values up to `sequence`, which every live server has stable and no local domain executes.

        The numbers stay until each local domain has passed them: one that sleeps would otherwise keep the bytes of
        thousands of replies in memory.
        """
        for number in range(max(self._light_through + 1, self.first), min(sequence, self.last) + 1):
            record = self._records[number - self.first]
            if isinstance(record, RequestRecord):
                _forget_bytes(record)
        self._light_through = max(self._light_through, min(sequence, self.last))

    def restart_at(self, first: int) -> None:
        """Forget everything; the next number is `first`."""
        self._records.clear()
        self._dropped.clear()
        self.first = first
        self._light_through = first - 1

    def explain(self, sequence: int) -> RequestRecord | CommandName | None:
        """Return what is at `sequence`, also a while after it was dropped; None: a forgotten or a future number."""
        if sequence >= self.first:
            index = sequence - self.first
            return self._records[index] if index < len(self._records) else None
        index = sequence - self.first_explained
        if index < 0:
            return None
        found = self._dropped[index]
        return found if isinstance(found, str) else _decoder.decode(found).record()


def _forget_bytes(record: RequestRecord) -> None:
    """Who voted what stays."""
    record.payload = b""
    record.values.clear()
