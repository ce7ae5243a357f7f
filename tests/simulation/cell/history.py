"""What happened, as the checkers need it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from agreement.changes import Change, Entry
from replica_manager.cell.entries import Request, decode_entry


@dataclass(slots=True)
class Operation:
    """One client request, from its first sending to its reply."""

    client: bytes
    number: int
    payload: bytes
    invoked_us: int
    replied_us: int = -1
    reply: bytes = b""


class History:
    """The record of one run."""

    def __init__(self) -> None:
        """Nothing happened."""
        self.orders: dict[int, list[Entry | Change]] = {}
        self.operations: list[Operation] = []
        self.events: Counter[str] = Counter()
        self.manager_messages = 0
        """What managers sent each other, agreement apart."""
        self.leader_clock_us = 0
        """The farthest clock of a leader when it proposed something."""
        self.core_events: list[tuple[int, str, dict[str, Any]]] = []

    def delivered(self, server: int, sequence: int, entry: Entry | Change) -> None:
        """A server delivered an entry."""
        order = self.orders.setdefault(server, [])
        assert sequence == len(order) + 1, f"server {server}: {sequence} delivered after {len(order)}"
        order.append(entry)

    def event(self, server: int, kind: str) -> None:
        """Something with a name happened."""
        self.events[kind] += 1

    def core_event(self, server: int, kind: str, data: dict[str, Any]) -> None:
        """A manager's core reported an event."""
        self.core_events.append((server, kind, data))

    @property
    def longest_order(self) -> list[Entry | Change]:
        """The order as the server that is farthest knows it."""
        return max(self.orders.values(), key=len, default=[])

    def requests(self) -> list[tuple[int, Request]]:
        """Return `(sequence, request)` of the longest order."""
        found = []
        for sequence, entry in enumerate(self.longest_order, 1):
            if isinstance(entry, Entry):
                decoded = decode_entry(entry.payload)
                if isinstance(decoded, Request):
                    found.append((sequence, decoded))
        return found
