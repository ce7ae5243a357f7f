"""From messages to frames.  Straight-line code around one `struct` call: this is the hot path of a cell."""

from typing import Any, Callable, Dict, Union

from exec_wrapper.layout import (
    APPLY_UPDATES_LAYOUT,
    COUNT_LAYOUT,
    EXECUTE_LAYOUT,
    EXECUTED_LAYOUT,
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
    LENGTH_BYTES,
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
    EPOCH_BYTES,
    SEED_BYTES,
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
    WrapperHello,
)


def encode_execute(previous: int, sequence: int, timestamp_us: int, seed: bytes, payload: bytes) -> bytes:
    """Return the frame of `Execute`; the same as `encode_frame(Execute(…))` without the value in between.

    Raises:
        ValueError: `seed` is not `SEED_BYTES` long.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError("a seed has %d bytes, not %d" % (SEED_BYTES, len(seed)))
    length = 57 + len(payload)
    return EXECUTE_LAYOUT.pack(length, KIND_EXECUTE, previous, sequence, timestamp_us, seed) + payload


def encode_executed(sequence: int, reply: bytes, update: bytes) -> bytes:
    """Return the frame of `Executed`; the same as `encode_frame(Executed(…))` without the value in between."""
    reply_bytes = len(reply)
    length = 13 + reply_bytes + len(update)
    return b"".join((EXECUTED_LAYOUT.pack(length, KIND_EXECUTED, sequence, reply_bytes), reply, update))


def _encode_hello(message: Hello) -> bytes:
    epoch = _exactly(message.epoch, EPOCH_BYTES, "an epoch")
    former_epoch = _exactly(message.former_epoch, EPOCH_BYTES, "an epoch")
    limits = (message.protocol, message.frame_bytes_max, message.state_part_bytes_max)
    return HELLO_LAYOUT.pack(HELLO_LAYOUT.size - LENGTH_BYTES, KIND_HELLO, MAGIC, former_epoch, epoch, *limits)


def _encode_apply_updates(message: ApplyUpdates) -> bytes:
    chunks = [b""]
    length = APPLY_UPDATES_LAYOUT.size - LENGTH_BYTES
    for sequence, update in message.updates:
        update_bytes = len(update)
        chunks.append(UPDATE_LAYOUT.pack(sequence, update_bytes))
        chunks.append(update)
        length += 12 + update_bytes
    header = (length, KIND_APPLY_UPDATES, message.previous, message.up_to, len(message.updates))
    chunks[0] = APPLY_UPDATES_LAYOUT.pack(*header)
    return b"".join(chunks)


def _encode_set_part(message: SetPart) -> bytes:
    length = SET_PART_LAYOUT.size - LENGTH_BYTES + len(message.data)
    return SET_PART_LAYOUT.pack(length, KIND_SET_PART, message.index, message.is_last) + message.data


def _encode_wrapper_hello(message: WrapperHello) -> bytes:
    epoch = _exactly(message.epoch, EPOCH_BYTES, "an epoch")
    texts = b"".join(_encode_text(text) for text in (message.service, message.version, message.image))
    length = WRAPPER_HELLO_LAYOUT.size - LENGTH_BYTES + len(texts)
    numbers = (message.protocol, message.cursor, message.state_format, message.is_snapshot_concurrent)
    return WRAPPER_HELLO_LAYOUT.pack(length, KIND_WRAPPER_HELLO, epoch, *numbers) + texts


def _encode_state_part(message: StatePart) -> bytes:
    length = STATE_PART_LAYOUT.size - LENGTH_BYTES + len(message.data)
    header = (length, KIND_STATE_PART, message.point, message.index, message.is_last)
    return STATE_PART_LAYOUT.pack(*header) + message.data


def _encode_failed(message: Failed) -> bytes:
    text = bounded_text(message.text).encode()
    return HEADER_LAYOUT.pack(1 + len(text), KIND_FAILED) + text


def _encode_text(text: str) -> bytes:
    data = text.encode()
    if len(data) > TEXT_BYTES_MAX:
        raise ValueError("a text has at most %d bytes, not %d" % (TEXT_BYTES_MAX, len(data)))
    return TEXT_LENGTH_LAYOUT.pack(len(data)) + data


def _exactly(data: bytes, size: int, name: str) -> bytes:
    # `struct` pads and cuts silently.
    if len(data) != size:
        raise ValueError("%s has %d bytes, not %d" % (name, size, len(data)))
    return data


def bounded_text(text: str) -> str:
    """Return `text`, cut so that it has at most `TEXT_BYTES_MAX` bytes of valid UTF-8."""
    return text.encode("utf-8", "replace")[:TEXT_BYTES_MAX].decode("utf-8", "ignore")


_ENCODERS: Dict[type, Callable[[Any], bytes]] = {
    Hello: _encode_hello,
    Ping: lambda m: NUMBER_LAYOUT.pack(9, KIND_PING, m.token),
    Execute: lambda m: encode_execute(*m),
    ApplyUpdates: _encode_apply_updates,
    TakeState: lambda m: TAKE_STATE_LAYOUT.pack(21, KIND_TAKE_STATE, m.previous, m.point, m.state_format),
    NextPart: lambda m: COUNT_LAYOUT.pack(5, KIND_NEXT_PART, m.count),
    CancelState: lambda m: NUMBER_LAYOUT.pack(9, KIND_CANCEL_STATE, m.point),
    SetState: lambda m: SET_STATE_LAYOUT.pack(13, KIND_SET_STATE, m.point, m.state_format),
    SetPart: _encode_set_part,
    Sync: lambda m: HEADER_LAYOUT.pack(1, KIND_SYNC),
    WrapperHello: _encode_wrapper_hello,
    Pong: lambda m: NUMBER_LAYOUT.pack(9, KIND_PONG, m.token),
    Executed: lambda m: encode_executed(*m),
    Applied: lambda m: NUMBER_LAYOUT.pack(9, KIND_APPLIED, m.up_to),
    Synced: lambda m: NUMBER_LAYOUT.pack(9, KIND_SYNCED, m.cursor),
    StatePart: _encode_state_part,
    StateSet: lambda m: NUMBER_LAYOUT.pack(9, KIND_STATE_SET, m.point),
    Failed: _encode_failed,
}


def encode_frame(message: Union[ToWrapper, FromWrapper]) -> bytes:
    """Return the frame of `message`.

    Raises:
        ValueError: a field has the wrong length.
        struct.error: a number does not fit its field.
    """
    return _ENCODERS[type(message)](message)
