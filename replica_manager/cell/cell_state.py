"""The replicated cell state: `apply` is the only thing that changes it, and it is a function of the agreed order.

Deviates: `apply` changes the state in place and returns the effects instead of a new state; copying a table of
tens of thousands of clients for every request would cost more than everything else together.

Source: SPARE §4.2.4; design "The replicated cell state".
"""

import struct
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from agreement.messages import Change, Entry, ServerJoined, ServerLeft, WitnessReplaced
from replica_manager.cell.client_table import ClientTable
from replica_manager.cell.domain_table import DomainTable
from replica_manager.cell.effects import (
    ClientIssued,
    Effect,
    MembershipChanged,
    ProgressMade,
    RequestAccepted,
    RequestRefused,
    RequestRepeated,
)
from replica_manager.cell.entries import (
    DIGEST_INTERVAL,
    CellEntry,
    Consent,
    Convicted,
    Demote,
    DomainReady,
    NextBooted,
    Offer,
    OpenClient,
    PointClosed,
    Progress,
    Promote,
    RecoveryAborted,
    RecoveryBegun,
    RecoveryPoint,
    RepairPoint,
    Request,
    Resolve,
    RestartBegun,
    Restarted,
    Stalled,
    Stopped,
    Suspected,
    Switch,
    decode_entry,
)
from replica_manager.cell.fault_entries import (
    apply_convicted,
    apply_demote,
    apply_offer,
    apply_promote,
    apply_resolve,
    apply_stalled,
    apply_stopped,
    give_up_skips,
    maybe_open_round,
)
from replica_manager.cell.point_entries import (
    apply_closed,
    apply_point,
    apply_ready,
    apply_repair,
    end_export,
    release_point,
)
from replica_manager.cell.poison import Poison
from replica_manager.cell.recoveries import Recoveries
from replica_manager.cell.recovery_entries import (
    apply_aborted,
    apply_begun,
    apply_booted,
    apply_switch,
    follow,
)
from replica_manager.cell.restart_entries import apply_restart, conclude_restart
from replica_manager.cell.restarting import Restarting
from replica_manager.cell.roles import DomainRecord, Role, stability_threshold
from replica_manager.cell.rounds import Round, Rounds
from replica_manager.cell.state_points import StatePoint
from replica_manager.identifiers import ClientId, DomainId
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
        self.table = DomainTable(self.members)
        self.clients = ClientTable(client_table_entries_max)
        self.rounds = Rounds()
        self.poison = Poison()
        self.recoveries = Recoveries()
        self.state_point: StatePoint | None = None
        """The position at which domains are giving their state."""
        self.restarted_at = 0
        """Position at which the newest restart of the cell was complete."""
        self.restart_token = 0
        """Of the newest restart of the cell."""
        self.restarting: Restarting | None = None
        """Set from a `RestartBegun` until every domain is back or given up."""
        self.roles_changed_at = 0
        """Position of the newest entry that changed membership or a role, or opened a round."""
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

    @property
    def domains(self) -> dict[DomainId, DomainRecord]:
        """Every domain that is known, by name."""
        return self.table.records

    @property
    def next_generation(self) -> dict[int, int]:
        """The number of the next fresh domain of each server."""
        return self.table.next_generation

    @property
    def round(self) -> Round | None:
        """The newest round, while it may still accept offers."""
        return self.rounds.current

    @property
    def open_point(self) -> int:
        """Position at which domains are giving their state; 0: none."""
        return 0 if self.state_point is None else self.state_point.point

    def domains_in(self, role: Role) -> tuple[DomainRecord, ...]:
        """Return the domains in `role`, by name."""
        return self.table.in_role(role)

    @property
    def lasting(self) -> tuple[DomainRecord, ...]:
        """Active domains but for those that a recovery is about to give up."""
        current = self.recoveries.current
        leaving = () if current is None else current.leaving
        return tuple(record for record in self.domains_in(Role.ACTIVE) if record.domain not in leaving)

    def domains_of(self, server: int) -> tuple[DomainRecord, ...]:
        """Return the domains of a server, by generation."""
        return self.table.of_server(server)

    def is_counted(self, domain: DomainId) -> bool:
        """Whether a vote of `domain` counts."""
        record = self.domains.get(domain)
        return record is not None and record.is_counted

    def is_present(self, domain: DomainId) -> bool:
        """Whether a domain is known and not retired."""
        return self.table.present(domain) is not None

    def is_overtaken(self, seen: int) -> bool:
        """Whether roles changed after what a proposer had seen (`L5`: two planners would else demote twice)."""
        return self.roles_changed_at > seen

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
                return self._apply_progress(sequence, agreed.server, entry)
            case RecoveryPoint():
                return apply_point(self, sequence, agreed.server, entry)
            case PointClosed(point=point, digests=digests):
                return apply_closed(self, agreed.server, point, digests)
            case Resolve() | Consent():
                return apply_resolve(self, agreed.server, entry)
            case _:
                return self._apply_fault_entry(sequence, entry)

    def _apply_fault_entry(self, sequence: int, entry: CellEntry) -> tuple[Effect, ...]:
        effects = self._judge_fault_entry(sequence, entry)
        # What follows from the entry itself, before anybody else can act on what it left.
        if effects:
            effects = (*effects, *self.table.retire_surplus(sequence))
            effects = (*effects, *maybe_open_round(self, sequence))
        effects = (*effects, *follow(self, effects))
        if effects:
            self.roles_changed_at = sequence
        return effects

    def _judge_fault_entry(self, sequence: int, entry: CellEntry) -> tuple[Effect, ...]:
        match entry:
            case Stopped():
                return apply_stopped(self, sequence, entry)
            case Offer():
                return apply_offer(self, sequence, entry)
            case Stalled():
                return apply_stalled(self, sequence, entry)
            case Convicted():
                return apply_convicted(self, sequence, entry)
            case Suspected(domain=domain, reason=reason):
                record = self.table.present(domain)
                is_new = record is not None and not record.suspicion
                return (self.table.suspect(record, reason),) if record is not None and is_new else ()
            case Promote():
                return apply_promote(self, sequence, entry)
            case Demote():
                return apply_demote(self, sequence, entry)
            case RepairPoint():
                return apply_repair(self, sequence, entry)
            case DomainReady():
                return apply_ready(self, sequence, entry)
            case RestartBegun() | Restarted():
                return apply_restart(self, sequence, entry)
            case RecoveryBegun():
                return apply_begun(self, sequence, entry)
            case NextBooted():
                return apply_booted(self, sequence, entry)
            case Switch():
                return apply_switch(self, sequence, entry)
            case RecoveryAborted():
                return apply_aborted(self, entry)
            case _:
                raise AssertionError(f"{type(entry).__name__} is dealt with before")

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

    # -- states of domains -------------------------------------------------------------------------------------

    def _apply_progress(self, sequence: int, server: int, entry: Progress) -> tuple[Effect, ...]:
        member = self.members.get(server)
        if member is None or not member.is_live or entry.seen < self.restarted_at:
            return ()
        member.stable = max(member.stable, entry.stable)
        member.durable = max(member.durable, entry.durable)
        self._recompute_progress()
        self.rounds.drop_through(self.stable_all)
        self.poison.drop_through(self.stable_all)
        self.table.forget_retired(self.stable_all)
        made = ProgressMade(server, self.stable_all, self.durable_all, entry.digest_position, entry.digest)
        # A round that was closed now may have been the one that looked for domains in place of those that stopped.
        return (made, *maybe_open_round(self, sequence))

    def _recompute_progress(self) -> None:
        live = [member for member in self.members.values() if member.is_live]
        self.stable_all = max(self.stable_all, min(member.stable for member in live))
        self.durable_all = max(self.durable_all, min(member.durable for member in live))

    # -- faults ------------------------------------------------------------------------------------------------

    def is_live(self, server: int) -> bool:
        """Whether a server has not left."""
        member = self.members.get(server)
        return member is not None and member.is_live

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
        effects: list[Effect] = list(self.table.leave(server, sequence))
        for record in self.domains_of(server):
            effects += release_point(self, record.domain)
        effects += end_export(self, server)
        self._recompute_thresholds()
        self._recompute_progress()
        if self.restarting is not None:
            for record in self.domains_of(server):
                self.restarting.note_gone(record.domain)
            effects += conclude_restart(self, sequence)
        self.roles_changed_at = sequence
        effects.append(MembershipChanged(self.live_servers, self.f_prime, self.threshold, server))
        self.recoveries.note_left(server)
        effects += follow(self, tuple(effects))
        return (*effects, *give_up_skips(self), *maybe_open_round(self, sequence))

    def _apply_joined(self, sequence: int, server: int, incarnation: int, payload: bytes) -> tuple[Effect, ...]:
        active, passive = msgspec.msgpack.decode(payload, type=tuple[str, str])
        self.members[server] = MemberRecord(True, incarnation, stable=self.stable_all, durable=self.durable_all)
        effects: list[Effect] = list(self.table.join(server, active, passive, sequence))
        for name in (active, passive):
            effects += release_point(self, DomainId(name))
        self._recompute_thresholds()
        self.roles_changed_at = sequence
        effects.append(MembershipChanged(self.live_servers, self.f_prime, self.threshold, None))
        return (*effects, *give_up_skips(self), *maybe_open_round(self, sequence))

    def load(self, other: "CellState") -> None:
        """Become what `other` is: everybody who holds this state goes on with a snapshot of a peer."""
        self.__dict__.update(other.__dict__)

    # -- comparing and transferring ----------------------------------------------------------------------------

    def _control_rows(self) -> list[object]:
        """Everything but the client table, in a canonical order."""
        members = [
            [server, m.is_live, m.incarnation, m.is_fenced, m.stable, m.durable]
            for server, m in sorted(self.members.items())
        ]
        progress = [
            self.stable_all,
            self.durable_all,
            self.last_timestamp_us,
            self.clock_offset_us,
            self.roles_changed_at,
            self.restart_token,
            self.restarted_at,
        ]
        settings = [self.f, self.clients.entries_max, self._clock_start_us]
        point = None if self.state_point is None else self.state_point.row()
        restarting = None if self.restarting is None else self.restarting.row()
        faults = [self.table.rows(), self.rounds.rows(), self.poison.rows(), point, restarting, self.recoveries.rows()]
        return [settings, self.sequence, members, faults, progress]

    def digest(self) -> bytes:
        """Return 32 bytes that differ if what two servers' entries have done differs.

        Of the client table only its size and the rows that entries since the last multiple of `DIGEST_INTERVAL` can
        have touched are hashed, which are the newest ones; the chain stands for what was before.  Hashing tens of
        thousands of rows each time would cost more than it finds; `full_digest` covers every row as it is now.
        """
        touched = self.clients.newest_rows(DIGEST_INTERVAL)
        rows = [self._control_rows(), len(self.clients), touched]
        return sha256(self.chain + msgspec.msgpack.encode(rows)).digest()

    def full_digest(self) -> bytes:
        """Return a digest that covers every row of the client table."""
        return sha256(self.encode()).digest()

    def encode(self) -> bytes:
        """Return the whole state as bytes, equal on all servers at the same position."""
        return msgspec.msgpack.encode([self._control_rows(), self.chain, self.clients.encode()])

    @classmethod
    def decode(cls, data: bytes) -> "CellState":
        """Return the state that `encode` wrote."""
        control, chain, clients = msgspec.msgpack.decode(data)
        settings, sequence, members, faults, progress = control
        state = cls(*settings)
        state.sequence = sequence
        state.members = {server: MemberRecord(*rest) for server, *rest in members}
        table, rounds, poison, point, restarting, recoveries = faults
        state.table = DomainTable.of_rows(table)
        state.rounds, state.poison = Rounds.of_rows(rounds), Poison.of_rows(poison)
        state.state_point = None if point is None else StatePoint.of_row(point)
        state.restarting = None if restarting is None else Restarting.of_row(restarting)
        state.recoveries = Recoveries.of_rows(recoveries)
        state.stable_all, state.durable_all, state.last_timestamp_us = progress[:3]
        state.clock_offset_us, state.roles_changed_at, state.restart_token, state.restarted_at = progress[3:]
        state.chain = chain
        state.clients.load(clients)
        state._recompute_thresholds()
        return state


def encode_joiners(active: DomainId, passive: DomainId) -> bytes:
    """Return the payload of `ServerJoined`: the domains with which the server comes."""
    return msgspec.msgpack.encode((active, passive))
