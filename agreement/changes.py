"""What a slot holds: a batch of ordinary entries, and at its end at most one change of the configuration.

Source: design "Agreement stage", A2, A3, Configurations.
"""

import msgspec

from agreement.errors import MalformedMessage


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An ordinary entry; `(server, incarnation, number)` is delivered at most once."""

    server: int
    """The origin: the server that proposed it."""
    incarnation: int
    """The incarnation of the origin."""
    number: int
    """Given by the origin: gap-free within one life of it, see `identifiers.number_follows`."""
    payload: bytes
    """Opaque here."""


class ServerLeft(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=1):
    """A server leaves the configuration: crashed, unreachable, or on its own wish."""

    server: int
    fenced: bool
    """Whether it has surely stopped, with everything on it."""


class ServerJoined(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=2):
    """A learner becomes a server of the configuration."""

    server: int
    incarnation: int
    """Newer than every incarnation of this server that a configuration has named."""
    payload: bytes
    """Opaque here: what the application says about the joiner."""


class WitnessReplaced(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=3):
    """A witness that lost its memory votes again, as a new incarnation."""

    witness: int
    incarnation: int


Change = ServerLeft | ServerJoined | WitnessReplaced
"""What ends the log of a configuration."""


class Batch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The value of one slot; an empty batch fills a hole that a leader left."""

    entries: tuple[Entry, ...] = ()
    change: Change | None = None
    """Follows the entries; everything above it in this configuration's log is void."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)


def encode_batch(batch: Batch) -> bytes:
    """The bytes that are voted on, stored and sent; made once, by the leader.

    Copied into their own size: the encoder's result occupies the whole of its buffer, a fifth more on average, and a
    batch is kept for long.
    """
    buffer = bytearray()
    _encoder.encode_into(batch, buffer)
    return bytes(buffer)


def decode_batch(raw: bytes) -> Batch:
    """The reverse of `encode_batch`.

    Raises:
        MalformedMessage: `raw` is not an encoded batch.
    """
    try:
        return _decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise MalformedMessage(f"a batch of {len(raw)} bytes cannot be read: {error}") from error


EMPTY_BATCH = Batch()
EMPTY_BATCH_RAW = encode_batch(EMPTY_BATCH)
