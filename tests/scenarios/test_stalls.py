"""When a vote counts as late, what is ordered then, and who answers.

Source: design "Noticing", "Stalled verification"; `M1`, `M2`, `M3`, `M11`, `L2`, `L5` of its list of traps.
"""

from collections.abc import Sequence

import pytest

from agreement.messages import Entry, ServerLeft
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import RoundOpened
from replica_manager.cell.entries import (
    CellEntry,
    Convicted,
    Offer,
    Progress,
    Stalled,
    Stopped,
    Suspected,
    encode_entry,
)
from replica_manager.cell.roles import Role
from replica_manager.cell.rounds import Rounds
from replica_manager.core_output import CoreOutput
from replica_manager.execution.request_log import RequestRecord
from replica_manager.faults.fault_handling import FaultHandling, FaultSettings
from replica_manager.faults.stall_clock import StallClock
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome
from replica_manager.peer_messages import StableNotice, Votes
from tests.replica_manager.lockstep_cell import FEED, LockstepCell, RecordingSink

ACTIVE_0, PASSIVE_0 = DomainId("s0.g1"), DomainId("s0.g2")
ACTIVE_1, PASSIVE_1 = DomainId("s1.g1"), DomainId("s1.g2")
ACTIVE_2, PASSIVE_2 = DomainId("s2.g1"), DomainId("s2.g2")
TICK_MS = 50
PATIENT = FaultSettings(stall_start_ms=250, stall_max_ms=5_000, offer_delay_ms=3)
HASTY = FaultSettings(stall_start_ms=250, stall_max_ms=5_000, offer_delay_ms=0)


def pass_time(cell: LockstepCell, ms: int) -> None:
    for _ in range(ms // TICK_MS):
        cell.tick(TICK_MS)


def told(cell: LockstepCell, kind: str, server: int | None = None) -> list[dict[str, object]]:
    return [data for sender, name, data in cell.events if name == kind and server in (None, sender)]


def outcomes(sink: RecordingSink) -> list[Outcome]:
    return [outcome for _, _, outcome, _ in sink.replies]


def with_clients(cell: LockstepCell, sink: RecordingSink, count: int) -> list[ClientId]:
    return [cell.open_client(0, sink) for _ in range(count)]


def suspected(cell: LockstepCell) -> set[str]:
    return {record.domain for record in cell.cores[0].cell.domains.values() if record.suspicion}


def roles(cell: LockstepCell, role: Role) -> set[str]:
    return {record.domain for record in cell.cores[0].cell.domains_in(role)}


# -- M1 ----------------------------------------------------------------------------------------------------------


class CountsFromDelivery(StallClock):
    """Planted: `M1` taken out: the limit counts from when the number was the lowest open one, voted on or not."""

    def watch(self, sequence: int, now_ms: int, *, has_vote: bool) -> None:
        super().watch(sequence, now_ms, has_vote=True)


def after_a_pause_under_load(cell: LockstepCell, clock: type[StallClock] = StallClock) -> RecordingSink:
    """M1: 90 requests are under way when the domains of every server get no CPU time for 300 ms."""
    for core in cell.cores:
        core.faults.clock.__class__ = clock
    sink = RecordingSink()
    clients = with_clients(cell, sink, 90)
    pass_time(cell, 100)
    cell.pause(ACTIVE_0, ACTIVE_1)
    for client in clients:
        cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 300)
    cell.proceed(ACTIVE_0, ACTIVE_1)
    return sink


def test_m1_one_pause_at_high_load_is_no_fault() -> None:
    """The clock runs once another domain has voted: nobody was late."""
    cell = LockstepCell(1)
    sink = after_a_pause_under_load(cell)
    assert outcomes(sink) == [Outcome.ANSWERED] * 90
    assert told(cell, "vote_stalled") == []
    assert suspected(cell) == set()
    assert roles(cell, Role.ACTIVE) == {ACTIVE_0, ACTIVE_1}


def test_m1_planted_a_clock_from_delivery_on_wakes_domains_on_overloaded_hosts() -> None:
    """The scenario above finds it."""
    cell = LockstepCell(1)
    after_a_pause_under_load(cell, CountsFromDelivery)
    assert told(cell, "vote_stalled")
    assert suspected(cell) == {ACTIVE_0, ACTIVE_1}


@pytest.mark.parametrize("silent", [ACTIVE_0, ACTIVE_1])
def test_m1_a_vote_that_stays_out_after_anothers_stalls_in_time(silent: DomainId) -> None:
    """The service goes on after the stall limit, not after `stall_max`; the silent one is suspected."""
    cell = LockstepCell(1, is_repairing=False)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted.add(silent)
    pass_time(cell, 100)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 200)
    assert told(cell, "vote_stalled") == []
    pass_time(cell, 150)
    assert outcomes(sink) == [Outcome.ANSWERED]
    assert suspected(cell) == {silent}


def test_l13_a_request_that_hangs_whoever_executes_it_is_held_and_the_sleepers_keep_their_state() -> None:
    """Nobody votes: no sleeper is fed it; those that hang are stopped at the execution limit."""
    cell = LockstepCell(2, is_repairing=False)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted |= {ACTIVE_0, ACTIVE_1, ACTIVE_2}
    pass_time(cell, 100)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 19_000)
    assert told(cell, "vote_stalled") == []
    pass_time(cell, 5_000)
    assert told(cell, "request_held")
    sleepers = (PASSIVE_0, PASSIVE_1, PASSIVE_2)
    assert [cell.domains[name].executed for name in sleepers] == [[], [], []]
    assert outcomes(sink) == []


class GoesOnAfterAPause(StallClock):
    """Planted: a manager's own pause counts."""

    def restart(self, now_ms: int) -> None:
        """Let it count."""


def after_a_pause_of_the_managers(cell: LockstepCell, clock: type[StallClock] = StallClock) -> RecordingSink:
    """1. a0's vote has come, a1's is on its way.  2. The managers get no CPU time for 400 ms.  3. All of it is handled
    in the order in which it came: the timer first.
    """
    for core in cell.cores:
        core.faults.clock.__class__ = clock
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    pass_time(cell, 100)
    cell.pause(ACTIVE_1)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 50)
    cell.tick(400)
    cell.proceed(ACTIVE_1)
    return sink


def test_m1_a_pause_of_the_manager_itself_restarts_the_clocks() -> None:
    """What it did not look at was not late."""
    cell = LockstepCell(1)
    assert outcomes(after_a_pause_of_the_managers(cell)) == [Outcome.ANSWERED]
    assert told(cell, "vote_stalled") == []


def test_m1_planted_a_clock_that_goes_on_after_a_pause_blames_the_domains() -> None:
    """The scenario above finds it."""
    cell = LockstepCell(1)
    after_a_pause_of_the_managers(cell, GoesOnAfterAPause)
    assert told(cell, "vote_stalled")


def test_the_time_that_a_stall_took_is_no_execution_time() -> None:
    """The limit follows what active domains need; a sleeper's vote comes late by the stall: counted, each fault would
    double the time that the next one takes."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted.add(ACTIVE_1)
    pass_time(cell, 100)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 350)
    assert outcomes(sink) == [Outcome.ANSWERED]
    assert {core.faults.clock.limit_ms for core in cell.cores} == {250}


def test_a_domain_that_is_always_slower_is_given_the_time_that_it_needs() -> None:
    """Adapted to what is observed: 200 ms behind the first vote make the limit 400 ms."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    for number, pause_ms in ((1, 200), (2, 300)):
        cell.pause(ACTIVE_1)
        cell.submit(0, sink, client, number, b"append a x")
        pass_time(cell, pause_ms)
        cell.proceed(ACTIVE_1)
    assert outcomes(sink) == [Outcome.ANSWERED] * 2
    assert told(cell, "vote_stalled") == []


# -- M2 ----------------------------------------------------------------------------------------------------------


class StallsEveryNumber(FaultHandling):
    """Planted: `M2` taken out: one `Stalled` for each open number."""

    def _order_stalled(self, record: RequestRecord, is_late: bool, output: CoreOutput) -> None:
        for other in self._requests.records(record.sequence):
            super()._order_stalled(other, is_late, output)


def stalls_of_many_open_numbers(cell: LockstepCell, handling: type[FaultHandling] = FaultHandling) -> int:
    for core in cell.cores:
        core.faults.__class__ = handling
    sink = RecordingSink()
    clients = with_clients(cell, sink, 40)
    cell.muted.add(ACTIVE_1)
    pass_time(cell, 100)
    for client in clients:
        cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 400)
    assert outcomes(sink) == [Outcome.ANSWERED] * 40
    return len(told(cell, "vote_stalled"))


def test_m2_one_stalled_stands_for_all_higher_numbers() -> None:
    """At most one of each server; none floods the order at the worst time."""
    assert 1 <= stalls_of_many_open_numbers(LockstepCell(1, is_repairing=False)) <= 2


def test_m2_planted_one_stalled_for_each_number_floods_the_order() -> None:
    """The scenario above finds it."""
    assert stalls_of_many_open_numbers(LockstepCell(1, is_repairing=False), StallsEveryNumber) >= 40


# -- M3 ----------------------------------------------------------------------------------------------------------


class WaitsForTheClock(FaultHandling):
    """Planted: `M3` taken out: divergence is left to the timeout."""

    def look(self, now_ms: int, output: CoreOutput) -> None:
        """Look only at what the clock says."""
        if self.clock.share(now_ms) >= 1:
            super().look(now_ms, output)


def outcomes_when_votes_diverge(
    cell: LockstepCell, liars: Sequence[DomainId], handling: type[FaultHandling] = FaultHandling
) -> list[Outcome]:
    """No time passes."""
    for core in cell.cores:
        core.faults.__class__ = handling
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    for liar in liars:
        cell.domains[liar].rows[b"a"] = b"a lie"
    cell.submit(0, sink, client, 1, b"get a")
    return outcomes(sink)


def test_m3_diverged_votes_stall_at_once() -> None:
    """No digest can reach T with the active domains: there is nothing to wait for."""
    assert outcomes_when_votes_diverge(LockstepCell(1), [ACTIVE_1]) == [Outcome.ANSWERED]


def test_m3_votes_that_diverge_again_open_the_next_round_at_once() -> None:
    """f = 2: a0's lie comes last, and p0, which is activated in the first round, lies as well."""
    cell = LockstepCell(2)
    cell.pause(ACTIVE_0)
    assert outcomes_when_votes_diverge(cell, [ACTIVE_0, PASSIVE_0]) == []
    cell.proceed(ACTIVE_0)
    assert [data["count"] for data in told(cell, "round_opened", server=0) if data["sequence"]] == [1, 1]
    assert {record.domain for record in cell.cores[0].cell.domains.values() if not record.is_counted} == {
        ACTIVE_0,
        PASSIVE_0,
    }


def test_m3_planted_diverged_votes_that_wait_for_a_clock_are_not_answered_at_once() -> None:
    """The scenarios above find it."""
    assert outcomes_when_votes_diverge(LockstepCell(1), [ACTIVE_1], WaitsForTheClock) == []


# -- L2 ----------------------------------------------------------------------------------------------------------


class TrustsWhoWasActivated(Rounds):
    """Planted: `L2` taken out: while an activated domain "will answer", no further round is opened."""

    def is_void(self, stalled: Stalled) -> bool:
        return bool(self._accepted_at) or super().is_void(stalled)


def outcomes_when_an_activated_domain_does_not_help(rounds: type[Rounds] = Rounds) -> list[Outcome]:
    """L2 (f = 2): 1. a0 is silent: two equal votes, one domain is asked for.  2. p0 is activated, and silent too."""
    cell = LockstepCell(2, FEED, PATIENT, is_repairing=False)
    for core in cell.cores:
        core.cell.rounds.__class__ = rounds
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted |= {ACTIVE_0, PASSIVE_0}
    pass_time(cell, 100)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 400)
    assert PASSIVE_0 in roles(cell, Role.ACTIVE)
    pass_time(cell, 4_000)
    return outcomes(sink)


def test_l2_the_second_round_is_not_blocked_by_who_was_activated_in_the_first() -> None:
    """Whether it helps is known only when it has voted."""
    assert outcomes_when_an_activated_domain_does_not_help() == [Outcome.ANSWERED]


def test_who_was_activated_has_time_to_wake_and_to_catch_up() -> None:
    """Else emulated machines, which need a second for that, are suspected one after the other."""
    cell = LockstepCell(1, is_repairing=False)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted.add(ACTIVE_1)
    pass_time(cell, 100)
    cell.pause(PASSIVE_1)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 1_500)
    assert PASSIVE_1 in roles(cell, Role.ACTIVE)
    assert suspected(cell) == {ACTIVE_1}
    cell.proceed(PASSIVE_1)
    pass_time(cell, 100)
    assert outcomes(sink) == [Outcome.ANSWERED]
    assert suspected(cell) <= {ACTIVE_1}


def test_l2_planted_a_round_that_waits_for_who_was_activated_blocks_the_cell() -> None:
    """The scenario above finds it."""
    assert outcomes_when_an_activated_domain_does_not_help(TrustsWhoWasActivated) == []


def state_with(entries: Sequence[CellEntry], f: int = 2) -> tuple[CellState, list[list[str]]]:
    state, effects = CellState(f, 10), []
    for entry in entries:
        effects.append(apply(state, entry))
    return state, effects


def apply(state: CellState, entry: CellEntry, server: int = 0) -> list[str]:
    sequence = state.sequence + 1
    agreed = Entry(server, 1, sequence, encode_entry(entry))
    return [type(effect).__name__ for effect in state.apply(sequence, agreed)]


def test_l2_every_server_orders_a_stalled_and_one_round_is_opened() -> None:
    """Void: a round for the same number was opened at a position that the proposer had not seen."""
    state, effects = state_with([Stalled(1, 0, ["s0.g1", "s1.g1"], 1, True) for _ in range(3)])
    assert [("RoundOpened" in names) for names in effects] == [True, False, False]
    assert state.domains[ACTIVE_2].suspicion


def test_l2_a_stalled_for_a_higher_number_is_void_after_an_offer_for_a_lower_one() -> None:
    """The domain activated for the lower number votes on the higher one too."""
    state, _ = state_with([Stalled(5, 0, [], 1, True), Offer("s0.g2", 1, 1)])
    assert apply(state, Stalled(6, 1, [], 1, True)) == []
    assert "RoundOpened" in apply(state, Stalled(4, 1, [], 1, True)), "but not on a lower one, perhaps"


def test_l2_who_was_activated_after_what_the_proposer_had_seen_is_not_suspected_by_it() -> None:
    """Roles at `seen`: it had no time to vote."""
    state, _ = state_with([Stalled(5, 0, ["s0.g1", "s1.g1", "s2.g1"], 1, True), Offer("s0.g2", 1, 1)])
    assert state.domains[PASSIVE_0].role is Role.ACTIVE
    apply(state, Stalled(4, 1, [], 1, True))
    assert {record.domain for record in state.domains.values() if record.suspicion} == {ACTIVE_0, ACTIVE_1, ACTIVE_2}


def test_a_stalled_for_what_every_server_has_stable_is_void() -> None:
    """Nobody needs a round for it; its votes are dropped."""
    state = CellState(1, 10)
    apply(state, Stopped("s0.g9", "nobody", 0))
    for server in (0, 1):
        apply(state, Progress(1, 1, 0, 0, b""), server)
    assert state.stable_all == 1
    assert apply(state, Stalled(1, 3, [], 1, True)) == []


class OffersAnyway(FaultHandling):
    """Planted: a server that has the number stable offers a domain, and tells nobody."""

    def on_round_opened(self, effect: RoundOpened, now_ms: int, output: CoreOutput) -> None:
        self._offer_due_ms = dict.fromkeys(self._feeds, now_ms)
        self.offer(now_ms, output)

    def _wants_offers(self) -> bool:
        return self._cell.round is not None and not self._cell.round.is_complete


def activations_when_another_server_has_it_stable(cell: LockstepCell, handling: type[FaultHandling]) -> int:
    """a0's vote has reached server 1, nothing reaches server 0."""
    for core in cell.cores:
        core.faults.__class__ = handling
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.is_lost = lambda sender, _receiver, message: sender == 1 and isinstance(message, Votes)
    pass_time(cell, 100)
    for core in cell.cores:
        core.catch_up.on_timer = lambda *_args: None  # type: ignore[method-assign]
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 300)
    assert outcomes(sink) == [Outcome.ANSWERED]
    return len(roles(cell, Role.ACTIVE)) - 2


def test_who_has_the_number_stable_says_so_and_no_domain_is_activated() -> None:
    """9.2: replica managers are trusted, so a notice ends the stall."""
    assert activations_when_another_server_has_it_stable(LockstepCell(1, FEED, PATIENT), FaultHandling) == 0


def test_planted_without_the_notice_a_domain_is_activated_for_nothing() -> None:
    """The scenario above finds it."""
    assert activations_when_another_server_has_it_stable(LockstepCell(1, FEED, PATIENT), OffersAnyway) == 1


# -- L5: too few are active ----------------------------------------------------------------------------------------


def test_l5_a_domain_that_stops_is_replaced_though_a_round_for_a_number_that_is_stable_by_now_is_open() -> None:
    """1. A round for s is opened.  2. s becomes stable by itself: nobody offers.  3. An active domain stops: the round
    is open still, so no other one is opened; whoever can offers in it.
    """
    cell = LockstepCell(1, is_repairing=False)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.is_lost = lambda _sender, _receiver, message: isinstance(message, Votes | StableNotice)
    cell.submit(0, sink, client, 1, b"append a x")
    for core in cell.cores:
        core.faults.offer = lambda *_args: None  # type: ignore[method-assign]
    sequence = cell.cores[0].requests.last
    cell.order.append(Entry(0, 1, 99, encode_entry(Stalled(sequence, sequence, [ACTIVE_0], 1, True))))
    cell.settle()
    for core in cell.cores:
        del core.faults.offer
    cell.is_lost = lambda *_: False
    for server in (0, 1):
        cell.cores[server].on_peer_up(1 - server)
    cell.settle()
    assert outcomes(sink) == [Outcome.ANSWERED]
    assert roles(cell, Role.ACTIVE) == {ACTIVE_0, ACTIVE_1}
    assert cell.cores[0].cell.round is not None
    cell.cores[1].on_domain_gone(ACTIVE_1, "killed")
    cell.settle()
    cell.tick(1)
    assert len(roles(cell, Role.ACTIVE)) == 2


def test_l5_progress_that_closes_the_round_opens_another_one_while_too_few_are_active() -> None:
    """The offers that were on their way for the closed one are void."""
    state, _ = state_with([Stalled(1, 0, ["s0.g1", "s1.g1"], 1, True), Stopped("s0.g1", "killed", 0)], f=1)
    assert len(state.domains_in(Role.ACTIVE)) == 1
    apply(state, Progress(1, 1, 0, 0, b""), 0)
    assert apply(state, Progress(1, 1, 0, 0, b""), 1) == ["ProgressMade", "RoundOpened"]
    assert state.round is not None
    assert apply(state, Offer("s0.g2", state.round.number, 0)) == ["RoleChanged"]


def test_l5_every_entry_that_leaves_too_few_active_opens_a_round() -> None:
    """`Stopped`, `Convicted`, `ServerLeft`: with count T - active."""
    for entry in (Stopped("s0.g1", "killed", 0), Convicted("s0.g1", 1, "differs", 0)):
        state, effects = state_with([entry])
        assert effects[0][-1] == "RoundOpened"
        assert state.round is not None
        assert state.round.count == 1
    state = CellState(2, 10)
    assert type(state.apply(1, ServerLeft(0, False))[-1]) is RoundOpened
    assert state.threshold == 3


# -- M11 ---------------------------------------------------------------------------------------------------------


def server_that_helps(settings: FaultSettings) -> int:
    """a1 is silent: server 0's active domain has contributed, and server 0 hears of the round first."""
    cell = LockstepCell(1, FEED, settings, is_repairing=False)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted.add(ACTIVE_1)
    pass_time(cell, 100)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 350)
    assert outcomes(sink) == [Outcome.ANSWERED]
    (helper,) = roles(cell, Role.ACTIVE) - {ACTIVE_0, ACTIVE_1}
    return int(helper[1])


def test_m11_a_server_whose_active_domain_has_contributed_lets_others_offer_first() -> None:
    """Two active domains on the busiest host would have to be moved apart again."""
    assert server_that_helps(PATIENT) == 1


def test_m11_planted_without_the_delay_the_first_one_wins() -> None:
    """The scenario above finds it."""
    assert server_that_helps(HASTY) == 0


def test_m11_when_nobody_else_can_it_offers_after_the_delay() -> None:
    """The delay is a courtesy, no refusal."""
    cell = LockstepCell(1, FEED, PATIENT, is_repairing=False)
    cell.cores[1].on_domain_gone(PASSIVE_1, "killed")
    cell.settle()
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted.add(ACTIVE_1)
    pass_time(cell, 100)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 300)
    assert outcomes(sink) == []
    due_ms = cell.cores[0].next_due_ms()
    assert due_ms == cell.now_ms + 3
    cell.tick(3)
    assert outcomes(sink) == [Outcome.ANSWERED]


def test_m11_sleepers_are_woken_and_fed_at_half_the_limit() -> None:
    """In parallel with ordering: when the offer is accepted the domain is awake and nearly there."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client, other = with_clients(cell, sink, 2)
    cell.submit(0, sink, other, 1, b"append b x")
    cell.muted.add(ACTIVE_1)
    pass_time(cell, 100)
    cell.submit(0, sink, client, 1, b"append a x")
    assert not cell.running[PASSIVE_0]
    pass_time(cell, 200)
    assert told(cell, "vote_stalled") == []
    for sleeper in (PASSIVE_0, PASSIVE_1):
        assert cell.running[sleeper]
        assert cell.domains[sleeper].rows == {b"b": b"x"}
    cell.muted.clear()


def test_m11_who_was_woken_for_nothing_sleeps_again() -> None:
    """The vote came in time after all."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    pass_time(cell, 100)
    cell.pause(ACTIVE_1)
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 200)
    assert cell.running[PASSIVE_0]
    cell.proceed(ACTIVE_1)
    pass_time(cell, 100)
    assert not cell.running[PASSIVE_0]
    assert not cell.running[PASSIVE_1]


def cell_whose_sleeper_on_server_0_is_suspected() -> tuple[LockstepCell, RecordingSink]:
    """a1 is silent, and a request is open."""
    cell = LockstepCell(1, is_repairing=False)
    cell.order_entry(Suspected(PASSIVE_0, "late", 0))
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted.add(ACTIVE_1)
    pass_time(cell, 100)
    cell.submit(0, sink, client, 1, b"append a x")
    return cell, sink


def test_a_suspected_sleeper_is_offered_only_when_no_other_came_forward_and_in_the_same_round() -> None:
    """Better than none.  Here the manager with the clean one is slow."""
    cell, sink = cell_whose_sleeper_on_server_0_is_suspected()
    cell.cores[1].faults.offer = lambda *_args: None  # type: ignore[method-assign]
    pass_time(cell, 350)
    assert outcomes(sink) == []
    pass_time(cell, 150)
    assert len({data["round"] for data in told(cell, "round_opened")}) == 1
    assert outcomes(sink) == [Outcome.ANSWERED]
    assert PASSIVE_0 in roles(cell, Role.ACTIVE)


def test_a_clean_sleeper_is_taken_before_a_suspected_one() -> None:
    """Whichever server hears of the round first."""
    cell, sink = cell_whose_sleeper_on_server_0_is_suspected()
    pass_time(cell, 350)
    assert outcomes(sink) == [Outcome.ANSWERED]
    assert roles(cell, Role.ACTIVE) == {ACTIVE_0, ACTIVE_1, PASSIVE_1}


def test_who_was_activated_for_a_stalled_number_stays_until_it_could_vote() -> None:
    """A machine may take longer to wake and to execute than roles are quiet before the planner's next step."""
    cell = LockstepCell(1, is_repairing=False)
    sink = RecordingSink()
    (client,) = with_clients(cell, sink, 1)
    cell.muted.update((ACTIVE_1, PASSIVE_0, PASSIVE_1))
    cell.submit(0, sink, client, 1, b"append a x")
    pass_time(cell, 5_000)
    assert told(cell, "round_opened")
    assert [data for data in told(cell, "role_planned") if data["to"] == "passive"] == []
    assert roles(cell, Role.ACTIVE) >= {ACTIVE_0, ACTIVE_1, PASSIVE_0}
