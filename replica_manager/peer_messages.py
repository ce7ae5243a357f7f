"""What replica managers say to each other: agreement's messages and their own, in one frame.

Managers are trusted and fail only by crashing, so a frame that does not decode is a broken peer: the connection ends.
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


class StableNotice(_PeerMessage, frozen=True, tag=41):
    """These numbers are stable at the sender; managers are trusted, so this ends the vote at the receiver."""

    sequences: list[int]
    digests: bytes
    """32 bytes for each sequence number."""


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
    """What state a domain of the sender gave at a point."""

    domain: str
    point: int
    part_digests: list[bytes]
    """SHA-256(point ‖ index ‖ end flag ‖ bytes) of each part."""
    content_digest: bytes
    """SHA-256 over the parts' bytes with their lengths: equal for equal states at different points."""


ManagerMessage = Votes | StableNotice | FetchResult | Result | StateDigests
PeerMessage = AgreementMessage | ManagerMessage


class PeerFrame(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One frame on a link between members."""

    delivered: int
    """Last sequence number that the sender's agreement has delivered."""
    stable: int
    """Contiguous stable prefix of the sender; 0 from a witness."""
    messages: list[PeerMessage]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PeerFrame)


class PeerFrameError(Exception):
    """Raised when a peer's bytes are no frame: the peer is broken or of another version; end the connection."""


def encode_frame(frame: PeerFrame) -> bytes:
    """Return the bytes of `frame`, without the transport's length prefix."""
    return _encoder.encode(frame)


def decode_frame(data: bytes) -> PeerFrame:
    """Return the frame in `data`.

    Raises:
        PeerFrameError: not a frame of this version.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise PeerFrameError(str(error)) from error
