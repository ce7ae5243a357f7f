"""The audit log of one server, as it is written.

What a power cut can lose: the changes of the last second, which are not synced yet, and nothing else.  Even these are
recorded when the server starts again and reads the agreed order from its log, unless a checkpoint of the cell state
came in between; then the log says from where to where it knows nothing, and the other servers' logs have it.
With `durability = "none"` nothing is synced here either.
"""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from replica_manager.audit.audit_file import AuditFile
from replica_manager.audit.chain import End, Head, read_chain
from replica_manager.audit.record import (
    AGREED_KINDS,
    BORN,
    CHANGES_DROPPED,
    LINE_TORN,
    LOG_CLOSED,
    LOG_OPENED,
    NOTED_KINDS,
    RECORDS_LOST,
    ROLES_READ,
    AuditRecord,
    content_of,
    encode,
)
from replica_manager.cell.cell_state import CellState
from replica_manager.control.event_log import plain

SYNC_INTERVAL_S = 1.0
"""How often what was written is brought to the disk, at most."""
WAITING_MAX = 1000
"""Records that wait for a disk that refuses; beyond, the oldest are dropped, which is recorded."""
KNOWN_MAX = 5_000
"""Newest changes that are compared with what is read again after a restart."""
FAILED = "audit_failed"

Report = Callable[[str, Mapping[str, Any]], None]


class _Waiting(NamedTuple):
    at_us: int
    kind: str
    position: int
    data: dict[str, Any]


class _Known:
    """The changes of this life of the cell that are in the log, the newest of them."""

    def __init__(self) -> None:
        self.newest = 0
        """Highest position up to which changes are recorded, or said to be missing."""
        self._contents: OrderedDict[tuple[int, bytes], None] = OrderedDict()
        self._forgotten_through = -1

    def has(self, position: int, content: bytes) -> bool:
        """Whether it is recorded; what is too old to be known is taken for it."""
        is_old = 0 < position <= self._forgotten_through
        return is_old or (position, content) in self._contents

    def add(self, position: int, content: bytes) -> None:
        """It is recorded now."""
        self.newest = max(self.newest, position)
        self._contents[position, content] = None
        if len(self._contents) > KNOWN_MAX:
            (forgotten, _), _ = self._contents.popitem(last=False)
            self._forgotten_through = max(self._forgotten_through, forgotten)


class AuditLog:
    """Records changes; belongs to the event loop of its server, but for `sync`."""

    def __init__(
        self, server: int, clock_us: Callable[[], int], file: AuditFile, report: Report, *, is_synced: bool = True
    ) -> None:
        """Continue the log of `server` in `file`.

        Args:
            server: whose log it is.
            clock_us: wall clock, microseconds since 1970.
            file: where it is.
            report: takes the event `audit_failed`, once per run of failures.
            is_synced: whether what is written is ever synced.

        Raises:
            OSError: the file cannot be read.
        """
        self._server, self._clock_us, self._file, self._report = server, clock_us, file, report
        self._is_synced = is_synced
        chain = read_chain(file.read(), server)
        self._end: End = chain.end
        self._known = _Known()
        self._accused: set[str] = set()
        for record in chain.records:
            self._learn(record)
        head = file.read_head()
        self._lost_head = head if head is not None and head.number > self._end.number else None
        self._is_new = not chain.records
        self._has_lost_head = bool(chain.records) and (head is None or not file.had_head)
        self._position = 0
        """Of the newest agreed change that was told, recorded or not."""
        self._waiting: deque[_Waiting] = deque()
        self._dropped: list[int] = []
        """Positions of changes that were given up."""
        self._has_to_look = True
        """Whether the file may end in something that is no whole line."""
        self._failing: set[str] = set()
        self._synced = head.number if head is not None else 0
        self._lock = threading.Lock()
        self._is_closed = False

    def open(self, standing: str, cell: CellState, *, is_loss: bool) -> None:
        """Record that a server begins.

        Args:
            standing: what it is to the cell.
            cell: the state from whose position it reads the order.
            is_loss: the operator accepted that the end of the order may be lost: positions may have other contents.
        """
        has_lost = self._is_new or self._lost_head is not None or self._file.size > self._end.offset
        if self._lost_head is not None:
            self._add(RECORDS_LOST, {"head_number": self._lost_head.number, "head": self._lost_head.stated.hex()})
        if standing == BORN:
            self._known = _Known()
        values = {"standing": standing, "is_loss_accepted": is_loss, "is_head_missing": self._has_lost_head}
        self._add(LOG_OPENED, values)
        if standing == BORN or (has_lost and cell.sequence > self._known.newest):
            self._read_roles(cell)
        self._write_waiting()

    def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """Record an event of the core if it is a change that is not in the log yet.

        A server that starts again, or learns, is told the changes of its past once more.
        """
        if kind not in NOTED_KINDS:
            return
        values: dict[str, Any] = plain(data)
        position = 0
        if kind in AGREED_KINDS:
            # A restart's end is told behind the changes of roles that it brings, at the same position.
            position = self._position = values.pop("sequence", self._position)
        content = content_of(kind, values)
        if self._known.has(position, content) or self._is_accused_again(kind, values):
            return
        self._known.add(position, content)
        self._add(kind, values, position)
        self._write_waiting()

    def skip_to(self, cell: CellState) -> None:
        """Record that the changes up to the position of `cell` are not told to this server, and what came of them."""
        if cell.sequence > self._known.newest:
            self._read_roles(cell)
            self._write_waiting()

    def _read_roles(self, cell: CellState) -> None:
        roles = {record.domain: [record.role.value, record.reason] for record in cell.domains.values()}
        values = {"since": self._known.newest, "through": cell.sequence, "roles": roles}
        self._known.newest = cell.sequence
        self._add(ROLES_READ, plain({**values, "live_servers": cell.live_servers}))

    async def tend(self) -> None:
        """Write what the disk refused before, and bring what is new to the disk; call it every `SYNC_INTERVAL_S`."""
        self._write_waiting()
        if self._end.number == self._synced:
            return
        try:
            await asyncio.to_thread(self.sync)
        except OSError as error:
            self.tell_failure(error, "sync")
        else:
            self._failing.discard("sync")

    def sync(self) -> None:
        """Bring the log to the disk; waits for it, so for a thread.

        Raises:
            OSError: the disk fails.
        """
        with self._lock:
            end = self._end
            if self._is_synced and not self._is_closed and end.number > self._synced:
                self._file.sync(Head(end.number, end.stated))
                self._synced = end.number

    def tell_failure(self, error: OSError, step: str) -> None:
        """Report that the disk fails; once per step until it works again."""
        if step not in self._failing:
            self._failing.add(step)
            self._report(FAILED, {"reason": f"{step}: {error}"})

    def close(self) -> None:
        """Record that the process ends in good order, and close the file; waits for the disk."""
        self._add(LOG_CLOSED, {})
        self._write_waiting()
        try:
            self.sync()
        except OSError as error:
            self.tell_failure(error, "sync")
        with self._lock:
            self._is_closed = True
            self._file.close()

    def _learn(self, record: AuditRecord) -> None:
        if record.is_birth:
            self._known = _Known()
        elif record.kind == ROLES_READ:
            self._known.newest = max(self._known.newest, record.number_in("through"))
        elif record.kind in NOTED_KINDS:
            self._known.add(record.position, record.content)
            self._is_accused_again(record.kind, record.data)

    def _is_accused_again(self, kind: str, data: Mapping[str, Any]) -> bool:
        """A domain that lies does so in every vote until it is convicted: the first one is the evidence."""
        if kind != "vote_contradicts":
            return False
        domain = str(data.get("domain"))
        is_again = domain in self._accused
        self._accused.add(domain)
        return is_again

    def _add(self, kind: str, data: dict[str, Any], position: int = 0) -> None:
        self._waiting.append(_Waiting(self._clock_us(), kind, position, data))
        while len(self._waiting) > WAITING_MAX:
            self._dropped.append(self._waiting.popleft().position)

    def _write_waiting(self) -> None:
        try:
            if self._has_to_look:
                self._tell_torn()
                self._has_to_look = False
            if self._dropped:
                positions = [position for position in self._dropped if position]
                span = {"since": min(positions, default=1) - 1, "through": max(positions, default=0)}
                self._write(self._clock_us(), CHANGES_DROPPED, 0, {"count": len(self._dropped), **span})
                self._dropped.clear()
            while self._waiting:
                self._write(*self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            self._has_to_look = True
            self.tell_failure(error, "write")
        else:
            self._failing.discard("write")

    def _tell_torn(self) -> None:
        """Go on behind whatever is at the end of the file and is no whole line; it stays there."""
        if not self._file.ends_with_line:
            is_whole = self._file.size == self._end.offset
            self._file.append(b"\n")
            self._end = self._end._replace(offset=self._end.offset + is_whole)
        torn = self._file.size - self._end.offset
        if torn:
            values = {"offset": self._end.offset, "bytes": torn}
            self._end = self._end._replace(offset=self._file.size)
            self._write(self._clock_us(), LINE_TORN, 0, values)

    def _write(self, at_us: int, kind: str, position: int, data: dict[str, Any]) -> None:
        number = self._end.number + 1
        record = AuditRecord(number, at_us, self._server, kind, position, data)
        line, stated = encode(record, self._end.stated)
        self._file.append(line)
        self._end = End(number, stated, self._end.offset + len(line))
