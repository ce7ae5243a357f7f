"""The file of a server's events: one JSON document per line, appended, rotated, bounded in size."""

import os
from io import FileIO
from pathlib import Path

import msgspec

FILE_BYTES_MAX = 8 * 1024 * 1024
FILES_KEPT = 4
"""Rotated files beside the current one: `events-0.jsonl.1` is the newest."""
LINE_BYTES_MAX = 1024 * 1024
RETRY_EVENTS = 100
"""After a write has failed, so many events pass before the next attempt: a full disk costs no system call per event."""


class _Identified(msgspec.Struct):
    """The part of a line that counts on."""

    id: int


class EventFile:
    """Appends lines; swallows errors of the disk and counts them."""

    def __init__(self, path: Path, bytes_max: int = FILE_BYTES_MAX, files_kept: int = FILES_KEPT) -> None:
        """Continue the file `path`, or begin it.

        Args:
            path: current file, made with mode 0600; its directory is made too.
            bytes_max: size from which a new file is begun.
            files_kept: how many former files stay.

        Raises:
            OSError: the file cannot be opened at all: reported at the start, where an operator looks.
        """
        self._path = path
        self._bytes_max = bytes_max
        self._files_kept = files_kept
        path.parent.mkdir(parents=True, exist_ok=True)
        self.next_id = _newest_id(path, files_kept) + 1
        """Id of the first new event."""
        self.write_errors = 0
        """Lines that did not reach the file."""
        self._pause = 0
        self._is_failing = False
        self._is_failure_untold = False
        self._file: FileIO | None = self._open()

    def append(self, event_id: int, line: bytes) -> None:
        """Write one line, with its line end; what the disk refuses is counted."""
        self.next_id = event_id + 1
        if self._pause:
            self._pause -= 1
            self.write_errors += 1
            return
        try:
            self._write(line)
        except OSError:
            self._fail()

    def has_failed_newly(self) -> bool:
        """Say once per run of failed writes that it has begun."""
        is_untold, self._is_failure_untold = self._is_failure_untold, False
        return is_untold

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None

    def _open(self) -> FileIO:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_NOFOLLOW, 0o600)

        file = open(self._path, "ab", buffering=0, opener=private)  # noqa: SIM115  (kept open as long as the log)
        self._size = file.tell()
        if self._size and not _ends_with_line(self._path):
            # A process killed in the middle of a write: its half line must not swallow the next event.
            self._size += file.write(b"\n") or 0
        return file

    def _write(self, line: bytes) -> None:
        if self._file is None:
            self._file = self._open()
        if self._size and self._size + len(line) > self._bytes_max:
            self._rotate()
        written = self._file.write(line) or 0
        self._size += written
        if written < len(line):
            raise OSError("only a part of the line was written")

        self._is_failing = False

    def _fail(self) -> None:
        """Count the line; the next attempt opens the file anew, which also ends a line that was half written."""
        self.write_errors += 1
        self._pause = RETRY_EVENTS
        self._is_failure_untold = self._is_failure_untold or not self._is_failing
        self._is_failing = True
        self.close()

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files_kept, 0, -1):
            source = _numbered(self._path, number - 1)
            if source.exists():
                source.replace(_numbered(self._path, number))
        self._file = self._open()


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _newest_id(path: Path, files_kept: int) -> int:
    """Return the id of the last complete line; 0 if there is none."""
    for number in range(files_kept + 1):
        try:
            with _numbered(path, number).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LINE_BYTES_MAX))
                lines = file.read(LINE_BYTES_MAX).splitlines()
        except FileNotFoundError:
            continue
        for line in reversed(lines):
            try:
                return msgspec.json.decode(line, type=_Identified).id
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return 0
