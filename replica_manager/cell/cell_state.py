"""The replicated cell state: `apply` is the only thing that changes it, and it is a function of the agreed order.

Deviates: `apply` changes the state in place and returns the effects instead of a new state; copying a table of
tens of thousands of clients for every request would cost more than everything else together.

Source: SPARE §4.2.4; design "The replicated cell state".
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from agreement.messages import Change, Entry, ServerJoined, ServerLeft, WitnessReplaced
from replica_manager.cell.client_table import ClientTable, Row
from replica_manager.cell.effects import (
    ClientIssued,
    Effect,
    MembershipChanged,
    ProgressMade,
    RequestAccepted,
    RequestRefused,
    RequestRepeated,
    RoleChanged,
    RoundOpened,
    StateCompared,
    StateRefused,
    StateWanted,
)
from replica_manager.cell.entries import (
    DIGEST_INTERVAL,
    Offer,
    OpenClient,
    PointClosed,
    Progress,
    RecoveryPoint,
    Request,
    Stopped,
    decode_entry,
)
from replica_manager.cell.roles import DomainRecord, Role, stability_threshold
from replica_manager.identifiers import ClientId, DomainId, domain_id, generation_of
from replica_manager.intake.port import Outcome

_SEQUENCE = struct.Struct(">Q")


@dataclass(slots=True)
class MemberRecord:
    """What the cell knows of a server."""

    is_live: bool
    incarnation: int
    is_fenced: bool = False
    """Meaningful when not live: it surely does not run."""
    stable: int = 0
    durable: int = 0


@dataclass(slots=True)
class Round:
    """An open search for more active domains."""

    number: int
    count: int
    opened_at: int
    accepted: int = 0


class CellState:
    """All that decides what an entry does.

    Invariant: two servers that applied the same entries have equal `digest()`.
    """

    def __init__(self, f: int, client_table_entries_max: int, clock_start_us: int = 0) -> None:
        """Make the state of a new cell: one active and one passive domain per server.

        Args:
            f: faults tolerated.
            client_table_entries_max: bound of the client table.
            clock_start_us: what the service's clock shows at the first request; 0: the time of the intake servers.
                For data sets that were made at some time and age.
        """
        self.f = f
        self._clock_start_us = clock_start_us
        self.clock_offset_us = 0
        """Added to the intake servers' time; fixed by the first request."""
        self.sequence = 0
        self.last_timestamp_us = 0
        self.members = {server: MemberRecord(is_live=True, incarnation=1) for server in range(f + 1)}
        self.domains: dict[DomainId, DomainRecord] = {}
        for server in self.members:
            for generation, role in ((1, Role.ACTIVE), (2, Role.PASSIVE)):
                name = domain_id(server, generation)
                self.domains[name] = DomainRecord(name, role, is_counted=True, reason="start of the cell")
        self.next_generation = dict.fromkeys(self.members, 3)
        self.clients = ClientTable(client_table_entries_max)
        self.round: Round | None = None
        self.rounds_opened = 0
        self.open_point = 0
        """Position at which domains are giving their state; 0: none."""
        self.open_point_token = 0
        self.stable_all = 0
        self.durable_all = 0
        self.chain = sha256(b"spare cell state").digest()
        """`digest()` at the newest multiple of `DIGEST_INTERVAL`."""
        self._recompute_thresholds()

    # -- what follows from the state ---------------------------------------------------------------------------

    @property
    def live_servers(self) -> tuple[int, ...]:
        """Servers that have not left, ascending."""
        return tuple(server for server, member in sorted(self.members.items()) if member.is_live)

    def domains_in(self, role: Role) -> tuple[DomainRecord, ...]:
        """Return the domains in `role`, of live servers, by name."""
        return tuple(record for _, record in sorted(self.domains.items()) if record.role is role)

    def is_counted(self, domain: DomainId) -> bool:
        """Whether a vote of `domain` counts."""
        record = self.domains.get(domain)
        return record is not None and record.is_counted

    def _recompute_thresholds(self) -> None:
        gone = [member for member in self.members.values() if not member.is_live]
        self.f_prime = self.f - len(gone)
        self.threshold = stability_threshold(
            self.f_prime, has_unfenced_departure=any(not member.is_fenced for member in gone)
        )

    # -- the transition ----------------------------------------------------------------------------------------

    def apply(self, sequence: int, agreed: Entry | Change) -> tuple[Effect, ...]:
        """Apply the entry at `sequence` and return what it means.

        Raises:
            EntryError: the entry's bytes are none of ours (broken invariant).
        """
        assert sequence == self.sequence + 1, f"entry {sequence} after {self.sequence}: the order has a gap"
        self.sequence = sequence
        if isinstance(agreed, Entry):
            effects = self._apply_entry(sequence, agreed)
        else:
            effects = self._apply_change(sequence, agreed)
        if sequence % DIGEST_INTERVAL == 0:
            self.chain = self.digest()
        return effects

    def _apply_entry(self, sequence: int, agreed: Entry) -> tuple[Effect, ...]:
        entry = decode_entry(agreed.payload)
        match entry:
            case Request():
                return (self._apply_request(sequence, entry),)
            case OpenClient(random=random, token=token):
                client = ClientId(_SEQUENCE.pack(sequence) + random)
                self.clients.open(client, sequence)
                return (ClientIssued(client, token),)
            case Progress():
                return self._apply_progress(agreed.server, entry)
            case Stopped(domain=domain, reason=reason):
                return self._apply_stopped(sequence, DomainId(domain), reason)
            case Offer():
                return self._apply_offer(entry)
            case RecoveryPoint(kind=kind, token=token):
                return self._apply_point(sequence, kind, token)
            case PointClosed(point=point, digests=digests):
                return self._apply_closed(point, digests)

    def _apply_request(self, sequence: int, request: Request) -> Effect:
        client = ClientId(request.client)
        verdict = self.clients.judge(client, request.number, request.payload, sequence)
        if verdict.is_new:
            if self._clock_start_us and not self.last_timestamp_us:
                self.clock_offset_us = self._clock_start_us - request.timestamp_us
            timestamp_us = max(request.timestamp_us + self.clock_offset_us, self.last_timestamp_us + 1)
            self.last_timestamp_us = timestamp_us
            seed = sha256(request.random + _SEQUENCE.pack(sequence)).digest()
            return RequestAccepted(client, request.number, timestamp_us, seed, request.payload)
        if verdict.repeats_sequence:
            return RequestRepeated(client, request.number, verdict.repeats_sequence)
        outcome = Outcome.UNKNOWN_CLIENT if verdict.is_unknown else Outcome.SUPERSEDED
        return RequestRefused(client, request.number, outcome)

    def _apply_point(self, sequence: int, kind: str, token: int) -> tuple[Effect, ...]:
        if self.open_point:
            return (StateRefused(token, self.open_point),)
        self.open_point, self.open_point_token = sequence, token
        return (StateWanted(kind, token),)

    def _apply_closed(self, point: int, digests: list[tuple[str, bytes]]) -> tuple[Effect, ...]:
        if point != self.open_point:
            return ()
        self.open_point = 0
        return (StateCompared(point, self.open_point_token, tuple((name, digest) for name, digest in digests)),)

    def _apply_progress(self, server: int, entry: Progress) -> tuple[Effect, ...]:
        member = self.members.get(server)
        if member is None or not member.is_live:
            return ()
        member.stable = max(member.stable, entry.stable)
        member.durable = max(member.durable, entry.durable)
        self._recompute_progress()
        return (ProgressMade(server, self.stable_all, self.durable_all, entry.digest_position, entry.digest),)

    def _recompute_progress(self) -> None:
        live = [member for member in self.members.values() if member.is_live]
        self.stable_all = max(self.stable_all, min(member.stable for member in live))
        self.durable_all = max(self.durable_all, min(member.durable for member in live))

    def _apply_stopped(self, sequence: int, domain: DomainId, reason: str) -> tuple[Effect, ...]:
        record = self.domains.get(domain)
        if record is None or record.role is Role.RETIRED:
            return ()
        # Votes that it gave while it ran keep counting: it is not convicted of anything.
        self.domains[domain] = record._replace(role=Role.RETIRED, reason=reason)
        return (RoleChanged(domain, Role.RETIRED, reason), *self._maybe_open_round(sequence))

    def _apply_offer(self, offer: Offer) -> tuple[Effect, ...]:
        record = self.domains.get(DomainId(offer.domain))
        current = self.round
        if record is None or record.role is not Role.PASSIVE or current is None:
            return ()
        if offer.round_number != current.number or current.accepted >= current.count:
            return ()
        current.accepted += 1
        reason = f"offered in round {current.number}"
        self.domains[record.domain] = record._replace(role=Role.ACTIVE, reason=reason)
        return (RoleChanged(record.domain, Role.ACTIVE, reason),)

    def _maybe_open_round(self, sequence: int) -> tuple[Effect, ...]:
        missing = self.threshold - len(self.domains_in(Role.ACTIVE))
        if missing <= 0 or not self.domains_in(Role.PASSIVE):
            return ()
        self.rounds_opened += 1
        self.round = Round(self.rounds_opened, missing, sequence)
        return (RoundOpened(self.rounds_opened, missing),)

    def _apply_change(self, sequence: int, change: Change) -> tuple[Effect, ...]:
        match change:
            case ServerLeft(server=server, fenced=fenced):
                return self._apply_left(sequence, server, is_fenced=fenced)
            case ServerJoined(server=server, incarnation=incarnation, payload=payload):
                return self._apply_joined(sequence, server, incarnation, payload)
            case WitnessReplaced():
                return ()

    def _apply_left(self, sequence: int, server: int, *, is_fenced: bool) -> tuple[Effect, ...]:
        member = self.members[server]
        member.is_live = False
        member.is_fenced = is_fenced
        effects: list[Effect] = []
        for record in [record for record in self.domains.values() if record.server == server]:
            was_retired = record.role is Role.RETIRED
            self.domains[record.domain] = record._replace(
                role=Role.RETIRED, is_counted=False, reason=f"server {server} left"
            )
            if not was_retired:
                effects.append(RoleChanged(record.domain, Role.RETIRED, f"server {server} left"))
        self._recompute_thresholds()
        self._recompute_progress()
        effects.append(MembershipChanged(self.live_servers, self.f_prime, self.threshold, server))
        return (*effects, *self._maybe_open_round(sequence))

    def _apply_joined(self, sequence: int, server: int, incarnation: int, payload: bytes) -> tuple[Effect, ...]:
        active, passive = (DomainId(name) for name in msgspec.msgpack.decode(payload, type=tuple[str, str]))
        # A name is never used again: votes of a domain of that name may still be on their way.
        newest = max(generation_of(active), generation_of(passive))
        self.next_generation[server] = max(self.next_generation[server], newest + 1)
        self.members[server] = MemberRecord(True, incarnation, stable=sequence, durable=self.durable_all)
        reason = f"server {server} joined"
        effects: list[Effect] = []
        for name, role in ((active, Role.ACTIVE), (passive, Role.PASSIVE)):
            self.domains[name] = DomainRecord(name, role, is_counted=True, reason=reason)
            effects.append(RoleChanged(name, role, reason))
        self._recompute_thresholds()
        effects.append(MembershipChanged(self.live_servers, self.f_prime, self.threshold, None))
        return (*effects, *self._maybe_open_round(sequence))

    # -- comparing and transferring ----------------------------------------------------------------------------

    def _control_rows(self) -> list[object]:
        """Everything but the client table, in a canonical order."""
        members = [
            [server, m.is_live, m.incarnation, m.is_fenced, m.stable, m.durable]
            for server, m in sorted(self.members.items())
        ]
        domains = [[r.domain, r.role.value, r.is_counted, r.reason] for _, r in sorted(self.domains.items())]
        generations = [[server, number] for server, number in sorted(self.next_generation.items())]
        current = self.round
        round_row = None if current is None else [current.number, current.count, current.opened_at, current.accepted]
        progress = [
            self.stable_all,
            self.durable_all,
            self.last_timestamp_us,
            self.open_point,
            self.open_point_token,
            self.clock_offset_us,
        ]
        settings = [self.f, self.clients.entries_max, self._clock_start_us]
        return [settings, self.sequence, members, domains, generations, round_row, self.rounds_opened, progress]

    def digest(self) -> bytes:
        """Return 32 bytes that differ if what two servers' entries have done differs.

        Of the client table only its size and the rows that entries since the last multiple of `DIGEST_INTERVAL` can
        have touched are hashed, which are the newest ones; the chain stands for what was before.  Hashing tens of
        thousands of rows each time would cost more than it finds; `full_digest` covers every row as it is now.
        """
        touched = list(self.clients.newest_rows(DIGEST_INTERVAL))
        rows = [self._control_rows(), len(self.clients), touched]
        return sha256(self.chain + msgspec.msgpack.encode(rows)).digest()

    def full_digest(self) -> bytes:
        """Return a digest that covers every row of the client table."""
        return sha256(self.encode()).digest()

    def encode(self) -> bytes:
        """Return the whole state as bytes, equal on all servers at the same position."""
        return msgspec.msgpack.encode([self._control_rows(), self.chain, list(self.clients.rows())])

    @classmethod
    def decode(cls, data: bytes) -> "CellState":
        """Return the state that `encode` wrote."""
        control, chain, clients = msgspec.msgpack.decode(data)
        settings, sequence, members, domains, generations, round_row, rounds_opened, progress = control
        state = cls(*settings)
        state.sequence = sequence
        state.members = {server: MemberRecord(*rest) for server, *rest in members}
        state.domains = {
            DomainId(name): DomainRecord(DomainId(name), Role(role), counted, reason)
            for name, role, counted, reason in domains
        }
        state.next_generation = dict(generations)
        state.round = None if round_row is None else Round(*round_row)
        state.rounds_opened = rounds_opened
        state.stable_all, state.durable_all, state.last_timestamp_us = progress[:3]
        state.open_point, state.open_point_token, state.clock_offset_us = progress[3:]
        state.chain = chain
        state.clients.load(_rows(clients))
        state._recompute_thresholds()
        return state


def _rows(rows: Iterable[list[object]]) -> "Iterable[Row]":
    for client, number, sequence, digest in rows:
        assert isinstance(client, bytes)
        assert isinstance(number, int)
        assert isinstance(sequence, int)
        assert isinstance(digest, bytes)
        yield client, number, sequence, digest
