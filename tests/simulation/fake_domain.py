"""A correct domain in memory: speaks the wrapper's frames as values, keeps a small deterministic service.

The service is a register file: `set KEY VALUE`, `get KEY`, `append KEY VALUE`.  Its update is the changed row.
"""

from collections.abc import Iterator

from exec_wrapper.wire import (
    Applied,
    ApplyUpdates,
    CancelState,
    Execute,
    Executed,
    FromWrapper,
    NextPart,
    Ping,
    Pong,
    SetPart,
    SetState,
    StatePart,
    StateSet,
    Sync,
    Synced,
    TakeState,
    ToWrapper,
    WrapperHello,
)

ROWS_PER_PART = 8


class DomainDied(Exception):
    """Raised by a domain that ends while it handles a frame: its hypervisor tells."""


class FakeDisk:
    """What a domain has written: what is durable, and what is so only if its machine ends well."""

    def __init__(self) -> None:
        """A clean image."""
        self.rows: dict[bytes, bytes] = {}
        self.cursor = 1
        self._unsynced: list[tuple[int, dict[bytes, bytes]]] = []

    def write(self, cursor: int, rows: dict[bytes, bytes]) -> None:
        """Write the state before `cursor`; durable with the next `sync`."""
        self._unsynced.append((cursor, dict(rows)))

    def sync(self) -> None:
        """Make everything durable."""
        self.lose(0)

    @property
    def unsynced_count(self) -> int:
        """Writes that can be lost."""
        return len(self._unsynced)

    def lose(self, count: int) -> None:
        """The newest `count` writes that were not synced are lost; the others are durable."""
        kept = self._unsynced[: len(self._unsynced) - count]
        if kept:
            self.cursor, self.rows = kept[-1]
        self._unsynced.clear()


class FakeDomain:
    """One execution replica; `receive` returns its answers."""

    def __init__(self, name: str, rows_per_part: int = ROWS_PER_PART, disk: FakeDisk | None = None) -> None:
        """Boot from a disk; None: from a clean one."""
        self._rows_per_part = rows_per_part
        self.name = name
        self.disk = disk or FakeDisk()
        self.rows = dict(self.disk.rows)
        self.cursor = self.disk.cursor
        self.previous = self.cursor - 1
        self.executed: list[int] = []
        self.applied: list[int] = []
        self._parts: Iterator[StatePart] | None = None
        self._setting = 0

    def hello(self) -> WrapperHello:
        """The first frame of a connection."""
        return WrapperHello(b"e" * 16, self.cursor, 1, True, "registers", "1", "fake")

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        """Handle one frame of the manager."""
        if isinstance(frame, Execute):
            self._check_previous(frame.previous)
            self.previous = frame.sequence
            return [self._execute(frame)]
        if isinstance(frame, ApplyUpdates):
            self._check_previous(frame.previous)
            self._apply(frame)
            return [Applied(frame.up_to)]
        if isinstance(frame, TakeState):
            self._check_previous(frame.previous)
            self.previous = frame.point - 1
            self._parts = self._state(frame.point)
            return []
        if isinstance(frame, NextPart):
            return self._next_parts(frame.count)
        if isinstance(frame, Sync):
            self.disk.write(self.cursor, self.rows)
            self.disk.sync()
            return [Synced(self.cursor)]
        if isinstance(frame, Ping):
            return [Pong(frame.token)]
        if isinstance(frame, CancelState):
            self._parts = None
            return []
        if isinstance(frame, SetState):
            self.rows, self._setting = {}, frame.point
            return []
        if isinstance(frame, SetPart):
            return self._set_part(frame)
        raise AssertionError(f"not for a fake: {frame}")

    def _check_previous(self, previous: int) -> None:
        assert previous == self.previous, f"{self.name}: gap, frame after {previous}, mine is {self.previous}"

    def _execute(self, frame: Execute) -> Executed:
        assert frame.sequence >= self.cursor, f"{self.name}: {frame.sequence} executed again"
        command, key, *value = frame.payload.split(b" ", 2)
        old = self.rows.get(key, b"")
        self.cursor = frame.sequence + 1
        self.executed.append(frame.sequence)
        if command == b"get":
            return Executed(frame.sequence, old, b"")
        new = value[0] if command == b"set" else old + value[0]
        self.rows[key] = new
        self.disk.write(self.cursor, self.rows)
        return Executed(frame.sequence, b"%d:" % frame.timestamp_us + new, key + b" " + new)

    def _apply(self, frame: ApplyUpdates) -> None:
        for sequence, update in frame.updates:
            assert self.cursor <= sequence <= frame.up_to, f"{self.name}: update {sequence} out of order"
            key, value = update.split(b" ", 1)
            self.rows[key] = value
            self.applied.append(sequence)
            self.cursor = sequence + 1
        self.cursor = frame.up_to + 1
        self.previous = frame.up_to
        if frame.updates:
            self.disk.write(self.cursor, self.rows)

    def _state(self, point: int) -> Iterator[StatePart]:
        rows, size = sorted(self.rows.items()), self._rows_per_part
        parts = [rows[i : i + size] for i in range(0, len(rows), size)] or [[]]
        for index, part in enumerate(parts):
            data = b"\n".join(key + b" " + value for key, value in part)
            yield StatePart(point, index, index == len(parts) - 1, data)

    def _set_part(self, frame: SetPart) -> list[FromWrapper]:
        for row in frame.data.split(b"\n") if frame.data else ():
            key, value = row.split(b" ", 1)
            self.rows[key] = value
        if not frame.is_last:
            return []
        self.cursor, self.previous = self._setting, self._setting - 1
        self.disk.write(self.cursor, self.rows)
        return [StateSet(self._setting)]

    def _next_parts(self, count: int) -> list[FromWrapper]:
        parts: list[FromWrapper] = []
        while self._parts is not None and len(parts) < count:
            part = next(self._parts)
            parts.append(part)
            if part.is_last:
                self._parts = None
        return parts
