"""The key-value service on disk: a log of changes and a snapshot, each with the cursor that belongs to it.

A record of the log is `length: u32 | checksum: u32 | cursor: u64 | field…`, one field an update; `length` counts
`cursor` and fields, `checksum` is their CRC-32.  A crash may leave an incomplete last record; it is cut off.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from exec_wrapper.examples.key_value_commands import decode_fields, encode_field

LOG_BYTES_MAX = 64 * 1024 * 1024
"""A longer log is replaced by a snapshot with the next sync."""

_RECORD = struct.Struct(">IIQ")
_CURSOR = struct.Struct(">Q")
_CHECKSUM = struct.Struct(">I")
_SNAPSHOT_MAGIC = b"key-value 1\n"


class DamagedFile(Exception):
    """Raised when a snapshot is not what was written: the disk's fault.  The domain has to be repaired."""


class KeyValueFiles:
    """The files of one store, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        """Create the directory if it is not there."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._snapshot_path = directory / "snapshot"
        self._log = open(directory / "log", "a+b")  # noqa: SIM115 - open as long as the service
        _sync_directory(directory)  # a log that was just created must not vanish with its records
        self._log_bytes = 0

    def read_snapshot(self) -> Tuple[int, bytes]:
        """Return cursor and content of the snapshot; cursor 1 and nothing if there is none.

        Raises:
            DamagedFile: its checksum is wrong.
        """
        if not self._snapshot_path.exists():
            return 1, b""
        data = self._snapshot_path.read_bytes()
        begin = len(_SNAPSHOT_MAGIC)
        body, checksum = data[begin:-4], data[-4:]
        if data[:begin] != _SNAPSHOT_MAGIC or _CHECKSUM.pack(zlib.crc32(body)) != checksum:
            raise DamagedFile("the snapshot %s is damaged" % self._snapshot_path)
        return _CURSOR.unpack_from(body)[0], body[_CURSOR.size :]

    def replay(self) -> Iterator[Tuple[int, List[bytes]]]:
        """Yield cursor and updates of every complete record; cut off what follows the last one."""
        self._log.seek(0)
        data = self._log.read()
        position = 0
        while len(data) - position >= _RECORD.size:
            length, checksum, cursor = _RECORD.unpack_from(data, position)
            end = position + 8 + length
            body = data[position + 8 : end]
            if length < _CURSOR.size or end > len(data) or zlib.crc32(body) != checksum:
                break
            yield cursor, decode_fields(body, _CURSOR.size)
            position = end
        self._log.truncate(position)
        self._log.seek(0, os.SEEK_END)
        self._log_bytes = position

    def append(self, cursor: int, updates: Sequence[bytes]) -> None:
        """Append one record; durable after the next `sync`."""
        body = _CURSOR.pack(cursor) + b"".join([encode_field(update) for update in updates])
        self._log_bytes += self._log.write(_RECORD.pack(len(body), zlib.crc32(body), cursor)[:8] + body)

    def sync(self) -> None:
        """Make every record durable."""
        self._log.flush()
        os.fsync(self._log.fileno())

    @property
    def is_log_long(self) -> bool:
        """Whether a snapshot is due."""
        return self._log_bytes > LOG_BYTES_MAX

    def write_snapshot(self, cursor: int, content: bytes) -> None:
        """Replace snapshot and log, durably.  A crash in between leaves records that the snapshot covers."""
        body = _CURSOR.pack(cursor) + content
        new_path = self._directory / "snapshot.new"
        with open(new_path, "wb") as file:
            file.write(_SNAPSHOT_MAGIC + body + _CHECKSUM.pack(zlib.crc32(body)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new_path, self._snapshot_path)
        _sync_directory(self._directory)
        self._log.truncate(0)
        self._log_bytes = 0

    def close(self) -> None:
        """Close the log."""
        self._log.close()


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
