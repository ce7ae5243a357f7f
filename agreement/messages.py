"""What members say to each other: one union, tags 1 to 39.

Every message names a configuration and the incarnation that speaks.  A message is about the log of that very
configuration, or (`CatchUp` and the rest of the second half) about the order as a whole.
The sender's member id is not in the message: the transport vouches for it.

Source: Lamport, "Paxos Made Simple" (2001), section 2; design "Agreement stage".
"""

import msgspec

from agreement.changes import Batch, Change, Entry, ServerJoined, ServerLeft, WitnessReplaced
from agreement.configuration import Configuration
from agreement.errors import MalformedMessage
from agreement.identifiers import Ballot, MemberId

__all__ = [
    "Accept",
    "Accepted",
    "Announce",
    "Batch",
    "CatchUp",
    "Change",
    "Decision",
    "Entry",
    "Forward",
    "ForwardChange",
    "Heartbeat",
    "HeartbeatAck",
    "LogPart",
    "Message",
    "Nack",
    "Prepare",
    "Promise",
    "Release",
    "Released",
    "Resume",
    "ServerJoined",
    "ServerLeft",
    "SnapshotPart",
    "SnapshotPull",
    "Starting",
    "Superseded",
    "VoteReport",
    "WitnessReplaced",
    "decode_message",
    "encode_message",
]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Fields of all messages."""

    configuration: int
    """Number of the configuration that the sender is in."""
    incarnation: int
    """Incarnation of the sender."""


class Prepare(_Message, frozen=True, tag=1):
    """Phase 1a: a candidate asks for promises and votes."""

    ballot: Ballot
    first_slot: int
    """The lowest slot that the candidate has not decided."""
    members: Configuration
    """The configuration; tells a witness that it belongs to it."""


class VoteReport(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The newest vote of an acceptor for one slot."""

    slot: int
    ballot: Ballot
    batch: bytes
    """Encoded `Batch`."""


class Promise(_Message, frozen=True, tag=2):
    """Phase 1b: never again a vote below `ballot`; and the votes so far, in `parts` pieces.

    Sent only when the promise and all votes in it are durable.
    """

    ballot: Ballot
    decided: int
    """Highest slot up to which the sender knows everything decided; no votes are reported up to it."""
    part: int
    """0-based."""
    parts: int
    votes: tuple[VoteReport, ...]


class Accept(_Message, frozen=True, tag=3):
    """Phase 2a: the leader proposes a batch for a slot."""

    ballot: Ballot
    first: int
    """The first slot that the leader proposes to this member in this ballot."""
    slot: int
    decided: int
    """Highest slot up to which the leader knows everything decided."""
    batch: bytes
    """Encoded `Batch`."""
    members: Configuration | None = None
    """The configuration, if the receiver is a witness."""
    released: int = -1
    """Every server has the slots up to this one durably: a witness may forget them."""


class Accepted(_Message, frozen=True, tag=4):
    """Phase 2b: the sender's durable votes for the slots `first … through` in `ballot`; none if `first > through`.

    Servers tell it to all servers, so that each learns by itself what is decided; witnesses tell the leader.
    """

    ballot: Ballot
    first: int
    through: int


class Nack(_Message, frozen=True, tag=5):
    """A `Prepare` or `Accept` was refused."""

    ballot: Ballot
    """What was refused."""
    promised: Ballot
    """Promised or voted for since; equal to or below `ballot` if a living leader is the reason."""


class Decision(_Message, frozen=True, tag=6):
    """The leader knows everything decided up to `through`; what it proposed in `ballot` is the value."""

    ballot: Ballot
    through: int


class Forward(_Message, frozen=True, tag=7):
    """An origin asks the leader to order its entries."""

    entries: tuple[Entry, ...]


class ForwardChange(_Message, frozen=True, tag=8):
    """Asks the leader to order a change, if the leader finds it justified too."""

    change: Change


class Heartbeat(_Message, frozen=True, tag=9):
    """The leader is alive."""

    ballot: Ballot
    decided: int
    beat: int
    """Counts the heartbeats of this ballot."""


class HeartbeatAck(_Message, frozen=True, tag=10):
    """Answers a `Heartbeat`: contact in both directions."""

    ballot: Ballot
    beat: int
    first: int
    through: int
    """As in `Accepted`: repeats what may have been lost."""
    decided_durable: int
    """Highest slot of this configuration up to which the sender would know everything decided after a restart."""
    configuration_durable: int
    """The configuration in which the sender would find itself after a restart."""
    decided: int = -1
    """Highest slot up to which the sender knows everything decided; a leader may be behind its followers."""


class CatchUp(_Message, frozen=True, tag=11):
    """A server that lags, or a learner, asks for what it lacks; `configuration` is where it stands."""

    slot: int
    """The first slot that it lacks."""


class LogPart(_Message, frozen=True, tag=12):
    """Decided batches of `configuration`, from `first_slot` on."""

    first_slot: int
    batches: tuple[bytes, ...]
    is_last: bool
    """Whether the sender has nothing further at present."""
    leader: MemberId | None
    """Whom the sender follows: a learner had best ask there, so that the leader knows how far it is."""


class SnapshotPart(_Message, frozen=True, tag=13):
    """One piece of a snapshot: the order's state at a slot boundary, and the application's state at `sequence`."""

    snapshot: int
    """Number given by the sender."""
    sequence: int
    """The application's state covers everything up to this sequence number."""
    part: int
    """0-based."""
    parts: int
    data: bytes


class SnapshotPull(_Message, frozen=True, tag=14):
    """Asks for one more piece of a snapshot."""

    snapshot: int
    part: int


class Superseded(_Message, frozen=True, tag=15):
    """What you said is about a configuration that has ended; `members` is the sender's present one."""

    members: Configuration


class Release(_Message, frozen=True, tag=16):
    """Every server of `members` has durably left all earlier configurations, and has the slots up to `through`.

    A witness forgets the former, keeps for ever the number of `members`, and forgets the latter.
    """

    members: Configuration
    through: int


class Released(_Message, frozen=True, tag=17):
    """A witness has durably done as `Release` says."""

    through: int


class Announce(_Message, frozen=True, tag=18):
    """A witness that belongs to no configuration says its new incarnation."""


class Starting(_Message, frozen=True, tag=19):
    """A server of a cell without witnesses starts with its storage intact, and takes no part yet."""

    boot: int
    """Random number of this process."""
    heard: tuple[tuple[int, int], ...]
    """`(server, boot)` of the processes that it has heard of while starting."""


class Resume(_Message, frozen=True, tag=20):
    """A server takes part; answers a `Starting`."""

    asked_by: int
    """`boot` of the process that is answered."""
    boots: tuple[tuple[int, int], ...]
    """`(server, boot)` of the processes that take part; one that is not named must rejoin."""


Message = (
    Prepare
    | Promise
    | Accept
    | Accepted
    | Nack
    | Decision
    | Forward
    | ForwardChange
    | Heartbeat
    | HeartbeatAck
    | CatchUp
    | LogPart
    | SnapshotPart
    | SnapshotPull
    | Superseded
    | Release
    | Released
    | Announce
    | Starting
    | Resume
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode_message(data: bytes | memoryview) -> Message:
    """The reverse of `encode_message`.

    Raises:
        MalformedMessage: `data` is not a message of this protocol.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise MalformedMessage(str(error)) from error
