"""From bytes to messages, in pieces of any size, and back.

Both ends of the channel use this module: a wrapper reads with `decode_to_wrapper`, a replica manager with
`decode_from_wrapper`.  The hot path of a cell: one `struct` call and one slice a field.

Source: `docs/wrapper-protocol.md`.
"""

import struct
from typing import Any, Callable, Dict, Generic, List, Mapping, Tuple, TypeVar

from exec_wrapper.encoding import bounded_text, encode_execute, encode_executed, encode_frame
from exec_wrapper.layout import (
    APPLY_UPDATES_LAYOUT,
    COUNT_LAYOUT,
    EXECUTE_LAYOUT,
    EXECUTED_LAYOUT,
    HEADER_BYTES,
    HEADER_LAYOUT,
    HELLO_LAYOUT,
    KIND_APPLIED,
    KIND_APPLY_UPDATES,
    KIND_CANCEL_STATE,
    KIND_EXECUTE,
    KIND_EXECUTED,
    KIND_FAILED,
    KIND_HELLO,
    KIND_NEXT_PART,
    KIND_PING,
    KIND_PONG,
    KIND_SET_PART,
    KIND_SET_STATE,
    KIND_STATE_PART,
    KIND_STATE_SET,
    KIND_SYNC,
    KIND_SYNCED,
    KIND_TAKE_STATE,
    KIND_WRAPPER_HELLO,
    MAGIC,
    NUMBER_LAYOUT,
    SET_PART_LAYOUT,
    SET_STATE_LAYOUT,
    STATE_PART_LAYOUT,
    TAKE_STATE_LAYOUT,
    TEXT_LENGTH_LAYOUT,
    UPDATE_LAYOUT,
    WRAPPER_HELLO_LAYOUT,
)
from exec_wrapper.wire import (
    FRAME_BYTES_MAX,
    TEXT_BYTES_MAX,
    Applied,
    ApplyUpdates,
    CancelState,
    Execute,
    Executed,
    Failed,
    FromWrapper,
    Hello,
    NextPart,
    Ping,
    Pong,
    SetPart,
    SetState,
    StatePart,
    StateSet,
    Sync,
    Synced,
    TakeState,
    ToWrapper,
    WireError,
    WrapperHello,
)

__all__ = [
    "FrameDecoder",
    "bounded_text",
    "decode_from_wrapper",
    "decode_to_wrapper",
    "encode_execute",
    "encode_executed",
    "encode_frame",
]

BodyDecoder = Callable[[bytes, int, int], Any]
"""Decodes the frame whose body is `data[start:stop]`; its length field is at `start - HEADER_BYTES`."""


def _wrong_length(kind: str, size: int) -> WireError:
    return WireError("a %s frame cannot have a body of %d bytes" % (kind, size))


def _flag(value: int) -> bool:
    if value > 1:
        raise WireError("a flag is 0 or 1, not %d" % value)
    return value == 1


def _fixed(layout: struct.Struct, make: Callable[..., Any], name: str) -> BodyDecoder:
    """Return the decoder of a frame without a variable part."""
    body_bytes = layout.size - HEADER_BYTES
    unpack_from = layout.unpack_from

    def decode(data: bytes, start: int, stop: int) -> Any:
        if stop - start != body_bytes:
            raise _wrong_length(name, stop - start)
        return make(*unpack_from(data, start - 5)[2:])

    return decode


def _decode_hello(data: bytes, start: int, stop: int) -> Hello:
    if stop - start != HELLO_LAYOUT.size - HEADER_BYTES:
        raise _wrong_length("Hello", stop - start)
    _, _, magic, former_epoch, epoch, *limits = HELLO_LAYOUT.unpack_from(data, start - HEADER_BYTES)
    if magic != MAGIC:
        raise WireError("a Hello frame without its magic bytes")
    protocol, frame_bytes_max, part_bytes_max = limits
    return Hello(epoch, frame_bytes_max, part_bytes_max, protocol, former_epoch)


def _decode_execute(data: bytes, start: int, stop: int) -> Execute:
    if stop - start < 56:
        raise _wrong_length("Execute", stop - start)
    _, _, previous, sequence, timestamp_us, seed = EXECUTE_LAYOUT.unpack_from(data, start - 5)
    return Execute(previous, sequence, timestamp_us, seed, data[start + 56 : stop])


def _decode_apply_updates(data: bytes, start: int, stop: int) -> ApplyUpdates:
    if stop - start < 20:
        raise _wrong_length("ApplyUpdates", stop - start)
    _, _, previous, up_to, count = APPLY_UPDATES_LAYOUT.unpack_from(data, start - 5)
    position = start + 20
    if count * 12 > stop - position:
        raise WireError("an ApplyUpdates frame announces %d updates in %d bytes" % (count, stop - position))
    updates: List[Tuple[int, bytes]] = []
    for _ in range(count):
        if stop - position < 12:
            raise WireError("an ApplyUpdates frame ends within an update")
        sequence, update_bytes = UPDATE_LAYOUT.unpack_from(data, position)
        begin = position + 12
        position = begin + update_bytes
        if position > stop:
            raise WireError("an ApplyUpdates frame ends within an update")
        updates.append((sequence, data[begin:position]))
    if position != stop:
        raise WireError("an ApplyUpdates frame goes on after its last update")
    return ApplyUpdates(previous, up_to, tuple(updates))


def _decode_set_part(data: bytes, start: int, stop: int) -> SetPart:
    if stop - start < 5:
        raise _wrong_length("SetPart", stop - start)
    _, _, index, is_last = SET_PART_LAYOUT.unpack_from(data, start - 5)
    return SetPart(index, _flag(is_last), data[start + 5 : stop])


def _decode_wrapper_hello(data: bytes, start: int, stop: int) -> WrapperHello:
    fixed_bytes = WRAPPER_HELLO_LAYOUT.size - HEADER_BYTES
    if stop - start < fixed_bytes:
        raise _wrong_length("WrapperHello", stop - start)
    _, _, epoch, protocol, cursor, state_format, is_concurrent = WRAPPER_HELLO_LAYOUT.unpack_from(
        data, start - HEADER_BYTES
    )
    position = start + fixed_bytes
    service, position = _decode_text(data, position, stop)
    version, position = _decode_text(data, position, stop)
    image, position = _decode_text(data, position, stop)
    if position != stop:
        raise WireError("a WrapperHello frame goes on after its last text")
    return WrapperHello(epoch, cursor, state_format, _flag(is_concurrent), service, version, image, protocol)


def _decode_text(data: bytes, position: int, stop: int) -> Tuple[str, int]:
    begin = position + TEXT_LENGTH_LAYOUT.size
    if begin > stop:
        raise WireError("a frame ends within a text")
    end = begin + TEXT_LENGTH_LAYOUT.unpack_from(data, position)[0]
    if end > stop or end - begin > TEXT_BYTES_MAX:
        raise WireError("a text of %d bytes" % (end - begin))
    return _utf8(data[begin:end]), end


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError("a text that is not UTF-8") from error


def _decode_executed(data: bytes, start: int, stop: int) -> Executed:
    if stop - start < 12:
        raise _wrong_length("Executed", stop - start)
    _, _, sequence, reply_bytes = EXECUTED_LAYOUT.unpack_from(data, start - 5)
    middle = start + 12 + reply_bytes
    if middle > stop:
        raise WireError("an Executed frame ends within its reply")
    return Executed(sequence, data[start + 12 : middle], data[middle:stop])


def _decode_state_part(data: bytes, start: int, stop: int) -> StatePart:
    if stop - start < 13:
        raise _wrong_length("StatePart", stop - start)
    _, _, point, index, is_last = STATE_PART_LAYOUT.unpack_from(data, start - 5)
    return StatePart(point, index, _flag(is_last), data[start + 13 : stop])


def _decode_failed(data: bytes, start: int, stop: int) -> Failed:
    if stop - start > TEXT_BYTES_MAX:
        raise _wrong_length("Failed", stop - start)
    return Failed(_utf8(data[start:stop]))


_TO_WRAPPER: Dict[int, BodyDecoder] = {
    KIND_HELLO: _decode_hello,
    KIND_PING: _fixed(NUMBER_LAYOUT, Ping, "Ping"),
    KIND_EXECUTE: _decode_execute,
    KIND_APPLY_UPDATES: _decode_apply_updates,
    KIND_TAKE_STATE: _fixed(TAKE_STATE_LAYOUT, TakeState, "TakeState"),
    KIND_NEXT_PART: _fixed(COUNT_LAYOUT, NextPart, "NextPart"),
    KIND_CANCEL_STATE: _fixed(NUMBER_LAYOUT, CancelState, "CancelState"),
    KIND_SET_STATE: _fixed(SET_STATE_LAYOUT, SetState, "SetState"),
    KIND_SET_PART: _decode_set_part,
    KIND_SYNC: _fixed(HEADER_LAYOUT, Sync, "Sync"),
}

_FROM_WRAPPER: Dict[int, BodyDecoder] = {
    KIND_WRAPPER_HELLO: _decode_wrapper_hello,
    KIND_PONG: _fixed(NUMBER_LAYOUT, Pong, "Pong"),
    KIND_EXECUTED: _decode_executed,
    KIND_APPLIED: _fixed(NUMBER_LAYOUT, Applied, "Applied"),
    KIND_SYNCED: _fixed(NUMBER_LAYOUT, Synced, "Synced"),
    KIND_STATE_PART: _decode_state_part,
    KIND_STATE_SET: _fixed(NUMBER_LAYOUT, StateSet, "StateSet"),
    KIND_FAILED: _decode_failed,
}

Message = TypeVar("Message")


class FrameDecoder(Generic[Message]):
    """Cuts a stream of bytes into messages of one direction.

    The bytes may come in any pieces.  Holds at most one incomplete frame, that is `frame_bytes_max` and one read.
    """

    def __init__(self, decoders: Mapping[int, BodyDecoder], frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        """Start at a frame boundary; `frame_bytes_max` bounds the `length` field."""
        self._decoders = decoders
        self.frame_bytes_max = frame_bytes_max
        self._pieces: List[bytes] = []
        self._pieces_bytes = 0
        self._needed_bytes = HEADER_BYTES
        self._error = ""

    @property
    def pending_bytes(self) -> int:
        """Bytes of the incomplete frame that was begun."""
        return self._pieces_bytes

    def feed(self, data: bytes) -> List[Message]:
        """Return the messages that `data` completes.

        Raises:
            WireError: the stream is not of this protocol.  Its `messages` are those before the offending bytes;
                every later call raises too.
        """
        if self._error:
            raise WireError(self._error)
        if self._pieces:
            # Joined only when the frame is complete: a long frame in short reads stays linear.
            self._pieces.append(data)
            self._pieces_bytes += len(data)
            if self._pieces_bytes < self._needed_bytes:
                return []
            data = b"".join(self._pieces)
        messages: List[Message] = []
        try:
            rest = self._decode(data, messages)
        except WireError as error:
            self._error = str(error)
            self._pieces = []
            self._pieces_bytes = 0
            error.messages = tuple(messages)
            raise
        self._pieces = [data[rest:]] if rest < len(data) else []
        self._pieces_bytes = len(data) - rest
        return messages

    def _decode(self, data: bytes, messages: List[Message]) -> int:
        """Append every complete message of `data`; return where the first incomplete frame begins."""
        decoders = self._decoders
        unpack_from = HEADER_LAYOUT.unpack_from
        frame_bytes_max = self.frame_bytes_max
        end = len(data)
        position = 0
        while end - position >= 5:
            length, kind = unpack_from(data, position)
            decode = decoders.get(kind)
            if decode is None:
                raise WireError("a frame of unknown kind 0x%02x" % kind)
            if not 1 <= length <= frame_bytes_max:
                raise WireError("a frame of %d bytes, allowed are 1 to %d" % (length, frame_bytes_max))
            stop = position + 4 + length
            if stop > end:
                self._needed_bytes = 4 + length
                return position
            messages.append(decode(data, position + 5, stop))
            position = stop
        self._needed_bytes = HEADER_BYTES
        return position


def decode_to_wrapper(frame_bytes_max: int = FRAME_BYTES_MAX) -> "FrameDecoder[ToWrapper]":
    """Return a decoder for what a replica manager sends."""
    return FrameDecoder(_TO_WRAPPER, frame_bytes_max)


def decode_from_wrapper(frame_bytes_max: int = FRAME_BYTES_MAX) -> "FrameDecoder[FromWrapper]":
    """Return a decoder for what a wrapper sends."""
    return FrameDecoder(_FROM_WRAPPER, frame_bytes_max)
