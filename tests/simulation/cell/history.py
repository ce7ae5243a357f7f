"""What happened, as the checkers need it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from agreement.changes import Change, Entry
from replica_manager.cell.effects import RequestResolved
from replica_manager.cell.entries import Request, decode_entry
from replica_manager.identifiers import DomainId
from tests.simulation.cell.named_events import names_of


@dataclass(slots=True)
class Operation:
    """One client request, from its first sending to its reply."""

    client: bytes
    number: int
    payload: bytes
    invoked_us: int
    replied_us: int = -1
    reply: bytes = b""
    is_skipped: bool = False
    """An operator resolved it so: it has no reply."""


class History:
    """The record of one run."""

    def __init__(self) -> None:
        """Nothing happened."""
        self.orders: dict[int, list[Entry | Change]] = {}
        self.operations: list[Operation] = []
        self.events: Counter[str] = Counter()
        self.faulty: dict[DomainId, str] = {}
        """Domains that misbehave, or were killed, and how; nothing is promised for them."""
        self.fresh: set[DomainId] = set()
        """Domains that were booted for a repair."""
        self.lethal: set[bytes] = set()
        """Payloads that kill every domain that executes them."""
        self.is_bound_exceeded = False
        """Whether such a payload was sent."""
        self.stable: dict[int, dict[int, bytes]] = {}
        """Number → server → the digest that was stable there."""
        self.held: dict[int, int] = {}
        """Request that the cell holds → when that was first noticed, in µs."""
        self.resolutions: dict[int, RequestResolved] = {}
        """By token: what became of an operator's decision."""
        self.rounds: dict[int, set[int]] = {}
        """Number that stalled → rounds opened for it."""
        self.repairs: Counter[int] = Counter()
        """Per server."""
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

    def core_event(self, server: int, kind: str, data: dict[str, Any], now_us: int) -> None:
        """A manager's core reported an event."""
        self.core_events.append((server, kind, data))
        self.events[kind] += 1
        for name in names_of(kind, data):
            self.events[name] += 1
        if kind == "round_opened" and data["sequence"]:
            rounds = self.rounds.setdefault(data["sequence"], set())
            rounds.add(data["round"])
            self.events["second round"] += len(rounds) > 1
        if kind == "repaired":
            self.repairs[server] += 1
            self.events["second repair"] += self.repairs[server] > 1
        if kind == "request_held":
            self.held.setdefault(data["sequence"], now_us)

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
