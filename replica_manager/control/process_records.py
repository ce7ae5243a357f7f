"""Which processes of a cell were started: one small file each, written before anybody may need it."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from replica_manager.cell_paths import MemberKind
from replica_manager.control.processes import ProcessIdentity, is_alive


class ProcessRecord(msgspec.Struct, frozen=True):
    """One started process."""

    kind: MemberKind
    member: int
    identity: ProcessIdentity
    log: str
    """Where its standard outputs go."""
    log_offset: int
    """Bytes that former processes of the member have left there."""

    @property
    def name(self) -> str:
        """The member as operators call it."""
        return f"{self.kind} {self.member}"

    @property
    def log_path(self) -> Path:
        """The same as a path."""
        return Path(self.log)

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return is_alive(self.identity)


class ProcessRecords:
    """The records in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, record: ProcessRecord) -> None:
        """Keep `record`; atomically, so that a reader sees all of it or nothing."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / f"{record.kind}-{record.member}.json"
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(msgspec.json.encode(record))
        temporary.replace(path)

    def read(self) -> Sequence[ProcessRecord]:
        """Return all records, servers first; a file that is no record is passed over."""
        records = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                records.append(msgspec.json.decode(path.read_bytes(), type=ProcessRecord))
            except (msgspec.DecodeError, UnicodeDecodeError, OSError):
                continue
        return sorted(records, key=lambda record: (record.kind, record.member))

    def hold(self, kind: MemberKind, member: int) -> None:
        """Note that the operator wants this member to stay away: the keeper lets it be."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._hold_mark(kind, member).touch()

    def release(self, kind: MemberKind, member: int) -> None:
        """Take that back; idempotent."""
        self._hold_mark(kind, member).unlink(missing_ok=True)

    def is_held(self, kind: MemberKind, member: int) -> bool:
        """Say whether the operator wants this member to stay away."""
        return self._hold_mark(kind, member).exists()

    def _hold_mark(self, kind: MemberKind, member: int) -> Path:
        return self._directory / f"{kind}-{member}.held"
