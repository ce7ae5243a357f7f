"""Every domain is replaced by a fresh one from a clean image while clients notice nothing, whatever goes wrong.

Source: SPARE §4.5; design "Proactive recovery"; `L6`, `L10` (b) of its list of traps.
"""

import pytest

from agreement.changes import ServerLeft
from exec_wrapper.wire import FromWrapper, StatePart, ToWrapper
from replica_manager.cell.recoveries import BOOTS_MAX, LIGHTWEIGHT, RESILIENT
from replica_manager.cell.roles import Role
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import Outcome
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink
from tests.simulation.fake_domain import FakeDomain

ROWS = 100
"""Thirteen parts: more than are in flight."""
OLD = [DomainId(f"s{server}.g{generation}") for server in (0, 1) for generation in (1, 2)]
ACTIVE_0, PASSIVE_0, ACTIVE_1, PASSIVE_1 = OLD
NEXT_0, NEXT_1 = DomainId("s0.g3"), DomainId("s1.g3")


def stored(cell: LockstepCell | None = None) -> LockstepCell:
    """A cell with some state."""
    cell = cell or LockstepCell()
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(ROWS):
        cell.submit(0, sink, client, number + 1, b"set key-%03d value" % number)
    return cell


def recover(cell: LockstepCell, kind: str = LIGHTWEIGHT, ms: int = 20_000) -> None:
    """Have an operator ask for a recovery, and let time pass."""
    cell.cores[0].order_recovery(kind, 7)
    cell.pass_time(ms)


def roles(cell: LockstepCell) -> dict[DomainId, Role]:
    """Return the roles of those that are not retired."""
    records = cell.cores[-1].cell.domains.values()
    return {record.domain: record.role for record in records if record.role is not Role.RETIRED}


def outcomes(cell: LockstepCell) -> list[tuple[str, object, object]]:
    """Return kind, servers renewed and servers given up of every recovery that has ended, as server 0 saw it."""
    return [
        (str(data["recovery"]), data["renewed"], data["given_up"])
        for server, kind, data in cell.events
        if server == 0 and kind in ("recovery_complete", "recovery_incomplete")
    ]


def donors(cell: LockstepCell) -> list[object]:
    """Return who gave its state at each recovery point."""
    return [data["donors"] for server, kind, data in cell.events if server == 0 and kind == "recovery_ordered"]


def serves(cell: LockstepCell) -> bool:
    sink = RecordingSink()
    for server in range(len(cell.cores)):
        client = cell.open_client(server, sink)
        cell.submit(server, sink, client, 1, b"append key-001 !")
    return [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED] * len(cell.cores)


def assert_renewed(cell: LockstepCell, *, rows: int = ROWS) -> None:
    """Redundancy is whole, all states are equal, and the cell serves."""
    present = roles(cell)
    assert sorted(role.value for role in present.values()) == ["active", "active", "passive", "passive"]
    assert serves(cell)
    cell.cores[0].order_checkpoint(99)
    cell.pass_time(3_000)
    states = [cell.domains[domain].rows for domain in present]
    assert states == states[:1] * len(states)
    assert len(states[0]) >= rows


# -- the two mechanisms --------------------------------------------------------------------------------------------


def test_sleepers_take_over_and_fresh_domains_sleep_in_their_place() -> None:
    """Lightweight: active domains give no state, and are gone at the end."""
    cell = stored()
    recover(cell)
    assert outcomes(cell) == [(LIGHTWEIGHT, [0, 1], {})]
    assert donors(cell) == [[PASSIVE_0, PASSIVE_1]]
    assert roles(cell) == {
        PASSIVE_0: Role.ACTIVE,
        PASSIVE_1: Role.ACTIVE,
        NEXT_0: Role.PASSIVE,
        NEXT_1: Role.PASSIVE,
    }
    assert_renewed(cell)


def test_every_domain_of_the_beginning_is_gone_after_two_recoveries_and_their_disks_with_them() -> None:
    cell = stored()
    recover(cell)
    assert serves(cell)
    recover(cell)
    assert not set(OLD) & set(roles(cell))
    assert {domain for domain, action in cell.power_actions if action.value == "destroy"} == set(OLD)
    assert all(domain not in core.feeds for core in cell.cores for domain in OLD)
    assert_renewed(cell)


def test_active_domains_give_their_state_too_in_a_resilient_one() -> None:
    cell = stored()
    recover(cell, RESILIENT)
    assert outcomes(cell) == [(RESILIENT, [0, 1], {})]
    assert donors(cell) == [OLD]
    assert_renewed(cell)


def test_requests_are_answered_at_every_moment_of_a_recovery() -> None:
    """Nobody waits for it: each is answered before the next tick."""
    cell = stored()
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.cores[0].order_recovery(LIGHTWEIGHT, 7)
    number = 0
    while not outcomes(cell):
        number += 1
        assert number < 1000
        cell.submit(1, sink, client, number, b"append key-%03d +" % (number % ROWS))
        assert len(sink.replies) == number
        cell.tick(50)
    assert_renewed(cell)


def test_a_cell_without_requests_is_renewed_too() -> None:
    """Not even an old domain's successor needs one to show that it can vote."""
    cell = LockstepCell()
    recover(cell)
    assert outcomes(cell) == [(LIGHTWEIGHT, [0, 1], {})]
    assert_renewed(cell, rows=0)


def test_servers_switch_one_after_the_other() -> None:
    """At no time do two old domains wait for their end."""
    cell = stored()
    cell.cores[0].order_recovery(LIGHTWEIGHT, 7)
    most = 0
    for _ in range(400):
        cell.tick(50)
        current = cell.cores[0].cell.recoveries.current
        most = max(most, 0 if current is None else len(current.leaving))
    assert outcomes(cell)
    assert most <= 1


def test_an_old_domain_stays_until_its_successor_can_do_without_it() -> None:
    """The successor has no CPU time yet: the old one goes on answering."""
    cell = stored()
    cell.pause(PASSIVE_0)
    recover(cell, ms=5_000)
    assert roles(cell)[ACTIVE_0] is Role.ACTIVE
    assert serves(cell)
    cell.proceed(PASSIVE_0)
    cell.pass_time(10_000)
    assert ACTIVE_0 not in roles(cell)
    assert_renewed(cell)


# -- corruption that nobody has noticed ------------------------------------------------------------------------------


def corrupt(cell: LockstepCell, domain: DomainId) -> None:
    """A row changes behind the service's back."""
    cell.domains[domain].rows[b"key-050"] = b"rotten"


def convicted(cell: LockstepCell) -> set[object]:
    return {data["domain"] for data in cell.told("role_changed") if str(data["reason"]).startswith("convicted")}


def test_a_corrupt_sleeper_is_found_and_named_by_the_recovery_that_follows_an_aborted_one() -> None:
    """f + 1 sleepers that differ cannot say who is wrong; 2f + 2 domains can."""
    cell = stored()
    cell.cores[0].order_checkpoint(1)
    cell.pass_time(1_000)
    corrupt(cell, PASSIVE_1)
    recover(cell, ms=40_000)
    assert [kind for kind, _, _ in outcomes(cell)][:2] == [LIGHTWEIGHT, RESILIENT]
    assert convicted(cell) == {PASSIVE_1}
    assert PASSIVE_1 not in roles(cell)
    assert_renewed(cell)


def test_l10_a_domain_whose_state_lost_the_vote_is_never_made_active() -> None:
    """The next generation takes the convicted one's place, and the active domain, whose state was right, stays."""
    cell = stored()
    cell.cores[0].order_checkpoint(1)
    cell.pass_time(1_000)
    corrupt(cell, PASSIVE_0)
    recover(cell, RESILIENT)
    assert convicted(cell) == {PASSIVE_0}
    assert roles(cell)[ACTIVE_0] is Role.ACTIVE
    assert all(data["domain"] != PASSIVE_0 for data in cell.told("role_changed") if data["role"] == "active")
    assert_renewed(cell)


def test_a_corrupt_active_domain_goes_unnoticed_with_its_disk_in_a_lightweight_recovery() -> None:
    cell = stored()
    corrupt(cell, ACTIVE_1)
    recover(cell)
    assert convicted(cell) == set()
    assert ACTIVE_1 not in roles(cell)
    assert_renewed(cell)


def test_a_corrupt_active_domain_is_found_and_named_by_a_resilient_recovery() -> None:
    cell = stored()
    corrupt(cell, ACTIVE_1)
    recover(cell, RESILIENT)
    assert convicted(cell) == {ACTIVE_1}
    assert_renewed(cell)


class EndsEarly(FakeDomain):
    """Says after two parts that its state is complete."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        """Truncate."""
        answers = super().receive(frame)
        for index, answer in enumerate(answers):
            if isinstance(answer, StatePart) and answer.index >= 2:
                return [*answers[:index], StatePart(answer.point, answer.index, True, answer.data)]
        return answers


class StallsHalfWay(FakeDomain):
    """Gives no part after the second one."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        """Fall silent."""
        return [one for one in super().receive(frame) if not (isinstance(one, StatePart) and one.index >= 2)]


class NeverEnds(FakeDomain):
    """Never says that its state is complete."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        """Go on and on."""
        answers = super().receive(frame)
        parts = [one for one in answers if isinstance(one, StatePart)]
        if not parts:
            return answers
        return [StatePart(part.point, part.index, False, part.data or b"more") for part in parts]


@pytest.mark.slow
@pytest.mark.parametrize("planted", [EndsEarly, StallsHalfWay, NeverEnds])
@pytest.mark.parametrize("faulty", [PASSIVE_0, PASSIVE_1, ACTIVE_1])
@pytest.mark.parametrize("kind", [LIGHTWEIGHT, RESILIENT])
def test_the_cell_is_clean_after_a_domain_that_gives_a_wrong_state(
    kind: str, faulty: DomainId, planted: type[FakeDomain]
) -> None:
    """Parts that end early, half-way, or never: whoever gives them is gone, and all others are renewed or right."""
    cell = stored()
    cell.domains[faulty].__class__ = planted
    recover(cell, kind, ms=150_000)
    assert faulty not in roles(cell)
    assert cell.cores[0].cell.recoveries.current is None
    assert convicted(cell) <= {faulty}
    assert_renewed(cell)


# -- next generations that fail --------------------------------------------------------------------------------------


def test_a_next_generation_that_does_not_boot_is_tried_again() -> None:
    cell = stored()
    failures = [NEXT_1]
    cell.fresh_domain = lambda domain: None if domain in failures else FakeDomain(domain)
    recover(cell, ms=30_000)
    assert outcomes(cell) == [(LIGHTWEIGHT, [0, 1], {})]
    assert DomainId("s1.g4") in roles(cell)
    assert_renewed(cell)


def test_a_recovery_goes_on_without_a_server_whose_next_generations_all_end() -> None:
    """The others are renewed; a recovery that follows renews it when its machine boots again."""
    cell = stored()
    cell.fresh_domain = lambda domain: None if domain.startswith("s1") else FakeDomain(domain)
    recover(cell, ms=700_000)
    assert [renewed for _, renewed, _ in outcomes(cell)][:1] == [[0]]
    cell.fresh_domain = FakeDomain
    cell.pass_time(200_000)
    assert_renewed(cell)


def test_no_more_next_generations_are_tried_than_allowed() -> None:
    """Each that said Hello and ended counts."""
    cell = stored()
    cell.cores[0].order_recovery(LIGHTWEIGHT, 7)
    ended = 0
    for _ in range(2_000):
        cell.tick(50)
        current = cell.cores[0].cell.recoveries.current
        renewal = None if current is None else current.of_server(1)
        if outcomes(cell):
            break
        if renewal is not None and renewal.fresh:
            ended += 1
            cell.cores[1].on_domain_gone(DomainId(renewal.fresh), "killed")
            cell.settle()
    assert outcomes(cell)[0][1] == [0]
    assert ended == BOOTS_MAX


def test_a_recovery_that_is_asked_for_while_one_is_under_way_is_refused() -> None:
    """The operator is told by the token."""
    cell = stored()
    cell.cores[0].order_recovery(LIGHTWEIGHT, 7)
    cell.settle()
    cell.cores[1].order_recovery(RESILIENT, 8)
    cell.pass_time(20_000)
    assert [data["token"] for data in cell.told("recovery_refused")] == [8, 8]
    assert len(outcomes(cell)) == 1


# -- what decides ----------------------------------------------------------------------------------------------------


def test_l10_a_donor_that_has_not_given_its_state_is_waited_for_and_never_made_active_unproven() -> None:
    """Enough others agree; this one may still turn out to be wrong, and is: no `Switch` before that."""
    cell = stored()
    cell.cores[0].order_checkpoint(1)
    cell.pass_time(1_000)
    corrupt(cell, PASSIVE_0)
    cell.pause(PASSIVE_0)
    recover(cell, RESILIENT, ms=5_000)
    assert roles(cell)[NEXT_0] is Role.STARTING, "it holds the agreed state and waits"
    assert roles(cell)[ACTIVE_0] is Role.ACTIVE
    cell.proceed(PASSIVE_0)
    cell.pass_time(20_000)
    assert convicted(cell) == {PASSIVE_0}
    assert all(data["domain"] != PASSIVE_0 for data in cell.told("role_changed") if data["role"] == "active")
    assert_renewed(cell)


def test_a_donor_that_never_gives_its_state_is_suspected_and_replaced_first() -> None:
    """It gets no proof, and no role either."""
    cell = stored()
    cell.cores[0].order_checkpoint(1)
    cell.pass_time(1_000)
    cell.muted.add(PASSIVE_0)
    recover(cell, RESILIENT, ms=60_000)
    assert convicted(cell) == set()
    assert PASSIVE_0 not in roles(cell)
    assert all(data["domain"] != PASSIVE_0 for data in cell.told("role_changed") if data["role"] == "active")
    assert_renewed(cell)


def test_sleepers_of_which_one_was_active_do_not_suffice() -> None:
    """Its state is what it executed, not what was voted on: the recovery that was to be lightweight compares all."""
    cell = stored()
    cell.cores[0].order_activation(PASSIVE_0)
    cell.settle()
    assert serves(cell)
    cell.pass_time(5_000)
    demoted = next(domain for domain, role in roles(cell).items() if role is Role.PASSIVE and domain.startswith("s0"))
    was_active = cell.cores[0].cell.domains[demoted].was_active
    recover(cell)
    assert was_active
    assert outcomes(cell) == [(RESILIENT, [0, 1], {})]
    assert_renewed(cell)


def test_a_cell_with_one_server_left_renews_it_with_its_own_states_alone_if_they_are_enough() -> None:
    """Its sleeper alone is fewer than the votes that are needed."""
    cell = stored()
    cell.order_change(ServerLeft(1, False))
    cell.pass_time(2_000)
    recover(cell)
    assert [kind for kind, _, _ in outcomes(cell)][-1:] == [RESILIENT]
    present = {domain: role for domain, role in roles(cell).items() if domain.startswith("s0")}
    assert sorted(role.value for role in present.values()).count("passive") == 1


def test_a_recovery_whose_donors_take_long_is_not_taken_for_a_server_that_has_vanished() -> None:
    """Nobody is about to join: its next generations are those of live servers."""
    cell = stored()
    cell.pause(PASSIVE_0)
    recover(cell, ms=15_000)
    assert not [data for data in cell.told("role_changed") if "vanished" in str(data["reason"])]
    cell.proceed(PASSIVE_0)
    cell.pass_time(40_000)
    assert_renewed(cell)


def test_redundancy_is_restored_while_an_old_domain_still_waits_for_its_successor() -> None:
    """The new sleeper ends just then; the successor has no CPU time, and must not hold the repair up."""
    cell = stored()
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.cores[0].order_recovery(LIGHTWEIGHT, 7)
    while not cell.cores[0].repair.holds(NEXT_0):
        cell.tick(10)
    cell.pause(PASSIVE_0)
    cell.submit(1, sink, client, 1, b"append key-001 !")
    while roles(cell)[NEXT_0] is Role.STARTING:
        cell.tick(10)
    cell.cores[0].on_domain_gone(NEXT_0, "killed")
    cell.pass_time(3_000)
    assert roles(cell)[ACTIVE_0] is Role.ACTIVE
    assert roles(cell)[DomainId("s0.g4")] is Role.PASSIVE
    cell.proceed(PASSIVE_0)
    cell.pass_time(20_000)
    assert ACTIVE_0 not in roles(cell)
    assert_renewed(cell)
