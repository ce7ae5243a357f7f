"""Named events of one server: the newest in memory, all of them in a file of bounded size.

Recording is cheap and never raises: an event about a full disk must not be the end of the server that has it.
"""

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from replica_manager.control.event_file import EventFile
from replica_manager.control.event_rate import EventRate

RING_EVENTS_MAX = 10_000
"""Events kept in memory; older ones are in the file."""
TEXT_CHARACTERS_MAX = 500
VALUE_CHARACTERS_MAX = 2000
"""A longer value of an event's data is cut; events are told to people."""
SUPPRESSED = "events_suppressed"
FILE_FAILED = "event_file_failed"

_WORD_BREAK = re.compile(r"[_-]+")


class Event(msgspec.Struct, frozen=True):
    """One named event."""

    id: int
    """Ascending by one per server, over restarts too as long as the file is there."""
    at_us: int
    """The server's clock, microseconds since 1970-01-01 UTC."""
    server: int
    kind: str
    text: str
    """One line for people."""
    data: dict[str, Any]
    """Values for programs: numbers, texts, lists; bytes are given in hexadecimal."""


class EventLog:
    """Records events; not thread-safe: it belongs to the event loop of its server."""

    def __init__(
        self,
        server: int,
        clock_us: Callable[[], int],
        file: EventFile | None = None,
        rate: EventRate | None = None,
        ring_events_max: int = RING_EVENTS_MAX,
    ) -> None:
        """Continue the log of `server`.

        Args:
            server: whose events these are.
            clock_us: wall clock, microseconds since 1970.
            file: where events are kept; `None`: in memory only.
            rate: bound per kind; default 20 per second after a burst of 100.
            ring_events_max: events kept in memory.
        """
        self._server = server
        self._clock_us = clock_us
        self._file = file
        self._rate = rate or EventRate()
        self._ring: deque[Event] = deque(maxlen=ring_events_max)
        self._next_id = file.next_id if file else 1
        self._watchers: list[Callable[[], None]] = []

    @property
    def newest_id(self) -> int:
        """Id of the newest event; 0 before the first one."""
        return self._next_id - 1

    def record(self, kind: str, /, **data: Any) -> None:
        """Record that `kind` happened.

        Args:
            kind: the event's name, a few words with underscores; one of a fixed set.
            data: what belongs to it; `text`, if given, is the sentence for people.
        """
        now_us = self._clock_us()
        if self._rate.admits(kind, now_us):
            self._append(kind, data, now_us)
        self.report_suppressed(now_us)

    def report_suppressed(self, now_us: int | None = None) -> None:
        """Record how many events were left out of kinds that are quiet again; call it now and then."""
        for kind, count in self._rate.take_suppressed(self._clock_us() if now_us is None else now_us):
            self._append(SUPPRESSED, {"of_kind": kind, "count": count}, self._clock_us())

    def since(self, since_id: int, limit: int, kinds: Iterable[str] | None = None) -> Sequence[Event]:
        """Return the first `limit` events with ids above `since_id` that are still in memory, oldest first.

        A negative `since_id` means the newest `limit` events.
        """
        self.report_suppressed()
        wanted = None if kinds is None else frozenset(kinds)
        found = [event for event in self._ring if event.id > since_id and (wanted is None or event.kind in wanted)]
        return found[-limit:] if since_id < 0 else found[:limit]

    def newer_than(self, since_id: int) -> Sequence[Event]:
        """Return the events with ids above `since_id` that are in memory, oldest first; costs only what it returns."""
        found = list(itertools.takewhile(lambda event: event.id > since_id, reversed(self._ring)))
        return found[::-1]

    @property
    def file_errors(self) -> int:
        """Events that did not reach the file."""
        return self._file.write_errors if self._file else 0

    def watch(self, on_event: Callable[[], None]) -> Callable[[], None]:
        """Call `on_event` after every new event until the returned function is called."""
        self._watchers.append(on_event)
        return lambda: self._watchers.remove(on_event)

    def close(self) -> None:
        """Record what was suppressed, and close the file."""
        for kind, count in self._rate.take_suppressed(None):
            self._append(SUPPRESSED, {"of_kind": kind, "count": count}, self._clock_us())
        if self._file:
            self._file.close()

    def _append(self, kind: str, data: dict[str, Any], now_us: int) -> None:
        values = {key: plain(value) for key, value in data.items() if key != "text"}
        text = str(data["text"]) if "text" in data else _describe(kind, values)
        event = Event(self._next_id, now_us, self._server, kind, text[:TEXT_CHARACTERS_MAX], values)
        self._next_id += 1
        self._ring.append(event)
        if self._file:
            self._file.append(event.id, _encode(event))
            if self._file.has_failed_newly():
                self._append(FILE_FAILED, {"text": "the event file cannot be written; events stay in memory"}, now_us)
        for on_event in tuple(self._watchers):
            on_event()


def _describe(kind: str, values: dict[str, Any]) -> str:
    """Return a sentence for people from the event's name and values."""
    words = _WORD_BREAK.sub(" ", kind)
    details = ", ".join(f"{_WORD_BREAK.sub(' ', key)} {value}" for key, value in values.items())
    return f"{words}: {details}" if details else words


def plain(value: Any) -> Any:
    """Return `value` as something that JSON has, cut to a bounded length."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[: VALUE_CHARACTERS_MAX // 2]).hex()
    if isinstance(value, str):
        return value[:VALUE_CHARACTERS_MAX]
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(element) for element in list(value)[:100]]
    if isinstance(value, dict):
        return {str(key): plain(element) for key, element in list(value.items())[:100]}
    return str(value)[:VALUE_CHARACTERS_MAX]


def _encode(event: Event) -> bytes:
    return msgspec.json.encode(event) + b"\n"
