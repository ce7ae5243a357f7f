"""What the agreement stage takes from Lamport and Massa, "Cheap Paxos" (2004): one test per statement relied on.

The paper's main processors are the servers, its auxiliary processors the witnesses.
"""

from collections.abc import Callable

import pytest

from agreement.changes import Entry, ServerJoined, ServerLeft
from agreement.configuration import Configuration
from agreement.context import Role
from agreement.identifiers import Ballot, Identity, MemberId
from agreement.messages import Accept, Accepted, Promise, Release, Superseded
from agreement.output import ConfigurationChanged, WitnessUsed
from agreement.quorum import QuorumOutcome
from agreement.records import PREFIX, PREFIX_END, read_storage
from tests.agreement.local_cell import LocalCell
from tests.paper.by_hand import (
    CELL,
    S0,
    S1,
    S2,
    W0,
    W1,
    AcceptorByHand,
    accept,
    elected_cell,
    prepare,
    sent,
)
from tests.simulation.agreement.process import configuration_after_restart

CRASH_MS = 3_000
"""After this long a silent server is ordered to leave."""


def cell_that_lost_a_server(tolerated_faults: int = 1) -> LocalCell:
    """The last server is cut off, and the others have gone on without it."""
    cell = elected_cell(tolerated_faults)
    cell.cut = {MemberId.server(tolerated_faults)}
    cell.advance_until(lambda: cell.node(S0).configuration.number == 2)
    return cell


# --- section 3: main and auxiliary processors --------------------------------------------------------------------


@pytest.mark.parametrize("faults", [1, 2, 3])
def test_the_servers_alone_are_a_quorum(faults: int) -> None:
    """The set of all main processors is a quorum, so commands are chosen without any auxiliary one.

    Source: Cheap Paxos, section 3.
    """
    members = LocalCell(faults).members
    configuration = Configuration.first(members)
    assert configuration.rule.outcome(configuration.server_ids) is QuorumOutcome.REACHED
    assert len(configuration.rule.members) == 2 * faults + 1


@pytest.mark.parametrize("faults", [1, 2])
def test_while_every_server_answers_no_witness_is_ever_spoken_to(faults: int) -> None:
    """Auxiliary processors do nothing during normal operation: not even the election needs them.

    Source: Cheap Paxos, section 3.
    """
    cell = elected_cell(faults)
    for number in range(50):
        cell.propose(MemberId.server(number % (faults + 1)), b"%d" % number)
        cell.advance(100)
    assert len(cell.payloads(S0)) == 50
    assert cell.witness_messages() == []


def test_a_witness_is_asked_only_after_a_server_was_silent_for_the_timeout() -> None:
    """An auxiliary processor takes part when a main one fails to answer, and not before.

    Source: Cheap Paxos, section 3.
    """
    cell = elected_cell()
    silent_since_ms = cell.now_ms
    cell.cut = {S1}
    cell.propose(S0, b"x")
    cell.advance(cell.settings.witness_timeout_ms - 2 * cell.settings.heartbeat_ms)
    assert cell.witness_messages() == []
    assert cell.payloads(S0) == []
    cell.advance_until(lambda: cell.payloads(S0) == [b"x"])
    assert cell.now_ms - silent_since_ms < CRASH_MS, "it need not wait for the reconfiguration"
    assert WitnessUsed((S1,)) in cell.events[S0]


def test_a_witness_is_left_alone_again_when_the_server_answers_again() -> None:
    """A main processor that was only slow makes the auxiliary one idle again, without any reconfiguration.

    Source: Cheap Paxos, section 3.
    """
    cell = elected_cell()
    cell.cut = {S1}
    cell.propose(S0, b"x")
    cell.advance_until(lambda: cell.payloads(S0) == [b"x"])
    cell.cut = set()
    cell.advance(2_000)
    asked = len(sent(cell, Accept, receiver=W0))
    assert asked
    for number in range(10):
        cell.propose(S1, b"%d" % number)
        cell.advance(100)
    assert len(cell.payloads(S1)) == 11
    assert len(sent(cell, Accept, receiver=W0)) == asked
    assert cell.node(S0).configuration.number == 1


def test_all_witnesses_and_a_single_server_go_on_when_the_other_servers_fail_together() -> None:
    """Up to `f` main processors may be gone at once; the others with the auxiliary ones are a majority.

    Source: Cheap Paxos, section 3.
    """
    cell = elected_cell(2)
    cell.cut = {S1, S2}
    cell.propose(S0, b"x")
    cell.advance_until(lambda: b"x" in cell.payloads(S0))
    assert sent(cell, Accept, receiver=W0)
    assert sent(cell, Accept, receiver=W1)


def test_a_value_chosen_with_a_witness_is_found_by_the_server_that_was_away() -> None:
    """The auxiliary processor's vote ties the next leader to what was chosen in the absence of a main one.

    Source: Cheap Paxos, section 3 (safety is that of Paxos).
    """
    cell = elected_cell()
    cell.cut = {S1}
    cell.propose(S0, b"x")
    cell.advance_until(lambda: cell.payloads(S0) == [b"x"])
    cell.cut = {S0}
    cell.propose(S1, b"y")
    cell.advance_until(lambda: cell.payloads(S1)[-1:] == [b"y"])
    assert cell.payloads(S1)[0] == b"x"


# --- section 3: reconfiguration ----------------------------------------------------------------------------------


def test_the_departure_of_a_server_is_a_command_with_a_place_in_the_order() -> None:
    """The set of processors is part of the state machine's state and is changed by one of its commands.

    Source: Cheap Paxos, section 3 (after Paxos Made Simple, section 3).
    """
    cell = elected_cell(2)
    cell.propose(S1, b"before")
    cell.run()
    cell.propose_change(S1, ServerLeft(2, fenced=False))
    cell.advance_until(lambda: all(cell.node(member).configuration.number == 2 for member in (S0, S1)))
    cell.propose(S1, b"after")
    cell.advance_until(lambda: b"after" in cell.payloads(S0))
    entries = [delivery.entry for delivery in cell.deliveries[S0]]
    assert [entry.payload if isinstance(entry, Entry) else entry for entry in entries] == [
        b"before",
        ServerLeft(2, fenced=False),
        b"after",
    ]
    assert cell.deliveries[S1] == cell.deliveries[S0]
    assert cell.node(S0).configuration == Configuration.first(cell.members).after(ServerLeft(2, fenced=False))
    assert ConfigurationChanged(cell.node(S1).configuration) in cell.events[S1]


def test_after_the_reconfiguration_the_remaining_servers_are_a_quorum_again() -> None:
    """The failed main processor is taken out so that the auxiliary ones may go back to doing nothing.

    Source: Cheap Paxos, section 3.
    """
    cell = cell_that_lost_a_server(2)
    cell.advance(2_000)
    configuration = cell.node(S0).configuration
    assert configuration.server_ids == (S0, S1)
    cell.sent.clear()
    for number in range(10):
        cell.propose(S1, b"%d" % number)
        cell.advance(100)
    assert cell.payloads(S0)[1:] == [b"%d" % number for number in range(10)], "after the departure"
    assert not [flight for flight in cell.witness_messages() if flight[0] != S2], "server 2 still campaigns in vain"


def test_after_a_reconfiguration_one_more_server_may_fail() -> None:
    """One failure after the other is survived, down to the last main processor.

    Source: Cheap Paxos, section 3.
    """
    cell = cell_that_lost_a_server(2)
    cell.advance(1_000)
    cell.cut = {S1, S2}
    cell.advance_until(lambda: cell.node(S0).configuration.number == 3)
    cell.propose(S0, b"x")
    cell.advance_until(lambda: b"x" in cell.payloads(S0))
    assert cell.node(S0).configuration.rule.members == {S0}


def test_a_server_that_was_taken_out_takes_no_part_until_a_command_brings_it_back() -> None:
    """A repaired processor first learns the state, and is a main processor from its own command on.

    Source: Cheap Paxos, section 3.
    """
    cell = cell_that_lost_a_server()
    cell.crash(S1)
    cell.cut = set()
    cell.sent.clear()
    cell.restart_without_memory(S1, 2)
    cell.propose(S0, b"x")
    cell.advance_until(lambda: cell.payloads(S1) == [b"", b"x"])
    assert cell.node(S1).role is Role.LEARNER
    assert not sent(cell, Promise, sender=S1)
    assert not sent(cell, Accepted, sender=S1)
    cell.propose_change(S1, ServerJoined(1, 2, b"joined"))
    cell.advance_until(lambda: cell.node(S1).is_member)
    assert cell.deliveries[S1][-1].entry == ServerJoined(1, 2, b"joined")
    cell.propose(S1, b"y")
    cell.advance_until(lambda: cell.payloads(S0)[-1] == b"y")
    assert cell.node(S0).configuration.server_ids == (S0, S1)


# --- section 3: what an auxiliary processor may forget -----------------------------------------------------------


def test_a_witness_forgets_its_votes_when_the_reconfiguration_is_done() -> None:
    """Once all main processors know the outcome, the auxiliary ones need not keep what they voted for.

    Source: Cheap Paxos, section 3.
    """
    cell = elected_cell()
    cell.cut = {S1}
    cell.propose(S0, b"x" * 1_000)
    cell.advance_until(lambda: cell.payloads(S0) != [])
    cell.advance_until(lambda: cell.witness(W0).votes_count > 0)
    cell.advance_until(lambda: cell.node(S0).configuration.number == 2)
    cell.advance_until(lambda: cell.witness(W0).configuration.number == 2)
    assert cell.witness(W0).votes_count == 0
    stored = list(cell.storages[W0].scan_durable(PREFIX, PREFIX_END))
    assert read_storage(stored).configurations == {}
    assert sum(len(value) for _, value in stored) < 200


def test_a_witness_forgets_decided_slots_when_every_server_has_them_durably() -> None:
    """A server that came back and has caught up frees the memory of the auxiliary processor too.

    Source: Cheap Paxos, section 3.
    """
    cell = elected_cell()
    cell.cut = {S1}
    cell.propose(S0, b"x")
    cell.advance_until(lambda: cell.witness(W0).votes_count > 0)
    cell.cut = set()
    cell.advance_until(lambda: cell.payloads(S1) == [b"x"])
    for number in range(5):
        cell.propose(S0, b"%d" % number)
        cell.advance(200)
    cell.advance_until(lambda: cell.witness(W0).votes_count == 0)
    assert cell.node(S0).configuration.number == 1


def test_no_witness_is_told_to_forget_before_every_remaining_server_has_durably_left() -> None:
    """A main processor that might still ask about the former configuration must find the votes there.

    Source: Cheap Paxos, section 3.
    """
    cell = elected_cell(2)
    cell.cut = {S2}
    step_until(cell, lambda: cell.node(S0).configuration.number == 2)
    assert cell.node(S1).configuration.number == 1, "it has not heard of the decision yet"
    cell.cut = {S1, S2}
    left_ms = cell.now_ms
    cell.advance_until(lambda: cell.node(S0).is_leader and cell.now_ms >= left_ms + CRASH_MS - 500)
    assert not sent(cell, Release)
    assert cell.witness(W0).configuration.number == 1
    cell.cut = {S2}
    cell.advance_until(lambda: cell.witness(W0).configuration.number == 2)
    content = cell.storages[S1].scan_durable(PREFIX, PREFIX_END)
    assert configuration_after_restart(read_storage(content), Configuration.first(cell.members)) == 2


def step_until(cell: LocalCell, is_over: Callable[[], bool]) -> None:
    """Move one message, one sync or the clock at a time, so that the moment is met exactly."""
    for _ in range(50_000):
        if is_over():
            return
        if cell.pool:
            cell.deliver(0)
        elif cell.tokens:
            cell.sync(min(cell.tokens))
        else:
            cell.now_ms += 10
            cell.fire_timers()
    raise AssertionError("it never came to that")


def test_a_witness_that_has_forgotten_promises_nothing_about_the_past() -> None:
    """An empty memory must not be taken for "I have voted for nothing"; that holds over restarts, for ever.

    Source: Cheap Paxos, section 3 (what must be kept of what is forgotten).
    """
    acceptor = AcceptorByHand()
    acceptor.ask(accept(Ballot(1, S0), 0, b"x"))
    second = CELL.after(ServerLeft(1, fenced=False))
    acceptor.ask(Release(2, 1, second, -1))
    for _ in range(2):
        assert acceptor.ask(prepare(Ballot(9, S1))) == [Superseded(2, 1, second)]
        assert acceptor.ask(accept(Ballot(9, S1), 0, b"y")) == [Superseded(2, 1, second)]
        acceptor.restart()


def test_a_witness_that_lost_its_memory_does_not_vote_until_a_command_names_it_anew() -> None:
    """A processor that may have forgotten a promise is no acceptor any more; replacing it is a reconfiguration.

    Source: Cheap Paxos, section 3, with Paxos Made Simple, section 2.2 (an acceptor remembers).
    """
    cell = elected_cell()
    cell.crash(W0)
    cell.restart_without_memory(W0, 2)
    cell.witness(W0).receive(S0, prepare(Ballot(9, S0)), cell.now_ms)
    cell.pump(W0)
    cell.sync(W0)
    assert not sent(cell, Promise, sender=W0)
    cell.advance_until(lambda: cell.node(S0).configuration.names(Identity(W0, 2)), limit_ms=20_000)
    cell.cut = {S1}
    cell.propose(S0, b"x")
    cell.advance_until(lambda: b"x" in cell.payloads(S0))
    assert cell.node(S0).configuration.number == 2
