"""Reads a recording."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from replica_manager.recording.recording_format import (
    ENTRY_HEAD_BYTES,
    HEAD_BYTES,
    MalformedRecording,
    RecordedCheckpoint,
    RecordedEntry,
    RecordedRequest,
    decode_body,
    decode_entry_head,
    decode_head,
)

ENTRY_OVERHEAD_BYTES: Final = 1024 * 1024
"""What an entry may have beside one frame's worth of reply and update: its request, its numbers."""


class Recording:
    """A recording on disk, complete or cut off in its last entry."""

    def __init__(self, path: Path) -> None:
        """Look through the file.

        Raises:
            MalformedRecording: it is no recording, or damaged.
            OSError: it cannot be read.
        """
        self._path = path
        with path.open("rb") as file:
            self.head = decode_head(file.read(HEAD_BYTES))
        self.request_count = 0
        self.last_sequence = 0
        self.torn_bytes = 0
        """Bytes of a last entry that was not written to its end: the manager was killed."""
        self.checkpoints: list[RecordedCheckpoint] = []
        """Ascending by point."""
        for entry in self._entries():
            self._count(entry)

    def requests(self) -> Iterator[RecordedRequest]:
        """Yield the requests in order."""
        return (entry for entry in self._entries() if isinstance(entry, RecordedRequest))

    def _count(self, entry: RecordedEntry) -> None:
        if isinstance(entry, RecordedCheckpoint):
            self.checkpoints.append(entry)
            return
        if entry.sequence <= self.last_sequence:
            raise MalformedRecording(f"request {entry.sequence} comes after {self.last_sequence}")
        self.request_count += 1
        self.last_sequence = entry.sequence

    def _entries(self) -> Iterator[RecordedEntry]:
        with self._path.open("rb") as file:
            file.seek(HEAD_BYTES)
            while head := file.read(ENTRY_HEAD_BYTES):
                if len(head) < ENTRY_HEAD_BYTES:
                    self.torn_bytes = len(head)
                    return
                kind, length = decode_entry_head(head)
                body = self._body(file, kind, length)
                if len(body) < length:
                    self.torn_bytes = len(head) + len(body)
                    return
                yield decode_body(kind, body)

    def _body(self, file: BinaryIO, kind: int, length: int) -> bytes:
        limit = self.head.frame_bytes_max + ENTRY_OVERHEAD_BYTES
        if length > limit:
            raise MalformedRecording(f"an entry of kind {kind} has {length} bytes, at most {limit} are possible")
        return file.read(length)
