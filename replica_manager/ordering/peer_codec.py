"""Messages to frames and back: a frame is a msgpack array of messages of one union.

Every room that talks to peers defines its messages as tagged structs (tags are handed out in
`docs/architecture.md`; agreement has 1 to 39); the wiring joins them to the union of the peer channel.

Source: the msgpack specification, formats `fixarray`, `array 16`, `array 32`.
"""

import struct
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from replica_manager.ordering.errors import LinkRefused, MessageTooLarge, RefusalReason

MessageT = TypeVar("MessageT")

MESSAGES_PER_FRAME_MAX = 0xFFFF
ARRAY_HEADER_BYTES_MAX = 3
_ARRAY_16 = struct.Struct(">BH")


class PeerCodec(Generic[MessageT]):
    """Encodes and decodes the messages of one channel.  Pure."""

    def __init__(self, message_type: Any, frame_bytes_max: int) -> None:
        """`message_type` is the union of all messages of the channel."""
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[list[MessageT]] = msgspec.msgpack.Decoder(list[message_type])
        self._message_bytes_max = frame_bytes_max - ARRAY_HEADER_BYTES_MAX

    def encode(self, message: MessageT) -> bytes:
        """Return one message, to be joined with others by `frames`.

        Raises:
            MessageTooLarge: it would not fit into a frame.
        """
        encoded = self._encoder.encode(message)
        if len(encoded) > self._message_bytes_max:
            kind = type(message).__name__
            raise MessageTooLarge(f"{kind} of {len(encoded)} bytes, limit {self._message_bytes_max}")
        return encoded

    def frames(self, encoded: Sequence[bytes]) -> list[bytes]:
        """Join encoded messages to as few frames as the limit allows, in order."""
        if len(encoded) <= MESSAGES_PER_FRAME_MAX and sum(map(len, encoded)) <= self._message_bytes_max:
            return [_frame(encoded)] if encoded else []
        frames: list[bytes] = []
        start = size = 0
        for index, message in enumerate(encoded):
            if size + len(message) > self._message_bytes_max or index - start == MESSAGES_PER_FRAME_MAX:
                frames.append(_frame(encoded[start:index]))
                start, size = index, 0
            size += len(message)
        frames.append(_frame(encoded[start:]))
        return frames

    def decode(self, frame: bytes) -> list[MessageT]:
        """Return the messages of a frame.

        Raises:
            LinkRefused: not an array of known messages.
        """
        try:
            return self._decoder.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise LinkRefused(RefusalReason.MESSAGE, str(error)) from error


def _frame(encoded: Sequence[bytes]) -> bytes:
    """Return the messages with the header of an array in front."""
    count = len(encoded)
    header = bytes((0x90 | count,)) if count < 16 else _ARRAY_16.pack(0xDC, count)
    return header + b"".join(encoded)
