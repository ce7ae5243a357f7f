"""What we rely on of Lamport and Massa, "Cheap Paxos" (DSN 2004), one test each.

Its main processors are our servers, its auxiliary processors our witnesses; `Source:` is that paper throughout.
"""

import pytest

from agreement.messages import Accept, ServerJoined, ServerLeft
from agreement.quorum import QuorumOutcome
from tests.agreement.local_cell import S0, S1, S2, W0, LocalCell
from tests.agreement.test_quorum import cell as configuration_of


@pytest.mark.parametrize("faults", [1, 2, 3])
def test_f_plus_1_main_and_f_auxiliary_processors_are_enough(faults: int) -> None:
    """Source: section 1: `2F + 1` acceptors of which only `F + 1` work all the time."""
    configuration = configuration_of(faults)
    assert len(configuration.server_ids) == faults + 1
    assert len(configuration.witness_ids) == faults
    assert configuration.rule.outcome(configuration.server_ids) is QuorumOutcome.REACHED


def test_auxiliary_processors_do_nothing_while_the_main_ones_work() -> None:
    """Source: section 1."""
    cell = LocalCell()
    cell.elect()
    for count in range(30):
        cell.propose(S1, b"%d" % count)
        cell.advance(300)
    assert len(cell.payloads(S1)) == 30
    assert cell.witness_messages() == []


def test_when_a_main_processor_fails_auxiliary_ones_take_its_place_in_the_quorum() -> None:
    """Source: section 3: only then are they asked to accept."""
    cell = LocalCell()
    cell.elect()
    cell.advance(500)
    cell.crash(S1)
    cell.propose(S0, b"x")
    cell.advance(cell.settings.witness_timeout_ms + 200)
    assert cell.payloads(S0) == [b"x"]
    assert any(receiver == W0 for _, receiver, _ in cell.messages(Accept))


def test_they_are_used_to_remove_the_failed_processor_and_are_idle_again() -> None:
    """Source: section 3: the reconfiguration is itself an entry of the order, chosen with their votes."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.advance(500)
    cell.crash(S2)
    cell.advance_until(lambda: cell.node(S0).configuration.number == 2)
    assert cell.checkers.order.history[-1] == ServerLeft(2, fenced=False)
    cell.advance(5_000)
    cell.sent.clear()
    for count in range(10):
        cell.propose(S1, b"%d" % count)
        cell.advance(300)
    assert cell.witness_messages() == []
    assert cell.payloads(S0)[-1] == b"9"


def test_a_smaller_configuration_needs_fewer_votes() -> None:
    """Source: section 3: after the change the remaining main processors are a quorum by themselves."""
    smaller = configuration_of(2).after(ServerLeft(2, fenced=False))
    assert smaller.rule.outcome([S0, S1]) is QuorumOutcome.REACHED
    alone = smaller.after(ServerLeft(1, fenced=False))
    assert alone.rule.outcome([S0]) is QuorumOutcome.REACHED


def test_an_auxiliary_processor_may_forget_what_all_main_processors_know() -> None:
    """Source: section 3: it needs little storage."""
    cell = LocalCell()
    cell.elect()
    cell.advance(500)
    cell.crash(S1)
    for count in range(20):
        cell.propose(S0, b"%d" % count)
        cell.advance(200)
    cell.advance(5_000)
    assert cell.witness(W0).votes_count == 0


def test_a_repaired_processor_is_added_by_another_reconfiguration() -> None:
    """Source: section 4."""
    cell = LocalCell()
    cell.elect()
    cell.advance(500)
    cell.crash(S1)
    cell.advance(6_000)
    cell.restart_without_memory(S1, 2)
    cell.advance(1_000)
    cell.propose_change(S1, ServerJoined(1, 2, b""))
    cell.advance(1_000)
    cell.crash(S0)
    cell.propose(S1, b"tolerated again")
    cell.advance_until(lambda: b"tolerated again" in cell.payloads(S1))


def test_the_working_set_must_not_jump_around_too_fast() -> None:
    """Source: section 1: progress, not safety, is lost if the last main processor fails before it is replaced."""
    cell = LocalCell()
    cell.elect()
    cell.advance(500)
    cell.propose(S0, b"x")
    cell.advance(500)
    cell.crash(S1)
    cell.advance(6_000)
    cell.crash(S0)
    cell.restart(S1)
    cell.advance(20_000)
    assert not cell.node(S1).is_leader
    cell.restart(S0)
    cell.elect()
    assert cell.payloads(S0)[0] == cell.payloads(S1)[0] == b"x"
    assert S2 not in cell.cores
