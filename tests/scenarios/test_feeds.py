"""One feed per domain: a role change never moves a cursor; rounds find the domains that are missing.

Source: design sections 6, 7 and 7.1; `L1`, `L2`, `L5` and the low entries of its list of traps.
"""

import pytest

from agreement.messages import Entry, ServerLeft
from exec_wrapper.wire import NextPart, TakeState
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import CellEntry, Offer, Promote, Stalled, Stopped, encode_entry
from replica_manager.cell.roles import Role
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import Outcome, Submission
from replica_manager.manager_core import ManagerCore
from replica_manager.peer_messages import Position
from replica_manager.recovery.state_digests import StateReader
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink
from tests.simulation.cell.planted import SkipsAtActivation
from tests.simulation.fake_domain import FakeDomain

ACTIVE_0, PASSIVE_0 = DomainId("s0.g1"), DomainId("s0.g2")
ACTIVE_1, PASSIVE_1 = DomainId("s1.g1"), DomainId("s1.g2")


def kill(cell: LockstepCell, *domains: DomainId) -> None:
    for domain in domains:
        cell.cores[int(domain[1])].on_domain_gone(domain, "killed")
        cell.settle()


def outcomes(sink: RecordingSink) -> list[Outcome]:
    return [outcome for _, _, outcome, _ in sink.replies]


# -- L1 ----------------------------------------------------------------------------------------------------------


def replies_when_a_voter_dies_with_numbers_open(cell: LockstepCell, open_count: int) -> list[Outcome]:
    """L1, B and C: 1. `open_count` numbers wait for a1.  2. It dies.  3. A passive domain is activated above them."""
    sink = RecordingSink()
    clients = [cell.open_client(0, sink) for _ in range(open_count + 1)]
    for number in range(1, 8):
        cell.submit(0, sink, clients[0], number, b"append a x")
    before = len(sink.replies)
    cell.muted.add(ACTIVE_1)
    for client in clients[1:]:
        cell.submit(0, sink, client, 1, b"append a y")
    assert len(sink.replies) == before
    kill(cell, ACTIVE_1)
    return outcomes(sink)[before:]


@pytest.mark.parametrize("open_count", [1, 2, 20])
def test_l1_an_activated_domain_votes_on_numbers_that_were_open_before_it_was_active(open_count: int) -> None:
    """It starts at its cursor: updates up to the stable prefix, then requests."""
    cell = LockstepCell(1)
    assert replies_when_a_voter_dies_with_numbers_open(cell, open_count) == [Outcome.ANSWERED] * open_count
    activated = cell.domains[PASSIVE_0]
    assert activated.applied, "what was stable came as updates"
    assert len(activated.executed) == open_count
    assert activated.rows == cell.domains[ACTIVE_0].rows


def test_l1_planted_a_domain_that_is_active_from_its_activation_on_deadlocks_the_cell() -> None:
    """The scenario above finds it."""
    cell = LockstepCell(1)
    for core in cell.cores:
        core.__class__ = SkipsAtActivation
    assert replies_when_a_voter_dies_with_numbers_open(cell, 1) == []


def test_l1_a_the_domains_of_one_server_need_not_have_what_another_had_stable() -> None:
    """L1, A (f = 2): 1. a1 does not vote on r0.  2. p0 is activated and votes: server 0 has r0 stable; nothing leaves
    it any more.  3. Server 0 crashes, fenced: T = 2.  4. Another passive domain is activated, and must vote on r0.
    """
    cell = LockstepCell(2)
    sink, again = RecordingSink(), RecordingSink()
    client = cell.open_client(2, sink)
    cell.muted.add(ACTIVE_1)
    cell.is_lost = lambda sender, _receiver, _message: sender == 0
    cell.submit(2, sink, client, 1, b"append a x")
    at_0, at_2 = (cell.cores[server].requests.get(cell.sequence) for server in (0, 2))
    kill(cell, ACTIVE_1)
    assert at_0 is not None
    assert at_2 is not None
    assert (at_0.is_complete, at_2.is_complete) == (True, False)
    assert sink.replies == []
    cell.muted |= {ACTIVE_0, PASSIVE_0}
    cell.order_change(ServerLeft(0, True))
    cell.submit(2, again, client, 1, b"append a x")
    assert outcomes(again) == [Outcome.ANSWERED]
    for domain in (DomainId("s2.g1"), PASSIVE_1):
        assert cell.domains[domain].rows == {b"a": b"x"}


def outcomes_when_two_numbers_stall_in_the_wrong_order(manager: type[ManagerCore]) -> list[Outcome]:
    """L1, B (f = 1): a1 is silent, s and s+1 are open; some server orders Stalled(s+1) before Stalled(s)."""
    cell = LockstepCell(1, is_repairing=False)
    for core in cell.cores:
        core.__class__ = manager
    sink = RecordingSink()
    clients = [cell.open_client(0, sink) for _ in range(2)]
    cell.muted.add(ACTIVE_1)
    cell.pass_time(100)
    for client in clients:
        cell.submit(0, sink, client, 1, b"append a y")
    cell.order_entry(Stalled(cell.sequence, cell.sequence, [ACTIVE_0], 1, True))
    cell.pass_time(200)
    return outcomes(sink)


def test_l1_b_a_domain_activated_for_a_higher_number_answers_the_lower_one_too() -> None:
    """Its cursor decides where it starts, not the number that stalled."""
    assert outcomes_when_two_numbers_stall_in_the_wrong_order(ManagerCore) == [Outcome.ANSWERED] * 2


def test_l1_b_planted_a_domain_that_starts_where_it_was_activated_answers_neither() -> None:
    """The scenario above finds it."""
    assert outcomes_when_two_numbers_stall_in_the_wrong_order(SkipsAtActivation) == []


def outcomes_when_a_promotion_comes_between_a_number_and_its_voters_end(manager: type[ManagerCore]) -> list[Outcome]:
    """L1, C: 1. s waits for a1.  2. Promote(p0), above it.  3. a1 dies; no time passes."""
    cell = LockstepCell(1, is_repairing=False)
    for core in cell.cores:
        core.__class__ = manager
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.muted.add(ACTIVE_1)
    cell.submit(0, sink, client, 1, b"append a y")
    cell.order_entry(Promote(PASSIVE_0, cell.sequence))
    kill(cell, ACTIVE_1, PASSIVE_1)
    return outcomes(sink)


def test_l1_c_a_promoted_domain_answers_what_was_open_before_it() -> None:
    """A promotion moves no cursor."""
    assert outcomes_when_a_promotion_comes_between_a_number_and_its_voters_end(ManagerCore) == [Outcome.ANSWERED]


def test_l1_c_planted_a_promoted_domain_that_starts_above_leaves_it_open() -> None:
    """The scenario above finds it."""
    assert outcomes_when_a_promotion_comes_between_a_number_and_its_voters_end(SkipsAtActivation) == []


def test_l1_a_with_stalls_what_one_server_alone_had_stable_is_answered_after_its_crash() -> None:
    """L1, A (f = 2), the rounds opened by stalls: 1. a1 lies on r0; p0 is activated and votes: only server 0 learns
    that r0 is stable, nothing leaves it any more; the other managers are slow.  2. r1 is open too.  3. Server 0
    crashes, fenced: T = 2, and of r0 there is one vote against another.  4. A further round finds a domain whose
    cursor is at r0.
    """
    cell = LockstepCell(2, is_repairing=False)
    sink, again = RecordingSink(), RecordingSink()
    first, second = cell.open_client(2, sink), cell.open_client(2, sink)
    cell.domains[ACTIVE_1].rows[b"a"] = b"a lie"
    cell.pass_time(100)
    cell.is_lost = lambda sender, _receiver, message: sender == 0 and not isinstance(message, Position)
    for core in cell.cores[1:]:
        core.faults.look = lambda *_args: None  # type: ignore[method-assign]
    cell.submit(2, sink, first, 1, b"get a")
    cell.submit(2, sink, second, 1, b"append b x")
    assert PASSIVE_0 in {record.domain for record in cell.cores[2].cell.domains_in(Role.ACTIVE)}
    assert sink.replies == []
    for core in cell.cores[1:]:
        del core.faults.look
    cell.muted |= {ACTIVE_0, PASSIVE_0}
    cell.order_change(ServerLeft(0, True))
    cell.pass_time(2_000)
    cell.submit(2, again, first, 1, b"get a")
    cell.submit(2, again, second, 1, b"append b x")
    assert [(outcome, reply[-1:]) for _, _, outcome, reply in again.replies] == [
        (Outcome.ANSWERED, b""),
        (Outcome.ANSWERED, b"x"),
    ]


def test_votes_that_a_domain_gave_before_it_stopped_count() -> None:
    """Every vote counts, of every domain that is not convicted: it did nothing wrong by dying."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.muted.add(ACTIVE_0)
    cell.submit(0, sink, client, 1, b"append a x")
    kill(cell, ACTIVE_1, PASSIVE_1)
    assert outcomes(sink) == [Outcome.ANSWERED], "of a1, which is gone, and p0, which was activated"


# -- rounds ------------------------------------------------------------------------------------------------------


def apply(state: CellState, entry: CellEntry) -> list[str]:
    sequence = state.sequence + 1
    return [type(e).__name__ for e in state.apply(sequence, Entry(0, 1, sequence, encode_entry(entry)))]


def test_l5_the_entry_that_leaves_too_few_active_opens_the_round_itself() -> None:
    """No planner has to notice first; nobody else can shift the count in between."""
    state = CellState(2, 10)
    assert apply(state, Stopped("s0.g1", "killed", 0)) == ["RoleChanged", "RoundOpened"]
    assert state.round is not None
    assert state.round.count == 1


def test_a_passive_domain_that_stops_opens_no_round() -> None:
    """`T` domains are still active."""
    state = CellState(1, 10)
    assert apply(state, Stopped("s0.g2", "killed", 0)) == ["RoleChanged"]
    assert state.round is None


def test_l2_no_more_offers_are_accepted_than_are_missing_and_none_of_a_former_round() -> None:
    """Every server offers at once; all managers accept the same ones."""
    state = CellState(2, 10)
    apply(state, Stopped("s0.g1", "killed", 0))
    assert apply(state, Offer("s1.g2", 1, 0)) == ["RoleChanged"]
    assert apply(state, Offer("s2.g2", 1, 0)) == []
    apply(state, Stopped("s1.g1", "killed", 0))
    assert apply(state, Offer("s2.g2", 1, 0)) == [], "of the former round"
    assert apply(state, Offer("s1.g2", 2, 0)) == [], "active already"
    assert apply(state, Offer("s2.g2", 2, 0)) == ["RoleChanged"]
    active = {record.domain for record in state.domains_in(Role.ACTIVE)}
    assert active == {"s1.g2", "s2.g1", "s2.g2"}


def test_an_offer_of_a_server_that_left_is_void() -> None:
    """Its domains are retired for ever."""
    state = CellState(2, 10)
    apply(state, Stopped("s0.g1", "killed", 0))
    state.apply(2, ServerLeft(1, False))
    assert apply(state, Offer("s1.g2", 2, 0)) == []
    assert not state.is_counted(ACTIVE_1)


# -- frames ------------------------------------------------------------------------------------------------------


def test_updates_name_up_to_where_they_reach_across_read_only_requests_and_commands() -> None:
    """Low entry: numbers without effect leave gaps in a batch, and none in the feed."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, 61):
        cell.submit(0, sink, client, number, b"append a x" if number % 3 else b"get a")
        if number % 7 == 0:
            cell.open_client(1, RecordingSink())
    passive = cell.domains[PASSIVE_0]
    assert passive.cursor > passive.applied[-1]
    assert len(passive.applied) < passive.cursor - 2


def test_a_frame_that_does_not_follow_the_one_before_is_noticed() -> None:
    """Low entry: frames carry the previous number; a domain that missed one must not go on."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    cell.cores[0].feeds[ACTIVE_0].previous += 1
    with pytest.raises(AssertionError, match="gap"):
        cell.submit(0, sink, client, 2, b"append a x")


def test_the_state_at_a_point_is_that_before_it_however_much_is_under_way_behind() -> None:
    """Low entry: `TakeState(point)` is the state after every entry before the point, in every domain."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    clients = [cell.open_client(0, sink) for _ in range(6)]
    for client in clients[:3]:
        cell.cores[0].submit(sink, Submission(client, 1, b"append a x"), 10, bytes(16))
    cell.cores[0].order_checkpoint(7)
    for client in clients[3:]:
        cell.cores[0].submit(sink, Submission(client, 1, b"append a y"), 10, bytes(16))
    cell.settle()
    (point,) = {data["point"] for _, kind, data in cell.events if kind == "checkpoint_ordered"}
    assert isinstance(point, int)
    expected = FakeDomain("expected")
    expected.rows[b"a"] = b"xxx"
    expected.receive(TakeState(0, point, 1))
    reader = StateReader(point)
    for part in expected.receive(NextPart(9)):
        reader.take(part)  # type: ignore[arg-type]
    digests = cell.cores[1].board.digests(point)
    assert digests is not None
    assert len(digests) == 4
    assert set(digests.values()) == {reader.content_digest}
