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
    CellRestarted,
    ClientIssued,
    ConsentWanted,
    DomainFilled,
    Effect,
    MembershipChanged,
    ProgressMade,
    RepairRefused,
    RequestAccepted,
    RequestHeld,
    RequestRefused,
    RequestRepeated,
    RequestResolved,
    RestartWanted,
    RoundOpened,
    StateCompared,
    StateEnded,
    StateRefused,
    StateWanted,
)
from replica_manager.cell.entries import (
    DIGEST_INTERVAL,
    CellEntry,
    Consent,
    Convicted,
    Demote,
    DomainReady,
    Offer,
    OpenClient,
    PointClosed,
    Progress,
    Promote,
    RecoveryPoint,
    RepairPoint,
    Request,
    Resolve,
    RestartBegun,
    Restarted,
    Stalled,
    Stopped,
    Suspected,
    decode_entry,
)
from replica_manager.cell.poison import Poison
from replica_manager.cell.restarting import Restarting
from replica_manager.cell.roles import DomainRecord, Role, stability_threshold
from replica_manager.cell.rounds import Round, Rounds
from replica_manager.cell.state_points import CHECKPOINT, REPAIR, StatePoint, choose_donors
from replica_manager.identifiers import ClientId, DomainId, server_of
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
        self._table = DomainTable(self.members)
        self.clients = ClientTable(client_table_entries_max)
        self.rounds = Rounds()
        self.poison = Poison()
        self.state_point: StatePoint | None = None
        """The position at which domains are giving their state."""
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
        return self._table.records

    @property
    def next_generation(self) -> dict[int, int]:
        """The number of the next fresh domain of each server."""
        return self._table.next_generation

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
        return self._table.in_role(role)

    def domains_of(self, server: int) -> tuple[DomainRecord, ...]:
        """Return the domains of a server, by generation."""
        return self._table.of_server(server)

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
                return self._apply_progress(sequence, agreed.server, entry)
            case RecoveryPoint(token=token):
                return self._apply_checkpoint(sequence, token)
            case PointClosed(point=point, digests=digests):
                return self._apply_closed(point, digests)
            case Resolve() | Consent():
                return self._apply_resolve(agreed.server, entry)
            case _:
                return self._apply_fault_entry(sequence, entry)

    def _apply_fault_entry(self, sequence: int, entry: CellEntry) -> tuple[Effect, ...]:
        effects = self._judge_fault_entry(sequence, entry)
        # What follows from the entry itself, before anybody else can act on what it left.
        if effects:
            effects = (*effects, *self._table.retire_surplus(sequence))
            effects = (*effects, *self._maybe_open_round(sequence))
        if effects:
            self.roles_changed_at = sequence
        return effects

    def _judge_fault_entry(self, sequence: int, entry: CellEntry) -> tuple[Effect, ...]:
        match entry:
            case Stopped():
                return self._apply_stopped(sequence, entry)
            case Offer():
                return self._apply_offer(sequence, entry)
            case Stalled():
                return self._apply_stalled(sequence, entry)
            case Convicted():
                return self._apply_convicted(sequence, entry)
            case Suspected(domain=domain, reason=reason):
                record = self._table.present(domain)
                is_new = record is not None and not record.suspicion
                return (self._table.suspect(record, reason),) if record is not None and is_new else ()
            case Promote():
                return self._apply_promote(sequence, entry)
            case Demote():
                return self._apply_demote(sequence, entry)
            case RepairPoint():
                return self._apply_repair(sequence, entry)
            case DomainReady():
                return self._apply_ready(sequence, entry)
            case RestartBegun() | Restarted():
                return self._apply_restart(sequence, entry)
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

    def _apply_checkpoint(self, sequence: int, token: int) -> tuple[Effect, ...]:
        if self.state_point is not None:
            return (StateRefused(token, self.state_point.point),)
        donors = self.domains_in(Role.ACTIVE) + self.domains_in(Role.PASSIVE)
        names = tuple(sorted(record.domain for record in donors))
        self.state_point = StatePoint(sequence, CHECKPOINT, names, token)
        return (StateWanted(self.state_point),)

    def _apply_closed(self, point: int, digests: list[tuple[str, bytes]]) -> tuple[Effect, ...]:
        current = self.state_point
        if current is None or (current.point, current.kind) != (point, CHECKPOINT):
            return ()
        self.state_point = None
        return (StateCompared(point, current.token, tuple((name, digest) for name, digest in digests)),)

    def _apply_repair(self, sequence: int, entry: RepairPoint) -> tuple[Effect, ...]:
        """Begin to fill fresh domains; a further attempt of the same server takes the place of the one before.

        A checkpoint gives way: one domain that does not give its state would else keep every repair out, also its own.
        """
        if not self._table.may_begin(entry.domains):
            return (RepairRefused(tuple(entry.domains)),)
        host = int(server_of(DomainId(entry.domains[0])))
        former = self.state_point
        if former is not None and former.kind == REPAIR and former.host != host:
            return (RepairRefused(tuple(entry.domains)),)
        effects: list[Effect] = [] if former is None else [StateEnded(former.point)]
        if former is not None and former.kind == CHECKPOINT:
            effects.append(StateRefused(former.token, sequence))
        effects += self._table.begin(entry.domains, "to be filled", sequence)
        active, passive = self.domains_in(Role.ACTIVE), self.domains_in(Role.PASSIVE)
        donors = choose_donors(active, passive, self.threshold, host, entry.attempt)
        names = tuple(map(DomainId, entry.domains))
        self.state_point = StatePoint(sequence, REPAIR, donors, 0, names, host, entry.attempt)
        return (*effects, StateWanted(self.state_point))

    def _apply_ready(self, sequence: int, entry: DomainReady) -> tuple[Effect, ...]:
        record = self._table.present(entry.domain)
        if record is None or record.role is not Role.STARTING:
            return ()
        if not self._is_live(record.server):
            return (DomainFilled(record.domain), *self._release_point(record.domain))
        ready = self._table.change(record, Role.PASSIVE, "repaired", sequence)
        return (ready, *self._release_point(record.domain))

    def _release_point(self, domain: DomainId) -> tuple[Effect, ...]:
        """A fresh domain is filled or gone; when none is left the point has ended."""
        current = self.state_point
        if current is None or domain not in current.domains:
            return ()
        self.state_point = current.without(domain)
        return () if self.state_point is not None else (StateEnded(current.point),)

    def _apply_progress(self, sequence: int, server: int, entry: Progress) -> tuple[Effect, ...]:
        member = self.members.get(server)
        if member is None or not member.is_live:
            return ()
        member.stable = max(member.stable, entry.stable)
        member.durable = max(member.durable, entry.durable)
        self._recompute_progress()
        self.rounds.drop_through(self.stable_all)
        self.poison.drop_through(self.stable_all)
        self._table.forget_retired(self.stable_all)
        made = ProgressMade(server, self.stable_all, self.durable_all, entry.digest_position, entry.digest)
        # A round that was closed now may have been the one that looked for domains in place of those that stopped.
        return (made, *self._maybe_open_round(sequence))

    def _recompute_progress(self) -> None:
        live = [member for member in self.members.values() if member.is_live]
        self.stable_all = max(self.stable_all, min(member.stable for member in live))
        self.durable_all = max(self.durable_all, min(member.durable for member in live))

    # -- a cell that comes back from its disks -----------------------------------------------------------------

    def _apply_restart(self, sequence: int, entry: RestartBegun | Restarted) -> tuple[Effect, ...]:
        match entry:
            case RestartBegun(token=token):
                return self._begin_restart(sequence, token)
            case Restarted(domain=domain, cursor=cursor, token=token):
                current, record = self.restarting, self._table.present(domain)
                if current is None or current.token != token or record is None or not current.is_awaited(record.domain):
                    return ()
                current.note_back(record.domain, cursor)
                return tuple(self._conclude_restart(sequence))

    def _begin_restart(self, sequence: int, token: int) -> tuple[Effect, ...]:
        """Fresh domains that were not filled are given up; searches and states that were under way have ended."""
        if token <= self.restart_token:
            return ()
        self.restart_token = token
        effects: list[Effect] = []
        for record in self.domains_in(Role.STARTING):
            effects.append(self._table.change(record, Role.RETIRED, "the cell stopped before it was filled", sequence))
        if self.state_point is not None:
            effects.append(StateEnded(self.state_point.point))
            self.state_point = None
        self.rounds.current = None
        present = self.domains_in(Role.ACTIVE) + self.domains_in(Role.PASSIVE)
        self.restarting = Restarting(token, (record.domain for record in present))
        return (*effects, RestartWanted(token))

    def _conclude_restart(self, sequence: int) -> list[Effect]:
        current = self.restarting
        if current is None or not current.is_complete:
            return []
        self.restarting = None
        effects: list[Effect] = []
        for domain, _ in current.cursors:
            # All execute what is left of the log, so all are active until the planner sends some to sleep.
            effects.append(self._table.change(self.domains[domain], Role.ACTIVE, "back after a restart", sequence))
        return [*effects, CellRestarted(current.cursors, current.settled_through(self.threshold))]

    # -- faults ------------------------------------------------------------------------------------------------

    def _is_live(self, server: int) -> bool:
        member = self.members.get(server)
        return member is not None and member.is_live

    def _apply_stopped(self, sequence: int, entry: Stopped) -> tuple[Effect, ...]:
        record = self._table.present(entry.domain)
        if record is None:
            return ()
        # Votes that it gave while it ran keep counting: it is not convicted of anything.
        effects: list[Effect] = [self._table.change(record, Role.RETIRED, entry.reason, sequence)]
        effects += self._release_point(record.domain)
        if self.restarting is not None:
            self.restarting.note_gone(record.domain)
            effects += self._conclude_restart(sequence)
        if entry.at and self.poison.note_death(entry.at, self.f_prime):
            effects.append(RequestHeld(entry.at))
        return tuple(effects)

    def _apply_convicted(self, sequence: int, entry: Convicted) -> tuple[Effect, ...]:
        record = self.domains.get(DomainId(entry.domain))
        if record is None or not record.is_counted:
            return ()
        changed = self._table.convict(record, f"convicted: {entry.reason}", sequence)
        return (changed, *self._release_point(record.domain))

    def _apply_stalled(self, sequence: int, entry: Stalled) -> tuple[Effect, ...]:
        if entry.sequence <= self.stable_all or entry.count < 1 or self.rounds.is_void(entry):
            return ()
        effects: list[Effect] = []
        for record in self.domains_in(Role.ACTIVE):
            is_silent = entry.is_late and record.domain not in entry.contributed and record.since <= entry.seen
            if is_silent and not record.suspicion:
                effects.append(self._table.suspect(record, f"no vote on {entry.sequence} in time"))
        opened = self.rounds.open(entry.sequence, entry.count, sequence)
        effects.append(RoundOpened(opened.number, opened.count, entry.sequence, tuple(entry.contributed)))
        return tuple(effects)

    def _apply_offer(self, sequence: int, offer: Offer) -> tuple[Effect, ...]:
        record = self._table.present(offer.domain)
        if record is None or record.role is not Role.PASSIVE:
            return ()
        if not self.rounds.maybe_accept(offer.round_number, sequence):
            return ()
        return (self._table.change(record, Role.ACTIVE, f"offered in round {offer.round_number}", sequence),)

    def _is_overtaken(self, seen: int) -> bool:
        """Whether roles changed after what the proposer had seen (`L5`: two planners would else demote twice)."""
        return self.roles_changed_at > seen

    def _apply_promote(self, sequence: int, entry: Promote) -> tuple[Effect, ...]:
        record = self._table.present(entry.domain)
        if record is None or record.role is not Role.PASSIVE or self._is_overtaken(entry.seen):
            return ()
        return (self._table.change(record, Role.ACTIVE, "promoted", sequence),)

    def _apply_demote(self, sequence: int, entry: Demote) -> tuple[Effect, ...]:
        record = self._table.present(entry.domain)
        if record is None or record.role is not Role.ACTIVE or self._is_overtaken(entry.seen):
            return ()
        if len(self.domains_in(Role.ACTIVE)) <= self.threshold:
            return ()
        return (self._table.change(record, Role.PASSIVE, "demoted", sequence),)

    def _apply_resolve(self, server: int, entry: Resolve | Consent) -> tuple[Effect, ...]:
        match entry:
            case Resolve(sequence=sequence, action=action, token=token):
                return self._begin_resolving(sequence, action, token)
            case Consent(sequence=sequence, is_open=is_open, has_fresh_domain=has_fresh):
                if not self._is_live(server):
                    return ()
                refused = self.poison.consent(server, sequence, is_open=is_open, has_fresh_domain=has_fresh)
                if refused is not None:
                    return (RequestResolved(sequence, "skip", *refused),)
                return self._conclude_skips()

    def _begin_resolving(self, sequence: int, action: str, token: int) -> tuple[Effect, ...]:
        if not self.stable_all < sequence < self.sequence:
            return (RequestResolved(sequence, action, token, "it is not open"),)
        if action == "retry":
            self.poison.retry(sequence)
            return (RequestResolved(sequence, action, token, ""),)
        self.poison.begin_skipping(sequence, token)
        return (ConsentWanted(sequence),)

    def _conclude_skips(self) -> tuple[Effect, ...]:
        concluded = self.poison.conclude(self.live_servers)
        return tuple(RequestResolved(number, "skip", token, objection) for number, token, objection in concluded)

    def _maybe_open_round(self, sequence: int) -> tuple[Effect, ...]:
        """If fewer than `T` domains are active, look for more; unless the current round already does."""
        active = len(self.domains_in(Role.ACTIVE))
        missing = self.threshold - active
        if self.restarting is not None or missing <= 0 or not self.domains_in(Role.PASSIVE):
            return ()
        current = self.rounds.current
        if current is not None and current.opened_at == sequence:
            return ()
        if current is not None and current.count - current.accepted >= missing:
            return ()
        opened = self.rounds.open(0, missing, sequence)
        self.roles_changed_at = sequence
        return (RoundOpened(opened.number, missing),)

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
        effects: list[Effect] = list(self._table.leave(server, sequence))
        current = self.state_point
        if current is not None and current.host == server:
            self.state_point = None
            effects.append(StateEnded(current.point))
        if self.restarting is not None:
            for record in self.domains_of(server):
                self.restarting.note_gone(record.domain)
            effects += self._conclude_restart(sequence)
        self._recompute_thresholds()
        self._recompute_progress()
        self.roles_changed_at = sequence
        effects.append(MembershipChanged(self.live_servers, self.f_prime, self.threshold, server))
        return (*effects, *self._conclude_skips(), *self._maybe_open_round(sequence))

    def _apply_joined(self, sequence: int, server: int, incarnation: int, payload: bytes) -> tuple[Effect, ...]:
        active, passive = msgspec.msgpack.decode(payload, type=tuple[str, str])
        self.members[server] = MemberRecord(True, incarnation, stable=self.stable_all, durable=self.durable_all)
        effects: list[Effect] = list(self._table.join(server, active, passive, sequence))
        for name in (active, passive):
            effects += self._release_point(DomainId(name))
        self._recompute_thresholds()
        self.roles_changed_at = sequence
        effects.append(MembershipChanged(self.live_servers, self.f_prime, self.threshold, None))
        return (*effects, *self._maybe_open_round(sequence))

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
        ]
        settings = [self.f, self.clients.entries_max, self._clock_start_us]
        point = None if self.state_point is None else self.state_point.row()
        restarting = None if self.restarting is None else self.restarting.row()
        faults = [self._table.rows(), self.rounds.rows(), self.poison.rows(), point, restarting]
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
        table, rounds, poison, point, restarting = faults
        state._table = DomainTable.of_rows(table)
        state.rounds, state.poison = Rounds.of_rows(rounds), Poison.of_rows(poison)
        state.state_point = None if point is None else StatePoint.of_row(point)
        state.restarting = None if restarting is None else Restarting.of_row(restarting)
        state.stable_all, state.durable_all, state.last_timestamp_us = progress[:3]
        state.clock_offset_us, state.roles_changed_at, state.restart_token = progress[3:]
        state.chain = chain
        state.clients.load(clients)
        state._recompute_thresholds()
        return state


def encode_joiners(active: DomainId, passive: DomainId) -> bytes:
    """Return the payload of `ServerJoined`: the domains with which the server comes."""
    return msgspec.msgpack.encode((active, passive))
