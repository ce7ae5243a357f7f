"""The format of a state file, and the only code that reads it.  Pure: bytes come from a `ByteSource`.

`docs/state-files.md` gives the layout byte by byte.  Two digests guard each part.  Its own one binds index and length,
so that the first part that is not what was written can be named; the one in the end record is the content digest of
the whole state, the same that `spare checkpoint` prints.
"""

from array import array
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple, Protocol

import msgspec

from exec_wrapper.wire import StatePart
from replica_manager.recovery.state_digests import StateOrderError, StateReader
from replica_manager.state_files.errors import NotAStateFile, StateFileDamaged

MAGIC: Final = b"\xf5SPST\r\n\x1a"
"""No text, and changed by whatever changes the ends of lines."""
VERSION: Final = 1
HEAD_BYTES_MAX: Final = 64 * 1024
PART_BYTES_MAX: Final = 1 << 30
"""More than any frame that is in use; the first byte of a part's length is so never that of the end mark."""
IMPORT_POINT: Final = 1
"""Position at which a new cell has the state: before its first entry."""

_HEAD: Final = Struct(">8sHI32s")
_PART: Final = Struct(">I32s")
_PLACE: Final = Struct(">II")
_END: Final = Struct(">4sI32s32s")
_END_MARK: Final = b"\xff\xff\xff\xff"


class StateHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says of its state.  Nobody votes on it; what the parts are decides the content digest alone."""

    cell: str
    """Name of the cell that it is from."""
    service: str
    """As its domains call themselves; empty: not known."""
    state_format: int
    part_bytes_max: int
    """At which the service had to cut its state.  Invariant: no part is longer."""
    point: int
    """Sequence number before which everything is in the state."""
    at_us: int
    """When it was exported, microseconds since 1970-01-01 UTC, by the clock of the exporting server."""
    service_time_us: int = 0
    """What the service's clock showed at the newest request in the state, likewise; 0: there was none."""


class ByteSource(Protocol):
    """A file that does not grow."""

    @property
    def size(self) -> int:
        """Its bytes."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, fewer if it ends before.

        Raises:
            OSError: it cannot be read.
        """
        ...


class _End(NamedTuple):
    part_count: int
    content_digest: bytes


@dataclass(frozen=True, slots=True)
class StateFile:
    """A file that was read once, and was whole then."""

    head: StateHead
    content_digest: bytes
    part_digests: list[bytes]
    """As of a state at `IMPORT_POINT`."""
    byte_count: int
    """Of all parts."""
    _source: ByteSource
    _offsets: "array[int]"

    @property
    def part_count(self) -> int:
        """Parts of the state, at least one."""
        return len(self.part_digests)

    def part(self, index: int) -> bytes:
        """Return a part, counted from 0, as it stands in the file now: compare its digest.

        Raises:
            OSError: it cannot be read.
        """
        begin, end = self._offsets[index : index + 2]
        return self._source.read(begin + _PART.size, end - begin - _PART.size)


# -- writing -----------------------------------------------------------------------------------------------------


def encode_head(head: StateHead) -> bytes:
    """Return the bytes with which a file begins."""
    body = msgspec.json.encode(head)
    return _HEAD.pack(MAGIC, VERSION, len(body), sha256(body).digest()) + body


def encode_part_head(index: int, data: bytes) -> bytes:
    """Return what stands before the bytes of the part with `index`, counted from 0."""
    return _PART.pack(len(data), _part_check(index, data))


def encode_end(part_count: int, content_digest: bytes) -> bytes:
    """Return the bytes with which a file ends."""
    return _END.pack(_END_MARK, part_count, content_digest, _end_check(part_count, content_digest))


def _part_check(index: int, data: bytes) -> bytes:
    return sha256(_PLACE.pack(index, len(data)) + data).digest()


def _end_check(part_count: int, content_digest: bytes) -> bytes:
    return sha256(b"end of a state file" + part_count.to_bytes(4) + content_digest).digest()


# -- reading -----------------------------------------------------------------------------------------------------


def read_state_file(source: ByteSource, name: str) -> StateFile:
    """Read a file from end to end, and return it if it is what was written.

    Args:
        source: the file.
        name: what errors call it.

    Raises:
        NotAStateFile: it is no state file, or of another version.
        StateFileDamaged: it is not what was written; the offending part is named.
        OSError: it cannot be read.
    """
    return _Reading(source, name).read()


class _Reading:
    """One pass over a file."""

    def __init__(self, source: ByteSource, name: str) -> None:
        self._source = source
        self._name = name
        self._end = self._read_end()
        self._limit = source.size if self._end is None else source.size - _END.size
        """Where the parts end at the latest."""

    def _read_end(self) -> _End | None:
        """Return the end record if the file's last bytes are one, whatever its mark is; None: it is torn, or damaged.

        So a torn file is told from a changed one, and the number of parts is known before they are read.
        """
        record = self._source.read(max(0, self._source.size - _END.size), _END.size)
        if len(record) < _END.size:
            return None
        _, part_count, content_digest, check = _END.unpack(record)
        return _End(part_count, content_digest) if check == _end_check(part_count, content_digest) else None

    def read(self) -> StateFile:
        head, offset = self._read_head()
        reader, offsets = StateReader(IMPORT_POINT), array("Q", [offset])
        byte_count = 0
        while not self._is_at_end(offset, len(reader.part_digests)):
            index = len(reader.part_digests)
            data = self._read_part(offset, index)
            offset += _PART.size + len(data)
            byte_count += len(data)
            self._take(reader, StatePart(IMPORT_POINT, index, offset == self._limit, data))
            offsets.append(offset)
            if len(data) > head.part_bytes_max:
                raise self._damaged(index, f"has {len(data)} bytes, the head allows {head.part_bytes_max}")
        self._compare_end(reader, offset)
        return StateFile(head, reader.content_digest, reader.part_digests, byte_count, self._source, offsets)

    def _take(self, reader: StateReader, part: StatePart) -> None:
        try:
            reader.take(part)
        except StateOrderError as error:
            raise self._damaged(part.index, "is beyond the number of parts that a state can have") from error

    def _read_head(self) -> tuple[StateHead, int]:
        fixed = self._source.read(0, _HEAD.size)
        if fixed[: len(MAGIC)] != MAGIC[: len(fixed)] or not fixed:
            raise NotAStateFile(f"{self._name} is no state file")
        if len(fixed) < _HEAD.size:
            raise StateFileDamaged(self._name, "its head is cut off")
        _, version, length, check = _HEAD.unpack(fixed)
        if version != VERSION:
            raise NotAStateFile(f"{self._name} is a state file of version {version}, known is {VERSION}")
        is_long = length > HEAD_BYTES_MAX or _HEAD.size + length > self._limit
        if is_long and self._end is None:
            raise StateFileDamaged(self._name, "its head is cut off")
        body = b"" if is_long else self._source.read(_HEAD.size, length)
        if sha256(body).digest() != check:
            raise StateFileDamaged(self._name, "its head does not match its digest")
        try:
            return msgspec.json.decode(body, type=StateHead), _HEAD.size + length
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateFileDamaged(self._name, f"its head cannot be read: {error}") from error

    def _is_at_end(self, offset: int, part_count: int) -> bool:
        """Whether the parts end here."""
        mark = self._source.read(offset, len(_END_MARK))
        rest = self._source.size - offset
        if self._end is not None and offset == self._limit:
            if mark != _END_MARK:
                raise StateFileDamaged(self._name, "its end record is damaged")
            return True
        if not mark:
            raise StateFileDamaged(self._name, f"it ends behind part {part_count}: the end record is missing")
        if mark != _END_MARK[: len(mark)]:
            return False
        if rest > _END.size:
            raise StateFileDamaged(self._name, f"{rest - _END.size} bytes follow its end record")
        raise StateFileDamaged(self._name, "its end record is " + ("damaged" if rest == _END.size else "cut off"))

    def _read_part(self, offset: int, index: int) -> bytes:
        fixed = self._source.read(offset, min(_PART.size, self._limit - offset))
        length, check = _PART.unpack(fixed) if len(fixed) == _PART.size else (0, b"")
        is_long = len(fixed) < _PART.size or length > PART_BYTES_MAX or offset + _PART.size + length > self._limit
        if is_long and self._end is None:
            raise self._damaged(index, "is cut off")
        data = b"" if is_long else self._source.read(offset + _PART.size, length)
        if is_long or _part_check(index, data) != check:
            raise self._damaged(index, "does not match its digest")
        return data

    def _damaged(self, index: int, what: str) -> StateFileDamaged:
        of = "" if self._end is None else f" of {self._end.part_count}"
        return StateFileDamaged(self._name, f"part {index + 1}{of} {what}", index + 1)

    def _compare_end(self, reader: StateReader, offset: int) -> None:
        assert self._end is not None
        found = len(reader.part_digests)
        if found != self._end.part_count or not found:
            words = f"its end record counts {self._end.part_count} parts, {found} stand before it"
            raise StateFileDamaged(self._name, words)
        if reader.content_digest != self._end.content_digest:
            raise StateFileDamaged(self._name, "its end record has another digest than its parts together")
