"""Back to normal: who is active, who leaves, and commands that come too late.

Source: design "Server crash, leave, join", "Back to normal"; `L3`, `L5`, `M13`, `S1` of its list of traps.
"""

from dataclasses import replace

import pytest

from agreement.messages import Entry, ServerLeft
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import Effect
from replica_manager.cell.entries import (
    CellEntry,
    Convicted,
    Demote,
    Offer,
    Promote,
    Stalled,
    Stopped,
    Suspected,
    encode_entry,
)
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput
from replica_manager.faults.role_plan import plan_roles
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import Outcome
from replica_manager.membership import Membership
from tests.replica_manager.lockstep_cell import FAULTS, FEED, LockstepCell, RecordingSink

ACTIVE_0, PASSIVE_0 = DomainId("s0.g1"), DomainId("s0.g2")
ACTIVE_1, PASSIVE_1 = DomainId("s1.g1"), DomainId("s1.g2")
ACTIVE_2, PASSIVE_2 = DomainId("s2.g1"), DomainId("s2.g2")


def kill(cell: LockstepCell, *domains: DomainId) -> None:
    for domain in domains:
        cell.cores[int(domain[1])].on_domain_gone(domain, "killed")
        cell.settle()


def active(state: CellState) -> set[str]:
    return {record.domain for record in state.domains_in(Role.ACTIVE)}


def apply(state: CellState, entry: CellEntry) -> tuple[Effect, ...]:
    sequence = state.sequence + 1
    return state.apply(sequence, Entry(0, 1, sequence, encode_entry(entry)))


# -- S1 ----------------------------------------------------------------------------------------------------------


def test_s1_two_bad_domains_on_one_server_are_two_faults_which_f_2_bears() -> None:
    """The bound counts faults, not servers; with f = 1 the same two would be beyond it."""
    cell = LockstepCell(2)
    for domain in (ACTIVE_0, PASSIVE_0):
        cell.domains[domain].rows[b"a"] = b"a lie"
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"get a")
    cell.pass_time(1_000)
    assert [(outcome, reply) for _, _, outcome, reply in sink.replies] == [(Outcome.ANSWERED, b"")]
    convicted = {record.domain for record in cell.cores[1].cell.domains.values() if not record.is_counted}
    assert convicted <= {ACTIVE_0, PASSIVE_0}
    assert ACTIVE_0 in convicted


# -- L3 ----------------------------------------------------------------------------------------------------------


class Stays(Membership):
    """Planted: `L3` taken out."""

    def maybe_leave(self, output: CoreOutput) -> None:
        """Stay, with nobody who could vote."""


def outcome_when_two_servers_lose_their_domains(membership: type[Membership]) -> list[Outcome]:
    """L3 (f = 2): the hypervisors of servers 0 and 1 are gone, their managers live: two faults."""
    cell = LockstepCell(2)
    for core in cell.cores:
        core.membership.__class__ = membership
    kill(cell, PASSIVE_0, ACTIVE_0, PASSIVE_1, ACTIVE_1)
    for server in cell.leaving:
        cell.order_change(ServerLeft(server, True))
    sink = RecordingSink()
    client = cell.open_client(2, sink)
    cell.submit(2, sink, client, 1, b"append a x")
    cell.pass_time(20_000)
    return [outcome for _, _, outcome, _ in sink.replies]


def test_l3_a_server_none_of_whose_domains_can_vote_leaves_and_the_others_go_on() -> None:
    """It counts as crashed: T follows."""
    assert outcome_when_two_servers_lose_their_domains(Membership) == [Outcome.ANSWERED]


def test_l3_planted_a_server_that_stays_without_domains_blocks_the_cell() -> None:
    """The scenario above finds it."""
    assert outcome_when_two_servers_lose_their_domains(Stays) == []


def test_l3_a_server_asks_once_and_only_when_its_last_domain_is_gone() -> None:
    """A fresh domain that boots cannot vote either."""
    cell = LockstepCell(1)
    fresh = DomainId("s0.g3")
    kill(cell, PASSIVE_0)
    cell.muted.add(fresh)
    cell.pass_time(500)
    assert cell.cores[0].cell.domains[fresh].role is Role.STARTING
    assert cell.leaving == []
    kill(cell, ACTIVE_0)
    cell.pass_time(5_000)
    assert cell.leaving == [0]


def test_l3_the_last_server_stays() -> None:
    """There is nobody whom its leaving would help."""
    cell = LockstepCell(1, is_repairing=False)
    cell.order_change(ServerLeft(0, True))
    kill(cell, PASSIVE_1, ACTIVE_1)
    assert cell.leaving == []


# -- L5 ----------------------------------------------------------------------------------------------------------


def state_with_one_too_many(kind: type[CellState] = CellState) -> CellState:
    """a0, a1 and p1 are active."""
    state = kind(1, 10)
    apply(state, Stalled(1, 0, ["s0.g1"], 1, True))
    apply(state, Offer(PASSIVE_1, 1, 1))
    assert active(state) == {ACTIVE_0, ACTIVE_1, PASSIVE_1}
    return state


class DemotesWhatIsAsked(CellState):
    """Planted: `L5` taken out: no guard."""

    def _judge_fault_entry(self, sequence: int, entry: CellEntry) -> tuple[Effect, ...]:
        if not isinstance(entry, Demote):
            return super()._judge_fault_entry(sequence, entry)
        record = self.domains[DomainId(entry.domain)]
        return (self.table.change(record, Role.PASSIVE, "demoted", sequence),)


def active_when_a_conviction_comes_before_a_demotion(state: CellState) -> int:
    """L5: 1. The planner orders Demote(p1).  2. Convicted(a0) is ordered first."""
    seen = state.sequence
    apply(state, Convicted(ACTIVE_0, 1, "differs", seen))
    apply(state, Demote(PASSIVE_1, seen))
    return len(active(state))


def test_l5_a_demotion_that_a_conviction_has_overtaken_is_void() -> None:
    """Else every request would stall until a round has ended."""
    assert active_when_a_conviction_comes_before_a_demotion(state_with_one_too_many()) == 2


def test_l5_planted_an_unguarded_demotion_leaves_too_few() -> None:
    """The scenario above finds it."""
    assert active_when_a_conviction_comes_before_a_demotion(state_with_one_too_many(DemotesWhatIsAsked)) == 1


def test_l5_a_demotion_in_time_is_carried_out_once() -> None:
    """Two planners, around a departure, order the same or another one: the second is void."""
    state = state_with_one_too_many()
    seen = state.sequence
    assert apply(state, Demote(PASSIVE_1, seen))
    assert apply(state, Demote(ACTIVE_1, seen)) == ()
    assert active(state) == {ACTIVE_0, ACTIVE_1}


def test_l5_no_demotion_below_the_threshold_however_much_its_proposer_has_seen() -> None:
    """The second guard."""
    state = CellState(1, 10)
    assert apply(state, Demote(ACTIVE_0, 0)) == ()
    assert len(active(state)) == 2


class PromotesWhatIsAsked(CellState):
    """Planted: what a proposer had seen does not matter."""

    def is_overtaken(self, seen: int) -> bool:
        return False


def active_after_two_planners(state: CellState) -> int:
    apply(state, Promote(PASSIVE_0, 0))
    apply(state, Promote(PASSIVE_1, 0))
    return len(active(state))


def test_l5_of_two_planners_promotions_one_counts() -> None:
    """Both wanted one more, and saw the same."""
    assert active_after_two_planners(CellState(1, 10)) == 3
    assert active_after_two_planners(PromotesWhatIsAsked(1, 10)) == 4, "planted: the guard taken out"


@pytest.mark.parametrize(
    "overtaking",
    [
        Stopped("s0.g2", "killed", 0),
        Convicted("s0.g2", 1, "differs", 0),
        Stalled(1, 0, ["s0.g1", "s1.g1"], 1, True),
        Suspected("s0.g2", "late", 0),
        Promote("s0.g2", 0),
        ServerLeft(0, False),
    ],
    ids=lambda entry: type(entry).__name__,
)
def test_l5_a_role_round_or_membership_entry_overtakes(overtaking: CellEntry | ServerLeft) -> None:
    """Void at or after `seen`; what the proposer had seen does not overtake."""
    for seen, is_void in ((0, True), (1, False)):
        state = CellState(1, 10)
        if isinstance(overtaking, ServerLeft):
            state.apply(1, overtaking)
        else:
            apply(state, overtaking)
        assert (apply(state, Promote(PASSIVE_1, seen)) == ()) is is_void


# -- back to normal, M13 -----------------------------------------------------------------------------------------


def test_after_a_fault_each_server_has_one_active_and_one_clean_passive_domain_again() -> None:
    """Suspected domains are demoted and replaced, in the end nothing is left of the fault."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.muted.add(ACTIVE_1)
    cell.pass_time(100)
    for number in range(1, 4):
        cell.submit(0, sink, client, number, b"append a x")
        cell.pass_time(500)
    for number in range(4, 30):
        cell.submit(0, sink, client, number, b"append a x")
        cell.pass_time(500)
    state = cell.cores[0].cell
    present = [record for record in state.domains.values() if record.role is not Role.RETIRED]
    assert sorted((record.server, record.role.value) for record in present) == [
        (0, "active"),
        (0, "passive"),
        (1, "active"),
        (1, "passive"),
    ]
    assert not any(record.suspicion for record in present)
    assert state.domains[ACTIVE_1].role is Role.RETIRED
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED] * 29


def test_m13_extra_active_domains_keep_a_silent_one_from_costing_a_stall() -> None:
    """`extra_active = 1`: the planner keeps T + 1."""
    cell = LockstepCell(1, FEED, replace(FAULTS, extra_active=1))
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.pass_time(2_000)
    state = cell.cores[0].cell
    assert len(active(state)) == 3
    cell.muted.add(ACTIVE_1)
    cell.submit(0, sink, client, 1, b"append a x")
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED], "no time has passed"
    cell.pass_time(10_000)
    assert state.domains[ACTIVE_1].role is not Role.ACTIVE, "suspected by its own manager, and replaced"
    assert cell.told("vote_stalled") == []
    assert plan_roles(state.domains_in(Role.ACTIVE), state.domains_in(Role.PASSIVE), 2, 1, None) is None


def test_m13_without_extra_ones_the_planner_keeps_as_many_as_the_threshold() -> None:
    """The scenario above with the setting taken out: the silent domain costs a stall."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.pass_time(2_000)
    cell.muted.add(ACTIVE_1)
    cell.submit(0, sink, client, 1, b"append a x")
    assert sink.replies == []


@pytest.mark.parametrize("is_kept", [False, True])
def test_m13_sleepers_may_be_kept_running(is_kept: bool) -> None:
    """`passive_mode = "running"`: no wake-up in a fault; they are fed updates alone all the same."""
    cell = LockstepCell(1, replace(FEED, is_passive_kept_running=is_kept))
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, 30):
        cell.submit(0, sink, client, number, b"append a x")
        cell.pass_time(50)
        assert cell.running[PASSIVE_0] is is_kept
    assert cell.domains[PASSIVE_0].applied
    assert cell.domains[PASSIVE_0].executed == []
