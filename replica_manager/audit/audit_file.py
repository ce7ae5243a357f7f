"""The file of an audit log: whole lines are appended, nothing is ever taken away.

It is not rotated: a chain whose beginning is gone proves nothing about it, and changes of roles are rare, some 300
bytes each.  A cell that replaced all its domains every hour would write 30 MiB in a year.
"""

import os
from pathlib import Path

from replica_manager.audit.chain import HEAD_BYTES, Head, decode_head
from replica_manager.audit.record import GENESIS


class AuditFile:
    """Appends to an audit log, and keeps the head beside it.

    `append` is one write, as an ordinary log's.  `sync` waits for the disk and is for a thread.
    """

    def __init__(self, path: Path, head_path: Path) -> None:
        """Open the files, or make them with mode 0600.

        Raises:
            OSError: they cannot be opened: reported at the start, where an operator looks.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._head_path = path, head_path
        self._descriptor = _open_private(path, os.O_RDWR | os.O_APPEND)
        self.had_head = head_path.exists()
        """Whether there was a head before."""
        os.close(_open_private(head_path, os.O_WRONLY))
        if not self.had_head:
            self._write_head(Head(0, GENESIS))
            _sync_directory(path.parent)

    def read(self) -> bytes:
        """Return everything in the file."""
        return self._path.read_bytes()

    def read_head(self) -> Head | None:
        """Return the recorded head; `None`: the file does not hold one."""
        return decode_head(self._head_path.read_bytes())

    @property
    def size(self) -> int:
        """Bytes in the file, half lines too.

        Raises:
            OSError: the disk fails.
        """
        return os.fstat(self._descriptor).st_size

    @property
    def ends_with_line(self) -> bool:
        """Whether the file is empty, or its last byte is a line end.

        Raises:
            OSError: the disk fails.
        """
        return not self.size or os.pread(self._descriptor, 1, self.size - 1) == b"\n"

    def append(self, content: bytes) -> None:
        """Append `content`.

        Raises:
            OSError: the disk does not take it, or only a part of it.
        """
        if os.write(self._descriptor, content) < len(content):
            raise OSError("only a part of the line was written")

    def sync(self, head: Head) -> None:
        """Bring what was appended to the disk, and record that it is there up to `head`.  Waits; for a thread.

        The head follows the file, so it never names a record that a power cut takes away.

        Raises:
            OSError: the disk fails; the head stays as it was.
        """
        # An own descriptor: the other one may be closed meanwhile.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._write_head(head)

    def _write_head(self, head: Head) -> None:
        content = head.encode()
        assert len(content) == HEAD_BYTES
        descriptor = os.open(self._head_path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # In place and less than a sector: after a power cut it is the old one or the new one.
            os.pwrite(descriptor, content, 0)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _open_private(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
