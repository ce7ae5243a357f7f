"""The bytes of a recording.  Pure.

All numbers are unsigned and big-endian::

    file        = head, entry…
    head        = "SPARE recording\\n" (16 bytes) | version u16 | server u16 | state_part_bytes_max u32
                  | frame_bytes_max u32
    entry       = kind u8 | length of the body u64 | body
    request     = kind 1: sequence u64 | timestamp_us u64 | seed (32 bytes)
                  | length of payload u32 | length of reply u32 | length of update u32 | payload | reply | update
    checkpoint  = kind 2: point u64 | number of domains u16 | per domain: length of name u8 | name | digest (32 bytes)

Requests come in ascending order without holes: a number that is missing was a command.  A checkpoint is written when
its digests are known, which is after some requests above its point.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct, error
from typing import Final, NamedTuple

from exec_wrapper.wire import SEED_BYTES

MAGIC: Final = b"SPARE recording\n"
VERSION: Final = 1
DIGEST_BYTES: Final = 32
_HEAD: Final = Struct(">16sHHII")
HEAD_BYTES: Final = _HEAD.size
_ENTRY: Final = Struct(">BQ")
ENTRY_HEAD_BYTES: Final = _ENTRY.size
_REQUEST: Final = Struct(f">QQ{SEED_BYTES}sIII")
_CHECKPOINT: Final = Struct(">QH")
_KIND_REQUEST: Final = 1
_KIND_CHECKPOINT: Final = 2


class MalformedRecording(Exception):
    """Raised for bytes that no recorder wrote: the file is not a recording, or was damaged; nothing can be replayed."""


@dataclass(frozen=True, slots=True)
class RecordingHead:
    """What holds for the whole recording."""

    server: int
    """Who wrote it; what a recording says is the same on all servers."""
    state_part_bytes_max: int
    """Largest state part that domains were allowed: digests of states depend on where they are cut."""
    frame_bytes_max: int


class RecordedRequest(NamedTuple):
    """An agreed request, and what became stable about it."""

    sequence: int
    timestamp_us: int
    seed: bytes
    payload: bytes
    reply: bytes
    update: bytes


class RecordedCheckpoint(NamedTuple):
    """The states of all domains after every entry before `point`."""

    point: int
    digests: Mapping[str, bytes]
    """Content digest by domain."""


RecordedEntry = RecordedRequest | RecordedCheckpoint


def encode_head(head: RecordingHead) -> bytes:
    """Return the first bytes of a recording."""
    return _HEAD.pack(MAGIC, VERSION, head.server, head.state_part_bytes_max, head.frame_bytes_max)


def decode_head(data: bytes) -> RecordingHead:
    """Return the head.

    Raises:
        MalformedRecording: another file, another version, or too short.
    """
    if len(data) < HEAD_BYTES or not data.startswith(MAGIC):
        raise MalformedRecording("this is no recording")
    _, version, server, part_bytes_max, frame_bytes_max = _HEAD.unpack_from(data)
    if version != VERSION:
        raise MalformedRecording(f"version {version} of recordings is not known here, only {VERSION}")
    return RecordingHead(server, part_bytes_max, frame_bytes_max)


def encode_request(request: RecordedRequest) -> bytes:
    """Return the entry of a request."""
    sequence, timestamp_us, seed, payload, reply, update = request
    sizes = (len(payload), len(reply), len(update))
    head = _ENTRY.pack(_KIND_REQUEST, _REQUEST.size + sum(sizes)) + _REQUEST.pack(sequence, timestamp_us, seed, *sizes)
    return b"".join((head, payload, reply, update))


def encode_checkpoint(checkpoint: RecordedCheckpoint) -> bytes:
    """Return the entry of a checkpoint."""
    body = _CHECKPOINT.pack(checkpoint.point, len(checkpoint.digests))
    for domain, digest in sorted(checkpoint.digests.items()):
        name = domain.encode()
        body += bytes((len(name),)) + name + digest
    return _ENTRY.pack(_KIND_CHECKPOINT, len(body)) + body


def decode_entry_head(data: bytes) -> tuple[int, int]:
    """Return kind and length of the body of an entry from its first `ENTRY_HEAD_BYTES`."""
    kind, length = _ENTRY.unpack(data)
    return kind, length


def decode_body(kind: int, body: bytes) -> RecordedEntry:
    """Return an entry.

    Raises:
        MalformedRecording: lengths that do not fit, or a kind that does not exist.
    """
    try:
        if kind == _KIND_REQUEST:
            return _decode_request(body)
        if kind == _KIND_CHECKPOINT:
            return _decode_checkpoint(body)
    except (error, UnicodeDecodeError, IndexError) as problem:
        raise MalformedRecording(f"an entry of kind {kind}: {problem}") from problem
    raise MalformedRecording(f"no entry has the kind {kind}")


def _decode_request(body: bytes) -> RecordedRequest:
    sequence, timestamp_us, seed, payload_bytes, reply_bytes, update_bytes = _REQUEST.unpack_from(body)
    reply_at = _REQUEST.size + payload_bytes
    update_at = reply_at + reply_bytes
    if update_at + update_bytes != len(body):
        raise MalformedRecording(f"the parts of request {sequence} do not add up to its {len(body)} bytes")
    payload, reply, update = body[_REQUEST.size : reply_at], body[reply_at:update_at], body[update_at:]
    return RecordedRequest(sequence, timestamp_us, seed, payload, reply, update)


def _decode_checkpoint(body: bytes) -> RecordedCheckpoint:
    point, count = _CHECKPOINT.unpack_from(body)
    digests: dict[str, bytes] = {}
    position = _CHECKPOINT.size
    for _ in range(count):
        name_end = position + 1 + body[position]
        digests[body[position + 1 : name_end].decode()] = body[name_end : name_end + DIGEST_BYTES]
        position = name_end + DIGEST_BYTES
    if position != len(body):
        raise MalformedRecording(f"the digests of checkpoint {point} do not add up to its {len(body)} bytes")
    return RecordedCheckpoint(point, digests)
