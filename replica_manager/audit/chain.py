"""Reads an audit log and finds where its chain breaks.  Pure.

A break is judged by what stands behind it.  Bytes that are no record are no fault if the next record of the unbroken
chain is a `line_torn` that names exactly them: so a server that finds a torn line at its start, or after a full disk,
leaves the file as it is and goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from replica_manager.audit.record import (
    CHANGES_DROPPED,
    GENESIS,
    LINE_TORN,
    LOG_CLOSED,
    LOG_OPENED,
    RECORDS_LOST,
    AuditRecord,
    Line,
    parse,
)

HEAD_BYTES = 86
"""20 digits, a blank, 64 digits, a line end: less than a sector, so that a write of it is there or is not."""


class Head(NamedTuple):
    """The newest record that surely is on the disk."""

    number: int
    stated: bytes

    def encode(self) -> bytes:
        """Return the content of the head's file."""
        return f"{self.number:020d} {self.stated.hex()}\n".encode()


def decode_head(content: bytes) -> Head | None:
    """Return the head in a file; `None`: it holds none."""
    number, _, stated = content.strip().partition(b" ")
    try:
        head = Head(int(number), bytes.fromhex(stated.decode()))
    except (ValueError, UnicodeDecodeError):
        return None
    return head if len(head.stated) == len(GENESIS) else None


class End(NamedTuple):
    """Where the unbroken chain ends: what the next record goes on from."""

    number: int = 0
    stated: bytes = GENESIS
    offset: int = 0
    """Of the first byte behind it, its line end included."""


@dataclass(slots=True)
class Chain:
    """What a file holds."""

    records: list[AuditRecord] = field(default_factory=list)
    """All that can be read, broken or not, in the order of the file."""
    first_break: str = ""
    """Names the first record that does not continue the chain; empty: all do."""
    break_count: int = 0
    notes: list[str] = field(default_factory=list)
    """What the log itself tells of, and no fault."""
    losses: list[str] = field(default_factory=list)
    """Records that were missing when the server started, as the log itself tells."""
    end: End = field(default_factory=End)
    hashes: dict[int, bytes] = field(default_factory=dict)
    """By number, of the records in the unbroken part."""

    @property
    def is_closed(self) -> bool:
        """Whether the newest record says that the process ended in good order."""
        return bool(self.records) and self.records[-1].kind == LOG_CLOSED


def read_chain(content: bytes, server: int) -> Chain:
    """Return what the audit log of `server` holds."""
    chain, pending = Chain(), list[str]()
    previous = End()
    """The line before, broken or not: a changed record breaks its own place only."""
    for offset, raw in _lines(content):
        line = parse(raw.rstrip(b"\n"))
        if line is not None and _is_torn_record(line, chain.end, offset):
            chain.notes.append(_torn_note(line.record, pending))
            pending.clear()
        elif line is None or not _is_next(line, previous, server):
            pending.append(_describe(line, previous, server))
        else:
            _keep(chain, pending)
            pending = []
        if line is None:
            continue
        chain.records.append(line.record)
        previous = End(line.record.number, line.stated, offset + len(raw))
        if not pending:
            chain.end = previous
            chain.hashes[line.record.number] = line.stated
            _tell(chain, line.record)
    if len(pending) == 1 and not content.endswith(b"\n"):
        # The process is in the middle of a write, or ended there: its next start says so in a record.
        chain.notes.append(f"its last line is torn: {pending.pop()}")
    _keep(chain, pending)
    return chain


def check_head(chain: Chain, head: Head | None) -> str:
    """Return what the recorded head says against the file; empty: nothing."""
    if head is None:
        return "its head cannot be read: whether its end was cut cannot be told from this server's files"
    newest = max((record.number for record in chain.records), default=0)
    if head.number > newest:
        return f"{_missing(newest + 1, head.number)} missing at its end: it was cut"
    stated = chain.hashes.get(head.number)
    if head.number and stated is not None and stated != head.stated:
        return f"record {head.number} is another one than its head says: the file was replaced"
    return ""


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    # Not `splitlines`: a torn line may hold any byte.
    for raw in content.split(b"\n"):
        is_last = offset + len(raw) == len(content)
        if raw or not is_last:
            yield offset, raw if is_last else raw + b"\n"
        offset += len(raw) + 1


def _is_next(line: Line, previous: End, server: int) -> bool:
    record = line.record
    return record.number == previous.number + 1 and record.server == server and line.continues(previous.stated)


def _is_torn_record(line: Line, end: End, offset: int) -> bool:
    record = line.record
    return (
        record.kind == LINE_TORN
        and record.data == {"offset": end.offset, "bytes": offset - end.offset}
        and record.number == end.number + 1
        and line.continues(end.stated)
    )


def _describe(line: Line | None, previous: End, server: int) -> str:
    expected = previous.number + 1
    if line is None:
        return f"record {expected} cannot be read"
    number = line.record.number
    if number > expected:
        return f"{_missing(expected, number - 1)} missing before record {number}"
    if number < expected:
        return f"record {number} stands where record {expected} belongs"
    if line.record.server != server:
        return f"record {number} is of server {line.record.server}"
    return f"record {number} was changed: its hash is not that of its content behind record {number - 1}"


def _missing(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"


def _torn_note(record: AuditRecord, pending: Sequence[str]) -> str:
    what = "is a torn line" if len(pending) == 1 else "are torn lines"
    return f"before record {record.number} {what} of {record.data['bytes']} bytes, as it says itself"


def _tell(chain: Chain, record: AuditRecord) -> None:
    if record.kind == RECORDS_LOST:
        chain.losses.append(
            f"record {record.number} says that records up to {record.data.get('head_number')} were lost"
        )
    elif record.kind == CHANGES_DROPPED:
        chain.losses.append(f"record {record.number} says that the disk refused {record.data.get('count')} changes")
    elif record.kind == LOG_OPENED and record.data.get("is_head_missing"):
        chain.losses.append(f"record {record.number} says that the head was not there when the server started")


def _keep(chain: Chain, pending: Sequence[str]) -> None:
    if pending and not chain.first_break:
        chain.first_break = pending[0]
    chain.break_count += len(pending)
