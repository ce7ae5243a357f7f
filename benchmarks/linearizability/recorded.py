"""Histories in files: JSON lines, written while things happen, readable after any interruption.

The first line names the format, every other line is an event:

    {"format": "spare-history", "version": 1, "service": "key-value", "clock": "monotonic", "unit": "ns"}
    {"event": "sent", "id": 7, "client": "3.1", "at": 81230144, "payload": "S\\u0000\\u0000\\u0000\\u0002k1…"}
    {"event": "replied", "id": 7, "at": 81911002, "reply": "\\u0000"}
    {"event": "refused", "id": 7, "at": 81911002}

- `id`: numbers the requests of the file from 1; `client`: who asked, for people.
- `at`: nanoseconds of one monotonic clock.  Histories of different machines cannot be joined.
- `payload`, `reply`: bytes, each written as the character of that number, so that texts in them can be searched for.
- `sent` is written before the request is sent for the first time; repetitions are not written.
- `replied`: the reply came.  `refused`: it was surely never executed, and is not in the history.
- A request with neither is pending: it may have taken effect or not.

Each line is written at once.  A last line without an end was being written when the writer died: it is left out, which
makes no wrong history, since a request is sent only after its line, and a reply left out makes the request pending.
"""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

from benchmarks.linearizability.operation import Operation

_BYTES_AS_TEXT = "latin-1"


class HistoryError(Exception):
    """Raised when a file is no history: the message has its name, the line and a hint."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line."""

    format: Literal["spare-history"] = "spare-history"
    version: Literal[1] = 1
    service: str = "key-value"
    clock: Literal["monotonic"] = "monotonic"
    unit: Literal["ns"] = "ns"


class _Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event"):
    """What every event has."""

    id: int
    at: int


class Sent(_Event, frozen=True, tag="sent"):
    """A request is about to be sent for the first time."""

    client: str
    payload: str


class Replied(_Event, frozen=True, tag="replied"):
    """Its reply came."""

    reply: str


class Refused(_Event, frozen=True, tag="refused"):
    """It was surely not executed and never will be."""


Event = Sent | Replied | Refused

_encoder = msgspec.json.Encoder()
_header_decoder = msgspec.json.Decoder(Header)
_event_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


class HistoryWriter:
    """Writes one history; a context manager.  Times are arguments: the clock is the caller's.

    Example:
        with HistoryWriter(Path("history.jsonl")) as history:
            request = history.sent("3.1", encode_get(b"k"), time.monotonic_ns())
            history.replied(request, reply, time.monotonic_ns())
    """

    def __init__(self, path: Path) -> None:
        """Begin a file, in place of one that may be there.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)
        self._count = 0
        self._write(Header())

    def sent(self, client: str, payload: bytes, at_ns: int) -> int:
        """Note a request before it is sent; return its number."""
        self._count += 1
        self._write(Sent(self._count, at_ns, client, payload.decode(_BYTES_AS_TEXT)))
        return self._count

    def replied(self, request: int, reply: bytes, at_ns: int) -> None:
        """Note its reply."""
        self._write(Replied(request, at_ns, reply.decode(_BYTES_AS_TEXT)))

    def refused(self, request: int, at_ns: int) -> None:
        """Note that it was not executed and will not be."""
        self._write(Refused(request, at_ns))

    def _write(self, line: Header | Event) -> None:
        data = _encoder.encode(line) + b"\n"
        written = self._file.write(data)
        if written != len(data):
            raise OSError(f"{self._file.name}: the disk took {written} of {len(data)} bytes")

    def close(self) -> None:
        """End."""
        self._file.close()

    def __enter__(self) -> "HistoryWriter":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def read_history(path: Path) -> list[Operation]:
    """Return the operations of a file, in the order in which they were sent.

    Raises:
        HistoryError: it is no history, or contradicts itself.
        OSError: it cannot be read.
    """
    lines = enumerate(_complete_lines(path), 1)
    try:
        _header_decoder.decode(next(lines, (0, b""))[1])
    except msgspec.DecodeError as error:
        raise HistoryError(
            f"{path} does not begin like a history: {error}; was it recorded by this program?"
        ) from error
    operations: dict[int, Operation] = {}
    for number, line in lines:
        try:
            _take(operations, _event_decoder.decode(line))
        except (msgspec.DecodeError, ValueError) as error:
            raise HistoryError(f"{path}, line {number}: {error}; the file was changed or damaged") from error
    return list(operations.values())


def _complete_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _take(operations: dict[int, Operation], event: Event) -> None:
    present = operations.get(event.id)
    match event:
        case Sent(client=client, payload=payload):
            if present is not None:
                raise ValueError(f"request {event.id} is sent twice")
            operations[event.id] = Operation(client, payload.encode(_BYTES_AS_TEXT), event.at)
        case Replied(reply=reply):
            sent = _open(event, present)
            if event.at < sent.invoked_ns:
                raise ValueError(f"request {event.id} is answered before it is sent")
            data = reply.encode(_BYTES_AS_TEXT)
            operations[event.id] = Operation(sent.client, sent.payload, sent.invoked_ns, event.at, data)
        case Refused():
            _open(event, present)
            del operations[event.id]


def _open(event: Event, present: Operation | None) -> Operation:
    if present is None or not present.is_pending:
        raise ValueError(f"request {event.id} is not under way")
    return present
