"""What happened, as the checkers need it."""

from collections import Counter
from dataclasses import dataclass, field
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
    is_lost: bool = False
    """It was executed before the cell lost power, and its reply is kept nowhere."""


@dataclass(slots=True)
class Order:
    """What one process of a server was delivered without a gap."""

    server: int
    first: int = 0
    """Sequence number of the first entry; 0: none came."""
    entries: list[Entry | Change] = field(default_factory=list)


class History:
    """The record of one run."""

    def __init__(self) -> None:
        """Nothing happened."""
        self.orders: list[Order] = []
        """Of each process of each server; after a restart or a snapshot a new one begins."""
        self._newest: dict[int, Order] = {}
        self.longest_order: list[Entry | Change] = []
        """The order as whoever was first knew it."""
        self.names_known: set[DomainId] = set()
        """Of all domains that the cell has ever known."""
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
        self.stable: dict[int, set[tuple[int, bytes]]] = {}
        """Number → servers, each with the digest that was stable there."""
        self.held: dict[int, int] = {}
        """Request that the cell holds → when that was first noticed, in µs."""
        self.resolutions: dict[int, RequestResolved] = {}
        """By token: what became of an operator's decision."""
        self.rounds: dict[int, set[int]] = {}
        """Number that stalled → rounds opened for it."""
        self.repairs: Counter[int] = Counter()
        """Per server."""
        self.exported: list[tuple[int, dict[bytes, bytes]]] = []
        """Point and rows of every file that became whole."""
        self.manager_messages = 0
        """What managers sent each other, agreement apart."""
        self.leader_clock_us = 0
        """The farthest clock of a leader when it proposed something."""
        self.core_events: list[tuple[int, str, dict[str, Any]]] = []

    def begin_order(self, server: int) -> None:
        """A process of a server starts, or goes on from a snapshot."""
        self._newest[server] = order = Order(server)
        self.orders.append(order)

    def delivered(self, server: int, sequence: int, entry: Entry | Change) -> None:
        """A server delivered an entry."""
        order = self._newest[server]
        order.first = order.first or sequence
        expected = order.first + len(order.entries)
        assert sequence == expected, f"server {server}: {sequence} delivered instead of {expected}"
        order.entries.append(entry)
        if sequence == len(self.longest_order) + 1:
            self.longest_order.append(entry)

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
        if kind == "role_changed":
            self.names_known.add(data["domain"])
        if kind == "repaired":
            self.repairs[server] += 1
            self.events["second repair"] += self.repairs[server] > 1
        if kind == "request_held":
            self.held.setdefault(data["sequence"], now_us)

    def requests(self) -> list[tuple[int, Request]]:
        """Return `(sequence, request)` of the longest order."""
        found = []
        for sequence, entry in enumerate(self.longest_order, 1):
            if isinstance(entry, Entry):
                decoded = decode_entry(entry.payload)
                if isinstance(decoded, Request):
                    found.append((sequence, decoded))
        return found
