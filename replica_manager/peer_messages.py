"""What replica managers say to each other: agreement's messages and their own, one union with tags.

Agreement has the tags 1 to 39.  Managers are trusted and fail only by crashing, so a message that does not decode is
a broken peer: the connection ends.
"""

import msgspec

from agreement.messages import Message as AgreementMessage

DIGEST_BYTES = 32


class _PeerMessage(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """Common shape: a tagged msgpack array; tags below 40 are agreement's."""


class Votes(_PeerMessage, frozen=True, tag=40):
    """Votes of one domain, batched with whatever else is ready."""

    domain: str
    sequences: list[int]
    """Ascending."""
    digests: bytes
    """32 bytes for each sequence number."""

    def __post_init__(self) -> None:
        """Refuse what does not fit together; a decoder reports it like any malformed message."""
        _require_digests(self.sequences, self.digests)


class StableNotice(_PeerMessage, frozen=True, tag=41):
    """These numbers are stable at the sender; managers are trusted, so this ends the vote at the receiver."""

    sequences: list[int]
    digests: bytes
    """32 bytes for each sequence number."""

    def __post_init__(self) -> None:
        """As in `Votes`."""
        _require_digests(self.sequences, self.digests)


class FetchResult(_PeerMessage, frozen=True, tag=42):
    """Asks for the value of a stable digest."""

    sequence: int
    digest: bytes


class Result(_PeerMessage, frozen=True, tag=43):
    """The value of a stable digest; the receiver checks it against the digest."""

    sequence: int
    reply: bytes
    update: bytes


class StateDigests(_PeerMessage, frozen=True, tag=44):
    """What state a domain of the sender gives at a point: some of its parts, while others may still come."""

    domain: str
    point: int
    first: int
    """Index of the first of these parts."""
    part_digests: list[bytes]
    """SHA-256(point ‖ index ‖ end flag ‖ bytes) of each part from there on."""
    is_complete: bool
    """Whether the last of them is the last part of the state."""
    content_digest: bytes
    """With the last part, SHA-256 over the parts' bytes with their lengths: equal for equal states at different
    points."""


class Position(_PeerMessage, frozen=True, tag=45):
    """How far the sender is; before its other messages whenever it has changed."""

    delivered: int
    """Last sequence number that its agreement has delivered."""
    stable: int
    """Its contiguous stable prefix."""


class FetchPart(_PeerMessage, frozen=True, tag=46):
    """Asks for a part of the state that a domain of the receiver gave at a point."""

    point: int
    domain: str
    index: int


class Part(_PeerMessage, frozen=True, tag=47):
    """Here it is; the receiver checks it against the digest that was voted on."""

    point: int
    domain: str
    index: int
    data: bytes


class Presence(_PeerMessage, frozen=True, tag=48):
    """What the sender is to the cell; with every new link, and whenever it has changed."""

    standing: str
    """The value of a `Standing`."""
    delivered: int
    """Last sequence number that its agreement had delivered when it was that."""


class Relay(_PeerMessage, frozen=True, tag=49):
    """An entry of a server that is in no configuration, to be ordered by the receiver."""

    payload: bytes


def _require_digests(sequences: list[int], digests: bytes) -> None:
    if len(digests) != DIGEST_BYTES * len(sequences):
        raise ValueError(f"{len(digests)} bytes of digests for {len(sequences)} sequence numbers")


ManagerMessage = (
    Votes | StableNotice | FetchResult | Result | StateDigests | Position | FetchPart | Part | Presence | Relay
)
PeerMessage = AgreementMessage | ManagerMessage
