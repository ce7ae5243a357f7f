"""Follows the event files of all servers, and keeps the events of the runner itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.chaos.evidence import RUNNER, Event, Straightener, event_id
from replica_manager.cell_paths import CellPaths
from replica_manager.clock import SystemClock
from replica_manager.control.event_file import EventFile
from replica_manager.control.event_log import EventLog


class EventTail:
    """All events of a run, in the order of each log."""

    def __init__(self, paths: CellPaths, servers: Sequence[int], own_file: Path) -> None:
        """Follow the servers' files; the runner's events go to `own_file`."""
        own_file.unlink(missing_ok=True)
        self._own = EventLog(RUNNER, SystemClock().wall_us, EventFile(own_file))
        self._files = [_Tail(path) for path in (own_file, *(paths.event_file(server) for server in servers))]
        self._straightener = Straightener()
        self.events: list[Event] = []
        """Everything read so far."""

    def record(self, kind: str, **data: Any) -> None:
        """Record an event of the runner; from any thread that the caller keeps apart."""
        self._own.record(kind, **data)

    def read(self) -> None:
        """Take in what is new."""
        for file in self._files:
            self.events += [self._straightener.straighten(event) for event in file.read()]

    def write(self, path: Path) -> None:
        """Write everything read so far: reports name events by their ids, and the servers' logs go with the cell.

        Raises:
            OSError: the file cannot be written.
        """
        lines = [msgspec.json.encode({"name": event_id(event), **event}) + b"\n" for event in self.events]
        path.write_bytes(b"".join(lines))

    def close(self) -> None:
        """End the runner's log."""
        self._own.close()


class _Tail:
    """One file, whose newest lines are wanted; a rotated one is read to its end under its new name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode = 0

    def read(self) -> list[dict[str, Any]]:
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            return []
        found = []
        if self._inode not in (0, inode):
            found = self._take(Path(f"{self._path}.1"))
            self._offset = 0
        self._inode = inode
        return found + self._take(self._path)

    def _take(self, path: Path) -> list[dict[str, Any]]:
        with path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in complete.splitlines()]
