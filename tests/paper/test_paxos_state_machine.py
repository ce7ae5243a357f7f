"""Statements of "Paxos Made Simple" and "Cheap Paxos" that concern a whole cell: progress, learning, windows."""

import pytest

from agreement.messages import Accept, ServerJoined
from tests.agreement.local_cell import S0, S1, S2, LocalCell


def elected(tolerated_faults: int = 1) -> LocalCell:
    """A cell with a leader and nothing under way."""
    cell = LocalCell(tolerated_faults)
    cell.elect()
    cell.advance(500)
    return cell


def test_an_acceptor_may_ignore_any_request() -> None:
    """Safety does not rest on answers; here half of all messages are lost.

    Source: Paxos Made Simple, section 2.2.
    """
    cell = LocalCell(seed=3)
    cell.loses = lambda message: cell.rng.random() < 0.5
    for count in range(10):
        cell.propose(S1, b"%d" % count)
        cell.advance(500)
    cell.loses = lambda message: False
    cell.advance_until(lambda: len(cell.payloads(S0)) >= 10 or cell.node(S1).is_removed)
    assert cell.payloads(S1) == cell.payloads(S0)[: len(cell.payloads(S1))]


def test_a_learner_that_missed_what_was_chosen_finds_out() -> None:
    """A value may be chosen without every learner knowing; it asks.

    Source: Paxos Made Simple, section 2.3.
    """
    cell = elected(2)
    cell.cut.add(S2)
    cell.propose(S0, b"x")
    cell.advance(1_000)
    cell.cut.clear()
    cell.advance_until(lambda: cell.payloads(S2) == [b"x"], limit_ms=2_000)


@pytest.mark.parametrize("seed", range(5))
def test_a_single_distinguished_proposer_comes_to_be(seed: int) -> None:
    """Timeouts are random, so that somebody wins.

    Source: Paxos Made Simple, section 2.4.
    """
    cell = LocalCell(tolerated_faults=2, seed=seed)
    cell.elect()
    cell.crash(S0)
    cell.advance_until(lambda: any(node.is_leader for node in cell.nodes), limit_ms=8_000)


def test_a_leader_proposes_ahead_of_what_is_chosen_but_only_so_far() -> None:
    """A bounded number of instances may be open at once.

    Source: Paxos Made Simple, section 3.
    """
    cell = elected()
    cell.cut.add(S1)
    for count in range(20):
        cell.propose(S0, b"%d" % count)
    accepts = {message.slot for _, _, message in cell.sent if isinstance(message, Accept)}
    assert len(accepts) == cell.settings.slots_in_flight_max


def test_a_command_is_executed_only_after_all_before_it() -> None:
    """However the messages about them overtake each other.

    Source: Paxos Made Simple, section 3.
    """
    cell = elected()
    cell.propose(S0, b"first")
    cell.propose(S0, b"second")
    first = next(flight for flight in cell.pool if isinstance(flight[2], Accept) and flight[2].slot == 0)
    cell.pool.remove(first)
    cell.run()
    assert cell.payloads(S1) == []
    cell.pool.append(first)
    cell.run()
    assert cell.payloads(S1) == [b"first", b"second"]


def test_a_repaired_server_is_added_by_a_command_and_then_one_more_may_fail() -> None:
    """It works like any other main processor from that command on.

    Source: Cheap Paxos, section 4.
    """
    cell = elected()
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
    """Progress, not safety, is lost if the last main processor fails before another is brought back.

    Source: Cheap Paxos, section 1.
    """
    cell = elected()
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
