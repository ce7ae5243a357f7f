"""Departures and joins are entries of the order: who may cause them, and what they end."""

import pytest

from agreement.errors import NotAMember
from agreement.identifiers import MemberId
from agreement.messages import CatchUp, Entry, ServerJoined, ServerLeft
from agreement.output import ChangeRefused, ConfigurationChanged, Removed, ServerRestarted, ServerSuspected
from agreement.settings import AgreementSettings
from tests.agreement.local_cell import S0, S1, S2, LocalCell


def changes(cell: LocalCell) -> list[object]:
    """All changes of the configuration in the order."""
    return [entry for entry in cell.checkers.order.history if not isinstance(entry, Entry)]


def join(cell: LocalCell, number: int, incarnation: int) -> None:
    """Have a learner ask to join until it is a member; while it lags it cannot know that it may."""
    server = MemberId.server(number)
    for _ in range(100):
        if cell.node(server).is_member:
            return
        cell.propose_change(server, ServerJoined(number, incarnation, b"ready"))
        cell.advance(200)
    raise AssertionError(f"{server} does not become a member")


def test_a_crashed_server_leaves_after_the_crash_timeout() -> None:
    """The leader alone says so, when it has not heard of it for that long."""
    cell = LocalCell()
    cell.elect()
    cell.advance(1_000)
    cell.crash(S1)
    began_ms = cell.now_ms
    cell.advance_until(lambda: changes(cell) != [])
    assert cell.now_ms - began_ms >= cell.settings.crash_timeout_ms - cell.settings.heartbeat_ms
    assert changes(cell) == [ServerLeft(1, fenced=False)]
    assert any(isinstance(event, ServerSuspected) for event in cell.events[S0])
    cell.elect()
    cell.propose(S0, b"alone")
    cell.run()
    assert cell.payloads(S0)[-1] == b"alone"


def test_a_short_silence_is_no_crash() -> None:
    """A departure costs much more than the wait."""
    cell = LocalCell()
    cell.elect()
    cell.advance(1_000)
    cell.cut.add(S1)
    cell.advance(cell.settings.crash_timeout_ms - 500)
    cell.cut.clear()
    cell.advance(5_000)
    assert changes(cell) == []


def test_a_caller_who_fences_declares_crashes_itself() -> None:
    """With `declares_crashes = False` the event is all that the leader does."""
    cell = LocalCell(settings=AgreementSettings(declares_crashes=False))
    cell.elect()
    cell.advance(1_000)
    cell.crash(S1)
    cell.advance(2 * cell.settings.crash_timeout_ms + 500)
    assert changes(cell) == []
    assert len([event for event in cell.events[S0] if isinstance(event, ServerSuspected)]) == 2
    cell.propose_change(S0, ServerLeft(1, fenced=True))
    cell.advance(1_000)
    assert changes(cell) == [ServerLeft(1, fenced=True)]


def test_a_server_may_leave_on_its_own_wish() -> None:
    """Asked for anywhere; the leader orders it."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.advance(200)
    cell.propose_change(S2, ServerLeft(2, fenced=True))
    cell.advance(500)
    assert changes(cell) == [ServerLeft(2, fenced=True)]
    assert Removed(2, 1) in cell.events[S2]
    with pytest.raises(NotAMember, match="s2#1 is not in configuration 2"):
        cell.propose(S2, b"x")


def test_the_leader_may_leave_too() -> None:
    """The others elect another in the next configuration."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.advance(200)
    cell.propose(S1, b"before")
    cell.propose_change(S1, ServerLeft(0, fenced=False))
    cell.propose(S1, b"after")
    cell.advance_until(lambda: b"after" in cell.payloads(S2))
    assert cell.leader.identity.member in (S1, S2)
    assert cell.node(S0).is_removed


def test_a_server_that_could_stay_leaves_only_while_all_others_answer() -> None:
    """With one of them down as well the next configuration would begin with a fault that it does not tolerate."""
    cell = LocalCell()
    cell.elect()
    cell.advance(200)
    cell.crash(S1)
    cell.advance(cell.settings.witness_timeout_ms + 100)
    cell.propose_change(S0, ServerLeft(0, fenced=False))
    cell.advance(200)
    assert changes(cell) == []
    cell.advance_until(lambda: changes(cell) != [])
    assert changes(cell) == [ServerLeft(1, fenced=False)]


def test_what_is_above_a_change_is_void_and_forwarded_again() -> None:
    """Delivered once, in the next configuration."""
    cell = LocalCell()
    cell.elect()
    cell.advance(200)
    cell.propose(S1, b"with the change")
    cell.propose_change(S0, ServerLeft(1, fenced=True))
    cell.propose(S0, b"x")
    cell.advance(1_000)
    assert cell.payloads(S0)[-1] == b"x"
    assert cell.payloads(S0).count(b"x") == 1
    assert [node.configuration.number for node in cell.nodes] == [2, 2]


def test_an_impossible_change_is_refused_with_a_sentence() -> None:
    """The caller may tell the operator."""
    cell = LocalCell()
    cell.elect()
    cell.propose_change(S0, ServerLeft(7, fenced=True))
    assert cell.events[S0][-1] == ChangeRefused(ServerLeft(7, fenced=True), "server 7 is not in configuration 1")


def test_a_server_without_memory_is_known_to_have_stopped_and_joins_again() -> None:
    """The new incarnation is the proof; no timeout is waited for."""
    cell = LocalCell()
    cell.elect()
    cell.propose(S1, b"first life")
    cell.advance(1_000)
    cell.crash(S1)
    cell.restart_without_memory(S1, 5)
    cell.advance(1_000)
    assert changes(cell) == [ServerLeft(1, fenced=True)]
    assert ServerRestarted(1, 5) in cell.events[S0]
    join(cell, 1, 5)
    cell.elect()
    assert cell.propose(S1, b"second life") == 1
    cell.advance(500)
    assert changes(cell)[1:] == [ServerJoined(1, 5, b"ready")]
    assert cell.payloads(S0) == [b"first life", b"", b"ready", b"second life"]
    assert cell.payloads(S1) == [b"first life", *cell.payloads(S0)]
    assert cell.node(S0).configuration.number == 3


def test_a_new_incarnation_says_nothing_before_its_birth_is_durable() -> None:
    """It is proof that the old memory is gone, so it must be gone."""
    cell = LocalCell()
    cell.elect()
    cell.advance(500)
    cell.crash(S1)
    cell.restart_without_memory(S1, 2)
    cell.now_ms += 5_000
    cell.cores[S1].on_timer(cell.now_ms)
    cell.pump(S1)
    assert cell.messages(CatchUp) == []
    cell.sync(S1)
    assert len(cell.messages(CatchUp)) == 1


def test_a_joiner_far_behind_is_not_ordered_yet() -> None:
    """Its configuration would begin with a server that cannot vote."""
    cell = LocalCell(settings=AgreementSettings(join_lag_entries_max=5, batch_entries_max=2))
    cell.elect()
    cell.advance(200)
    cell.crash(S1)
    cell.restart_without_memory(S1, 2)
    cell.advance_until(lambda: cell.node(S1).delivered_sequence == 1)
    cell.cut.add(S1)
    for count in range(20):
        cell.propose(S0, b"%d" % count)
    cell.run()
    cell.propose_change(S0, ServerJoined(1, 2, b""))
    cell.advance(3_000)
    assert len(changes(cell)) == 1
    cell.cut.clear()
    cell.advance_until(lambda: cell.node(S1).is_member)
    assert cell.payloads(S1) == cell.payloads(S0)


def test_learners_deliver_but_do_not_vote() -> None:
    """They are in no quorum."""
    cell = LocalCell()
    cell.elect()
    cell.advance(200)
    cell.crash(S1)
    cell.restart_without_memory(S1, 2)
    cell.advance(1_000)
    cell.propose(S0, b"x")
    cell.advance(500)
    assert cell.payloads(S1)[-1] == b"x"
    assert {sender for sender, _, message in cell.sent if sender == S1 and not isinstance(message, CatchUp)} <= {S1}
    with pytest.raises(NotAMember):
        cell.propose(S1, b"y")


def test_all_servers_but_one_may_leave_and_come_back() -> None:
    """Each with its witness; the order goes on throughout."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.advance(500)
    for server in (S1, S2):
        cell.crash(server)
        cell.propose(S0, b"without %d" % server.number)
        cell.advance_until(lambda: not cell.node(S0).undelivered_count, limit_ms=10_000)
        cell.advance(4_000)
    assert cell.node(S0).configuration.servers == ((0, 1),)
    for server in (S1, S2):
        cell.restart_without_memory(server, 2)
        join(cell, server.number, 2)
        cell.elect()
        cell.propose(server, b"with %d" % server.number)
        cell.advance(1_000)
    assert cell.payloads(S0)[-1] == cell.payloads(S1)[-1] == cell.payloads(S2)[-1] == b"with 2"
    assert [type(change).__name__ for change in changes(cell)] == ["ServerLeft"] * 2 + ["ServerJoined"] * 2
    assert len([event for event in cell.events[S0] if isinstance(event, ConfigurationChanged)]) == 4


def test_a_removed_server_that_restarts_knows_that_it_is_removed() -> None:
    """Its own log says so."""
    cell = LocalCell()
    cell.elect()
    cell.advance(200)
    cell.propose_change(S0, ServerLeft(1, fenced=False))
    cell.advance(1_000)
    assert cell.node(S1).is_removed
    cell.crash(S1)
    cell.events[S1].clear()
    cell.restart(S1)
    assert cell.node(S1).is_removed
    assert any(isinstance(event, Removed) for event in cell.events[S1])
