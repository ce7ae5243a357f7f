"""State files on a disk: written beside their name and renamed when they are whole; read by position."""

import contextlib
import os
from pathlib import Path
from types import TracebackType

from exec_wrapper.wire import StatePart
from replica_manager.recovery.state_digests import StateReader
from replica_manager.state_files.errors import StateFileExists
from replica_manager.state_files.state_file import (
    IMPORT_POINT,
    StateFile,
    StateHead,
    encode_end,
    encode_head,
    encode_part_head,
    read_state_file,
)

SUFFIX = ".partial"
"""Of a file that is not whole yet."""


class StateFileWriter:
    """Writes one file; not for two threads at a time."""

    def __init__(self, path: Path, *, may_overwrite: bool) -> None:
        """Make an empty file, that only its owner may read, beside `path`.

        Raises:
            StateFileExists: something has that name, and may not be replaced, or is no plain file.
            OSError: the directory is not there, or takes no file.
        """
        self.path = path
        self._may_overwrite = may_overwrite
        self._refuse_existing()
        self._partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}{SUFFIX}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._partial, flags, 0o600)
        self._reader = StateReader(IMPORT_POINT)
        self.byte_count = 0
        """Of the parts so far."""

    def _refuse_existing(self) -> None:
        if os.path.lexists(self.path) and not (self._may_overwrite and self.path.is_file()):
            raise StateFileExists(f"{self.path} exists" + (" and is no file" if self._may_overwrite else ""))

    @property
    def part_count(self) -> int:
        """Parts so far."""
        return len(self._reader.part_digests)

    @property
    def content_digest(self) -> bytes:
        """Of the parts so far."""
        return self._reader.content_digest

    def begin(self, head: StateHead) -> None:
        """Begin with the first part, once more if parts were written.

        Raises:
            OSError: the disk does not take it.
        """
        self._reader, self.byte_count = StateReader(IMPORT_POINT), 0
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._write(encode_head(head))

    def add(self, data: bytes, *, is_last: bool) -> None:
        """Append the next part.

        Raises:
            OSError: the disk does not take it.
        """
        index = self.part_count
        self._write(encode_part_head(index, data))
        self._write(data)
        self._reader.take(StatePart(IMPORT_POINT, index, is_last, data))
        self.byte_count += len(data)

    def finish(self) -> None:
        """Append the end record, and give the file its name when it is on the disk.

        Raises:
            StateFileExists: somebody has made a file of that name meanwhile.
            OSError: the disk does not take it.
        """
        self._write(encode_end(self.part_count, self.content_digest))
        os.fsync(self._descriptor)
        self._refuse_existing()
        self._partial.rename(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        """Let go of the file; what is not finished is removed.  Once."""
        os.close(self._descriptor)
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)


class OpenStateFile:
    """A file as a `ByteSource`; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            OSError: it is not there, or may not be read.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.name = str(path)
        self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> "OpenStateFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def read(self, offset: int, count: int) -> bytes:
        """See `ByteSource`."""
        pieces = []
        while count > 0 and (piece := os.pread(self._descriptor, count, offset)):
            pieces.append(piece)
            offset, count = offset + len(piece), count - len(piece)
        return b"".join(pieces)

    def verify(self) -> StateFile:
        """Read it from end to end; see `read_state_file`."""
        return read_state_file(self, self.name)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)
