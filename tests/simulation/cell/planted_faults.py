"""Rules of fault handling taken out, one at a time; see `planted`."""

from collections.abc import Callable, Iterator, Mapping

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.domain_table import DomainTable
from replica_manager.cell.effects import DomainSuspected, Effect, RoleChanged
from replica_manager.cell.entries import (
    CellEntry,
    Convicted,
    Demote,
    DomainReady,
    Promote,
    Stopped,
    encode_entry,
)
from replica_manager.cell.poison import Poison
from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import StatePoint
from replica_manager.core_output import CoreOutput, NamedEvent
from replica_manager.execution.feed import Feed
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.faults.fault_handling import FaultHandling
from replica_manager.faults.resolving import Resolving
from replica_manager.faults.watch import DomainWatch
from replica_manager.identifiers import DomainId
from replica_manager.manager_core import ManagerCore
from replica_manager.membership import Membership
from replica_manager.recovery.export import Export
from replica_manager.recovery.filling import Filling
from replica_manager.recovery.repair import Repair
from replica_manager.recovery.state_vote import StateVote
from replica_manager.updates.update_buffer import UpdateBuffer
from replica_manager.voting.catch_up import CatchUp
from replica_manager.voting.vote_count import Pending, VoteOutcome
from replica_manager.voting.voter import Contradiction
from tests.simulation.cell.canary import Canary, Plant, in_part
from tests.simulation.cell.options import Options
from tests.simulation.cell.server import SimulatedServer


class NeverStalls(FaultHandling):
    """Waits for votes for ever."""

    def _order_stalled(self, record: RequestRecord, is_late: bool, output: CoreOutput) -> None:
        """Order nothing."""


class NeverOffers(FaultHandling):
    """Keeps its sleepers to itself."""

    def _wants_offers(self) -> bool:
        return False


class IgnoresLies(FaultHandling):
    """Convicts nobody."""

    def on_contradiction(self, finding: Contradiction, output: CoreOutput) -> None:
        """Let it pass."""


class ActivatesWithoutNeed(FaultHandling):
    """Promotes a sleeper where nobody is missing."""

    def _plan(self, now_ms: int, output: CoreOutput) -> None:
        super()._plan(now_ms, output)
        clean = [record for record in self._cell.domains_in(Role.PASSIVE) if record.is_clean_passive]
        is_enough = len(self._cell.domains_in(Role.ACTIVE)) == self._cell.threshold
        if clean and is_enough and self._planned_at != self._cell.sequence:
            self._planned_at = self._cell.sequence
            output.proposals.append(encode_entry(Promote(clean[0].domain, self._cell.sequence)))


class DemotesBelowThreshold(FaultHandling):
    """Plans as if one domain less were enough."""

    def _plan(self, now_ms: int, output: CoreOutput) -> None:
        active = self._cell.domains_in(Role.ACTIVE)
        if len(active) == self._cell.threshold and self._planned_at != self._cell.sequence:
            self._planned_at = self._cell.sequence
            output.proposals.append(encode_entry(Demote(active[-1].domain, self._cell.sequence)))


class Unguarded(CellState):
    """A demotion is never void."""

    def _judge_fault_entry(self, sequence: int, entry: CellEntry) -> tuple[Effect, ...]:
        if not isinstance(entry, Demote):
            return super()._judge_fault_entry(sequence, entry)
        record = self.table.present(entry.domain)
        if record is None or record.role is not Role.ACTIVE:
            return ()
        return (self.table.change(record, Role.PASSIVE, "demoted", sequence),)


class KeepsSurplus(DomainTable):
    """Who was replaced stays."""

    def retire_surplus(self, position: int) -> Iterator[RoleChanged]:
        """Retire nobody."""
        return iter(())


class HoldsNothing(Poison):
    """However many domains a request kills."""

    def note_death(self, sequence: int, f_prime: int) -> bool:
        """Never mind."""
        return False


class FeedsHeld(Resolving):
    """Says that a request is held, and feeds it on."""

    def on_held(self, sequence: int, output: CoreOutput) -> None:
        """Say so."""
        output.events.append(NamedEvent("request_held", {"sequence": sequence}))


class ConvictsOnSuspicion(ManagerCore):
    """Late is guilty."""

    def _on_fault_effect(self, effect: Effect) -> None:
        super()._on_fault_effect(effect)
        if isinstance(effect, DomainSuspected):
            self._output.proposals.append(encode_entry(Convicted(effect.domain, 0, "late", self.cell.sequence)))


class GivesUpOnSuspicion(ManagerCore):
    """Late is dead."""

    def _on_fault_effect(self, effect: Effect) -> None:
        super()._on_fault_effect(effect)
        if isinstance(effect, DomainSuspected):
            self._output.proposals.append(encode_entry(Stopped(effect.domain, "late", self.cell.sequence)))


class Forgives(ManagerCore):
    """Notices what no domain may send, and goes on."""

    def _on_misuse(self, domain: DomainId, reason: str) -> None:
        self._event("domain_misbehaved", domain=domain, reason=reason)


class Stays(Membership):
    """A server without domains stays in the cell."""

    def maybe_leave(self, output: CoreOutput) -> None:
        """Stay."""


class WatchesNobody(DomainWatch):
    """Whatever domains owe."""

    def on_timer(self, now_ms: int, stall_limit_ms: int, output: CoreOutput) -> list[tuple[DomainId, str]]:
        """Look away."""
        return []


class NeverRepairs(Repair):
    """What is gone is gone."""

    def maybe_begin(self, now_ms: int, output: CoreOutput) -> None:
        """Begin nothing."""


class ReadyTooEarly(Repair):
    """Relies on a fresh domain while numbers before its state are open."""

    def _maybe_order_ready(self, output: CoreOutput) -> None:
        filling = self.filling
        if filling is not None and filling.is_set and not self._is_ready_ordered:
            self._is_ready_ordered = True
            output.proposals.append(encode_entry(DomainReady(filling.domain, filling.point, self._cell.sequence)))


class FirstState(StateVote):
    """One state is enough."""

    def judge(self, *_: object) -> VoteOutcome:
        """Take what is the longest so far."""
        first = max(self._given.values(), key=lambda given: len(given.parts))
        self.agreed[:], self.is_whole = first.parts, first.is_complete
        return Pending()

    def dissenters(self) -> list[DomainId]:
        """Nobody."""
        return []


class BelievesFirstState(Repair):
    """Fills with whatever state comes first."""

    def on_state_wanted(self, point: StatePoint, now_ms: int) -> None:
        """Plant `FirstState`."""
        super().on_state_wanted(point, now_ms)
        if self._vote is not None:
            self._vote.__class__ = FirstState


class ExportsFirstState(Export):
    """Writes whatever state comes first."""

    def on_state_wanted(self, point: StatePoint) -> None:
        """Plant `FirstState`."""
        super().on_state_wanted(point)
        if self._vote is not None:
            self._vote.__class__ = FirstState


class NeverCloses(Export):
    """Leaves its point open when the file is whole."""

    def _close_what_nobody_reads(self, output: CoreOutput) -> None:
        """Order nothing."""


class AnyPart(Filling):
    """Hands on whatever was read."""

    def take(self, index: int, data: bytes) -> bool:
        """Take it."""
        if self._handed <= index < self._asked and index not in self._arrived:
            self._arrived[index] = (self.is_whole and index == len(self._digests) - 1, data)
            self.moved += 1
        return True


class AcceptsAnyPart(Repair):
    """Checks no part."""

    def _new_filling(self, vote: StateVote) -> Filling:
        filling = super()._new_filling(vote)
        filling.__class__ = AnyPart
        return filling


class SaysNothingInRounds(FaultHandling):
    """Neither votes again nor what is stable."""

    def _send_again(self, effect: object, output: CoreOutput) -> None:
        """Send nothing."""


class HelpsNobodyEver(CatchUp):
    """Nothing is said twice."""

    def resend(self, server: int, requests: RequestLog, feeds: Mapping[DomainId, Feed], output: CoreOutput) -> None:
        """Send nothing."""

    def on_timer(
        self,
        now_ms: int,
        requests: RequestLog,
        buffer: UpdateBuffer,
        feeds: Mapping[DomainId, Feed],
        output: CoreOutput,
    ) -> None:
        """Send nothing."""


def say_nothing_twice(server: SimulatedServer) -> None:
    """Votes and notices that were lost stay lost."""
    server.core.faults.__class__ = SaysNothingInRounds
    server.core.catch_up.__class__ = HelpsNobodyEver


def plan_without_guards(server: SimulatedServer) -> None:
    """A planner that demotes too many, and a cell that lets it."""
    server.core.faults.__class__ = DemotesBelowThreshold
    server.core.cell.__class__ = Unguarded


def in_core(planted: type[ManagerCore]) -> Plant:
    """Plant in the composition itself."""

    def plant(server: SimulatedServer) -> None:
        server.core.__class__ = planted

    return plant


def in_cell(name: str, planted: type[object]) -> Plant:
    """Plant in a part of the cell state, on every server alike."""

    def plant(server: SimulatedServer) -> None:
        getattr(server.core.cell, name).__class__ = planted

    return plant


def has(kind: str) -> Callable[[Options], bool]:
    """Runs in which domains show this class of misbehaviour."""
    return lambda options: kind in options.kinds and options.domain_faults > 0


def _is_slow(options: Options) -> bool:
    return options.slow_domain > 10


def _is_lossy(options: Options) -> bool:
    return options.loss > 0


def _has_kills(options: Options) -> bool:
    return options.domain_kills > 0


def _has_many_with_bad_states(options: Options) -> bool:
    return has("states")(options) and _has_many(options) and options.latent_faults > 0


def _has_many(options: Options) -> bool:
    return options.domain_faults + options.domain_kills > 2


FAULT_CANARIES = {
    "never-stalls": Canary(in_part("faults", NeverStalls), "liveness|rest|can go on", has("silence")),
    "never-offers": Canary(in_part("faults", NeverOffers), "liveness|rest", has("votes")),
    "ignores-lies": Canary(in_part("faults", IgnoresLies), "liars are", has("votes")),
    "activates-without-need": Canary(in_part("faults", ActivatesWithoutNeed), "are active|quiet"),
    "plans-without-guards": Canary(plan_without_guards, "rest|liveness"),
    "keeps-surplus": Canary(in_cell("table", KeepsSurplus), "rest: .*suspected", has("silence")),
    "holds-nothing": Canary(in_cell("poison", HoldsNothing), "held", lambda options: options.is_poisoned),
    "feeds-held": Canary(in_part("resolving", FeedsHeld), "held", lambda options: options.is_poisoned),
    "convicts-on-suspicion": Canary(in_core(ConvictsOnSuspicion), "no conviction", _is_slow),
    "gives-up-on-suspicion": Canary(in_core(GivesUpOnSuspicion), "suspicion alone", _is_slow),
    "forgives": Canary(in_core(Forgives), "liars are", has("frames")),
    "stays-without-domains": Canary(
        in_part("membership", Stays), "rest", lambda options: options.domain_faults + options.domain_kills > 2
    ),
    "watches-nobody": Canary(in_part("watch", WatchesNobody), "rest|liveness", has("silence")),
    "never-repairs": Canary(
        in_part("repair", NeverRepairs), "no clean sleeper", lambda options: options.domain_kills > 0
    ),
    "ready-too-early": Canary(
        in_part("repair", ReadyTooEarly), "can go on|liveness|rest", lambda options: options.loss > 0
    ),
    "believes-first-state": Canary(
        in_part("repair", BelievesFirstState), "state|conviction", _has_many_with_bad_states
    ),
    "exports-first-state": Canary(
        in_part("export", ExportsFirstState),
        "exports: the file",
        lambda options: has("states")(options) and _has_many(options) and options.exports > 0,
    ),
    "never-closes-exports": Canary(
        in_part("export", NeverCloses), "rest|liveness", lambda options: not options.is_faulty and options.exports > 0
    ),
    "accepts-any-part": Canary(in_part("repair", AcceptsAnyPart), "state", lambda options: options.full_disks > 0),
    "says-nothing-twice": Canary(say_nothing_twice, "liveness|rest", _is_lossy),
}
