"""State files in memory."""

from dataclasses import dataclass

from exec_wrapper.wire import StatePart
from replica_manager.recovery.state_digests import StateReader
from replica_manager.state_files.state_file import StateHead, encode_end, encode_head, encode_part_head

HEAD = StateHead("shop", "key-value", 1, 4096, 777, 1_700_000_000_000_000)


@dataclass
class Bytes:
    """A `ByteSource`."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]


def content_digest(parts: list[bytes]) -> bytes:
    """What `spare checkpoint` prints of a state with these parts."""
    reader = StateReader(9)
    for index, data in enumerate(parts):
        reader.take(StatePart(9, index, index == len(parts) - 1, data))
    return reader.content_digest


def pieces_of(parts: list[bytes], head: StateHead = HEAD) -> list[bytes]:
    """Head, parts, and end record of a file."""
    records = [encode_part_head(index, data) + data for index, data in enumerate(parts)]
    return [encode_head(head), *records, encode_end(len(parts), content_digest(parts))]


def file_of(parts: list[bytes], head: StateHead = HEAD) -> bytes:
    """A whole file."""
    return b"".join(pieces_of(parts, head))
