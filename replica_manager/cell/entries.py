"""Entries of the agreed sequence that replica managers order themselves.

Agreement carries them as opaque payloads; membership changes are agreement's own entries.
Digest and compare the received bytes, never a re-encoding.
"""

import msgspec

from agreement.messages import Change, Entry

RANDOM_BYTES = 16


class _Entry(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """Common shape: a tagged msgpack array."""


class OpenClient(_Entry, frozen=True, tag=1):
    """Issue a client id."""

    random: bytes
    """16 random bytes of the intake server; the id is the sequence number followed by these."""
    token: int
    """Chosen by the intake server to recognise its own entry."""


class Request(_Entry, frozen=True, tag=2):
    """One client request."""

    client: bytes
    number: int
    """Per client, ascending."""
    timestamp_us: int
    """Clock of the intake server; lowered by the leader if too far ahead, adjusted at delivery."""
    random: bytes
    """16 random bytes of the intake server; seed = SHA-256(these ‖ sequence)."""
    payload: bytes


class Stopped(_Entry, frozen=True, tag=3):
    """The hosting server knows that its domain is gone."""

    domain: str
    reason: str
    seen: int
    at: int = 0
    """The request that it was executing, or was stopped for executing too long; 0: none."""


class Offer(_Entry, frozen=True, tag=4):
    """A server offers to activate its passive domain in the current round."""

    domain: str
    round_number: int
    seen: int


class Progress(_Entry, frozen=True, tag=5):
    """How far one server is; from these follows what may be dropped everywhere."""

    seen: int
    stable: int
    """Contiguous stable prefix of the server: every number up to and including this one is stable there."""
    durable: int
    """Every number up to and including this one is on the disk of each domain of the server."""
    digest_position: int
    """Position at which `digest` was taken, a multiple of `DIGEST_INTERVAL`; 0: none yet."""
    digest: bytes
    """Digest of the cell state right after `digest_position`."""


class RecoveryPoint(_Entry, frozen=True, tag=6):
    """Domains give their state as it is after every entry before this one.

    One point is open at a time: a domain that still streams its state for an earlier one could not give this one's
    later.
    """

    kind: str
    """`checkpoint`: digests are compared and reported, nothing is replaced.  `recovery`: next generations get it.
    `export`: the server that orders it writes it to a file."""
    seen: int
    token: int
    """Of a recovery: its number."""
    attempt: int = 0
    """Of an export: 0: as few domains as can be enough give their state; higher: all do."""


class PointClosed(_Entry, frozen=True, tag=7):
    """Every domain has given its state at `point`, or is gone; ordered by every server that knows, the first counts.

    An export ends when its own server says so, in whatever way.
    """

    point: int
    digests: list[tuple[str, bytes]]
    """Of a checkpoint: content digest per domain, by name."""


class Stalled(_Entry, frozen=True, tag=8):
    """A voter cannot finish its lowest open number; it stands for all higher numbers too.

    Source: SPARE §4.4.2, §4.4.3; design "Stalled verification".
    """

    sequence: int
    seen: int
    """Position that the proposer had delivered."""
    contributed: list[str]
    """Domains whose vote on `sequence` the proposer has, by name."""
    count: int
    """Domains to be activated, see `is_late`."""
    is_late: bool
    """Whether votes stayed out.  Then `count` is `T - m`, `m` the largest number of equal votes, and active domains
    that have not contributed are suspected.  Else votes diverge: who has not voted may still do so, is suspected of
    nothing, and is not replaced."""


class Convicted(_Entry, frozen=True, tag=9):
    """A voter holds proof that a domain is faulty."""

    domain: str
    sequence: int
    """What it was wrong about: a request, or the point of a state; 0: neither."""
    reason: str
    seen: int


class Suspected(_Entry, frozen=True, tag=10):
    """A domain does not do in time what it should; no proof, so it is replaced before it is given up."""

    domain: str
    reason: str
    seen: int


class Promote(_Entry, frozen=True, tag=11):
    """The planner, or the operator, wants a passive domain active."""

    domain: str
    seen: int


class Demote(_Entry, frozen=True, tag=12):
    """The planner wants an active domain passive."""

    domain: str
    seen: int


class RepairPoint(_Entry, frozen=True, tag=13):
    """Domains give their state as it is before this entry, so that fresh domains of one server are filled with it.

    Source: design "Repair" (Deviates: the thesis waits for the next recovery).
    """

    domains: list[str]
    """The fresh domains, all of one server; booted, empty."""
    attempt: int
    """0: as few domains as can be enough give their state; higher: all do."""
    seen: int


class DomainReady(_Entry, frozen=True, tag=14):
    """A fresh domain holds the agreed state, and may be relied on."""

    domain: str
    cursor: int
    seen: int


class Resolve(_Entry, frozen=True, tag=15):
    """The operator decides about a request that stays open because more than `f'` domains failed on it.

    Source: design "More rounds, and more than f faults".
    """

    sequence: int
    action: str
    """`skip`: a fixed error reply and no update, once every server consents.  `retry`: domains may be fed it again."""
    token: int


class Consent(_Entry, frozen=True, tag=16):
    """A server's answer to a `Resolve` that skips: stability is no agreed knowledge, so each has to be asked.

    From the delivery of the `Resolve` on a server that consents lets no vote on the number end.
    """

    sequence: int
    is_open: bool
    """Whether the number was not stable there."""
    has_fresh_domain: bool
    """Whether a domain there was not handed the number, and so has nothing of it in its state."""


class RestartBegun(_Entry, frozen=True, tag=17):
    """All live servers have started again together: each boots its domains from their own disks.

    Source: design "Cell restart".
    """

    token: int
    """Higher than that of every restart before, also of one that was itself interrupted."""


class Restarted(_Entry, frozen=True, tag=18):
    """A domain is back from its own disk."""

    domain: str
    cursor: int
    """First number that is not in its state."""
    token: int
    """Of the `RestartBegun` that it answers."""
    life: int
    """Of the process that booted it; any number that no former process of the server had."""


class RecoveryBegun(_Entry, frozen=True, tag=19):
    """Every server gets a fresh domain from a clean image in the place of one that has served long.

    Source: SPARE §4.5; design "Proactive recovery".
    """

    kind: str
    """`lightweight` or `resilient`."""
    number: int
    """One higher than that of the last recovery: so that several triggers begin one."""
    token: int
    """Chosen by who asks for it; 0: nobody waits for its end."""


class NextBooted(_Entry, frozen=True, tag=20):
    """A server's next generation is booted, and empty."""

    domain: str
    number: int
    """Of the recovery."""


class Switch(_Entry, frozen=True, tag=21):
    """A server's next generation holds the agreed state: its sleeper becomes active, and the new one sleeps."""

    domain: str
    """The next generation."""
    seen: int


class RecoveryAborted(_Entry, frozen=True, tag=22):
    """The recovery goes on without the servers that hold it up.

    Before its point those whose next generation is not there; afterwards, as states differ or do not come, all whose
    next generation holds none yet.
    """

    number: int
    reason: str


CellEntry = (
    OpenClient
    | Request
    | Stopped
    | Offer
    | Progress
    | RecoveryPoint
    | PointClosed
    | Stalled
    | Convicted
    | Suspected
    | Promote
    | Demote
    | RepairPoint
    | DomainReady
    | Resolve
    | Consent
    | RestartBegun
    | Restarted
    | RecoveryBegun
    | NextBooted
    | Switch
    | RecoveryAborted
)

DIGEST_INTERVAL = 1024

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[CellEntry] = msgspec.msgpack.Decoder(CellEntry)


class EntryError(Exception):
    """Raised for agreed bytes that are no entry: a broken invariant, since only managers propose entries."""


def encode_entry(entry: CellEntry) -> bytes:
    """Return the bytes that agreement carries."""
    return _encoder.encode(entry)


def decode_entry(payload: bytes) -> CellEntry:
    """Return the entry in `payload`.

    Raises:
        EntryError: the bytes are no entry of this version.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EntryError(f"agreed bytes are no entry: {error}") from error


def command_name(agreed: Entry | Change) -> str:
    """Return what an agreed entry is called that no domain executes.

    Raises:
        EntryError: the bytes are no entry of this version.
    """
    command = decode_entry(agreed.payload) if isinstance(agreed, Entry) else agreed
    return "Request, not executed" if isinstance(command, Request) else type(command).__name__
