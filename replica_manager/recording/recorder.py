"""Writes a recording, in the event loop: what the core says, appended to a buffered file.

Nothing is synced: a recording is for looking at what happened, no promise rests on it.  What a killed manager had not
written yet, at most `BUFFER_BYTES`, is missing at its end.
"""

import os
from collections.abc import Callable, Mapping
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any, Final

from replica_manager.errors import CannotRecord
from replica_manager.execution.request_log import RequestRecord
from replica_manager.recording.recording_format import (
    RecordedCheckpoint,
    RecordedRequest,
    RecordingHead,
    encode_checkpoint,
    encode_head,
    encode_request,
)

BUFFER_BYTES: Final = 256 * 1024
FORMER_SUFFIX: Final = ".former"

RecordEvent = Callable[[str, dict[str, Any]], None]


def recording_path(directory: Path, server: int) -> Path:
    """Return the recording of `server`; the servers of one machine share a directory."""
    return directory / f"s{server}.recording"


class Recorder:
    """Appends to one recording until it is full, the disk refuses, or `close`."""

    def __init__(self, path: Path, head: RecordingHead, bytes_max: int, on_event: RecordEvent) -> None:
        """Begin the recording `path`; one that is there becomes the former one.

        Args:
            path: made with mode 0600; its directory, if missing, with 0700.
            head: what holds for the whole recording.
            bytes_max: size of the file at which recording ends.
            on_event: `recording_began`, `recording_full`, `recording_failed`.

        Raises:
            CannotRecord: the file cannot be made.
        """
        self._path = path
        self._bytes_max = bytes_max
        self._on_event = on_event
        self._file: BufferedWriter | None = None
        self._bytes = 0
        try:
            self._file = _begin(path)
        except OSError as error:
            raise CannotRecord(path, error.strerror or str(error)) from error
        self._append(encode_head(head), 0)
        on_event("recording_began", {"path": str(path), "bytes_max": bytes_max})

    def record(self, record: RequestRecord) -> None:
        """Append the next request of the stable prefix; its stable value is still there."""
        if self._file is None:
            return
        assert record.stable_digest is not None
        reply, update = record.values[record.stable_digest]
        request = RecordedRequest(record.sequence, record.timestamp_us, record.seed, record.payload, reply, update)
        self._append(encode_request(request), record.sequence)

    def record_checkpoint(self, point: int, digests: Mapping[str, bytes]) -> None:
        """Append what every domain's state was at `point`, and bring the file up to date."""
        if self._file is not None:
            self._append(encode_checkpoint(RecordedCheckpoint(point, digests)), point)
            self._try_writing(lambda file: file.flush(), point)

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self._try_writing(lambda file: file.close(), 0)
        self._file = None

    def _append(self, entry: bytes, sequence: int) -> None:
        if self._bytes + len(entry) > self._bytes_max:
            self._on_event("recording_full", {"bytes": self._bytes, "limit": self._bytes_max, "sequence": sequence})
            self.close()
            return
        self._bytes += len(entry)
        self._try_writing(lambda file: file.write(entry), sequence)

    def _try_writing(self, action: Callable[[BufferedWriter], object], sequence: int) -> None:
        """Do something with the file; what the disk refuses ends the recording, not the server."""
        if self._file is None:
            return
        try:
            action(self._file)
        except OSError as error:
            reason = error.strerror or str(error)
            self._on_event("recording_failed", {"path": str(self._path), "reason": reason, "sequence": sequence})
            self._abandon(self._file)

    def _abandon(self, file: BufferedWriter) -> None:
        """Close a file that refuses to be written, without writing what it still buffers."""
        self._file = None
        try:
            file.raw.close()
            file.close()
        except (OSError, ValueError):
            return


def _begin(path: Path) -> BufferedWriter:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        path.replace(path.with_name(path.name + FORMER_SUFFIX))

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return BufferedWriter(FileIO(descriptor, "w"), BUFFER_BYTES)
