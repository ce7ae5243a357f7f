"""Witnesses: asked only in place of a silent server, and what they may forget."""

import pytest

from agreement.changes import EMPTY_BATCH_RAW
from agreement.identifiers import Ballot, Identity
from agreement.messages import Accept, Prepare, Promise, Release, Released, ServerLeft, Superseded
from agreement.output import ConfigurationChanged, WitnessUsed
from agreement.records import PREFIX, PREFIX_END, read_storage
from agreement.settings import AgreementSettings
from agreement.witness import Witness
from tests.agreement.local_cell import S0, S1, S2, W0, LocalCell
from tests.agreement.test_quorum import cell as configuration_of

MEMBERS = [Identity(S0, 1), Identity(S1, 1), Identity(W0, 1)]


def cell_that_uses_its_witness() -> LocalCell:
    """Server 1 is cut off, not for long."""
    cell = LocalCell()
    cell.elect()
    cell.advance(1_000)
    cell.cut.add(S1)
    cell.advance(cell.settings.witness_timeout_ms + 100)
    return cell


def test_a_witness_votes_in_place_of_a_silent_server() -> None:
    """The leader goes on after `witness_timeout_ms`, and says that it does."""
    cell = cell_that_uses_its_witness()
    cell.propose(S0, b"x")
    cell.run()
    assert cell.payloads(S0) == [b"x"]
    assert WitnessUsed((S1,)) in cell.events[S0]


def test_when_the_server_answers_again_the_witness_is_idle_and_forgets() -> None:
    """The slots that every server has durably; what comes later it is not asked."""
    cell = cell_that_uses_its_witness()
    for count in range(5):
        cell.propose(S0, b"%d" % count)
        cell.run()
    assert cell.witness(W0).votes_count == 5
    cell.cut.clear()
    cell.advance(500)
    cell.propose(S0, b"later")
    cell.advance(500)
    cell.propose(S0, b"and later")
    cell.advance(2_000)
    assert cell.payloads(S1) == cell.payloads(S0)
    assert cell.witness(W0).votes_count == 0
    cell.sent.clear()
    for count in range(5):
        cell.propose(S1, b"%d" % count)
        cell.advance(1_000)
    assert cell.witness_messages() == []


def test_what_a_witness_forgot_is_not_forgotten_by_the_cell() -> None:
    """A candidate that asks it later has those slots itself."""
    cell = cell_that_uses_its_witness()
    cell.propose(S0, b"x")
    cell.run()
    cell.cut.clear()
    cell.advance(500)
    cell.propose(S0, b"y")
    cell.advance(3_000)
    assert cell.witness(W0).votes_count == 0
    cell.crash(S0)
    cell.propose(S1, b"z")
    cell.advance_until(lambda: b"z" in cell.payloads(S1))
    assert cell.payloads(S1)[:3] == [b"x", b"y", b"z"] or cell.payloads(S1)[:2] == [b"x", b"y"]


def test_a_change_is_released_once_every_server_has_durably_left() -> None:
    """Then the witness drops the whole configuration, and keeps its end for ever."""
    cell = cell_that_uses_its_witness()
    cell.propose(S0, b"x")
    cell.advance(cell.settings.crash_timeout_ms + 500)
    assert cell.node(S0).configuration.number == 2
    cell.advance(1_000)
    assert cell.witness(W0).configuration.number == 2
    assert cell.witness(W0).votes_count == 0
    assert len(cell.messages(Release)) == len(cell.messages(Released)) == 1
    stored = read_storage(cell.storages[W0].scan_durable(PREFIX, PREFIX_END))
    assert sorted(number for number in stored.configurations if number < 2) == []
    assert stored.lowest == cell.node(S0).configuration


def test_a_witness_says_nothing_about_a_configuration_that_has_ended() -> None:
    """The server that was left behind learns from it that it is out; the partition may turn as it likes."""
    cell = cell_that_uses_its_witness()
    cell.advance(cell.settings.crash_timeout_ms + 2_000)
    cell.cut = {S0}
    cell.sent.clear()
    cell.advance_until(lambda: cell.node(S1).is_removed, limit_ms=20_000)
    answers = [message for sender, _, message in cell.sent if sender == W0]
    assert {type(message) for message in answers} == {Superseded}
    assert not cell.node(S1).is_member
    assert cell.node(S1).configuration.number == 1


def test_the_end_of_a_configuration_survives_a_restart_of_the_witness() -> None:
    """With an empty memory it must not promise anything about it again."""
    cell = cell_that_uses_its_witness()
    cell.advance(cell.settings.crash_timeout_ms + 2_000)
    cell.crash(W0)
    cell.restart(W0)
    prepare = Prepare(1, 1, Ballot(99, S1), 0, configuration_of(1))
    cell.pool.append((S1, W0, prepare))
    cell.cut.clear()
    cell.sent.clear()
    cell.deliver(0)
    cell.sync(W0)
    assert cell.messages(Promise) == []
    assert len(cell.messages(Superseded)) == 1


def test_votes_and_promises_survive_a_restart_of_the_witness() -> None:
    """It keeps its incarnation only with its memory."""
    witness = Witness.born(MEMBERS[2], AgreementSettings(), MEMBERS, 0)
    high, low = Ballot(5, S0), Ballot(4, S1)
    witness.receive(S0, Accept(1, 1, high, 0, 0, -1, EMPTY_BATCH_RAW, configuration_of(1)), 0)
    writes = witness.take_output().writes
    again = Witness.recovered(
        MEMBERS[2], AgreementSettings(), MEMBERS, [(write[0], write[1]) for write in writes], 1_000
    )
    again.on_persisted(again.take_output().token or 0, 1_000)
    again.receive(S1, Prepare(1, 1, low, 0, configuration_of(1)), 1_000)
    assert "Nack" in str(again.take_output().sends)
    again.receive(S1, Prepare(1, 1, Ballot(6, S1), 0, configuration_of(1)), 1_000)
    again.on_persisted(again.take_output().token or 0, 1_000)
    ((_, promise),) = again.take_output().sends
    assert isinstance(promise, Promise)
    assert [report.ballot for report in promise.votes] == [high]


def test_a_witness_answers_only_those_who_name_it() -> None:
    """A configuration in which it does not vote, or as somebody else, is none of its business."""
    witness = Witness.born(MEMBERS[2], AgreementSettings(), MEMBERS, 0)
    witness.on_persisted(witness.take_output().token or 0, 0)
    without = configuration_of(1).after(ServerLeft(1, fenced=True))
    ballot = Ballot(1, S0)
    for message in (
        Prepare(2, 1, ballot, 0, without),
        Prepare(1, 2, ballot, 0, configuration_of(1)),
        Prepare(2, 1, ballot, 0, configuration_of(1)),
        Accept(1, 1, ballot, 0, 0, -1, EMPTY_BATCH_RAW),
    ):
        witness.receive(S0, message, 0)
        assert witness.take_output().sends == ()


def test_a_witness_without_memory_asks_to_be_named_and_votes_only_then() -> None:
    """Its new incarnation is in no configuration until `WitnessReplaced` is ordered."""
    cell = LocalCell()
    cell.elect()
    cell.advance(1_000)
    cell.crash(W0)
    cell.restart_without_memory(W0, 2)
    cell.advance_until(lambda: cell.node(S0).configuration.number == 2)
    assert any(isinstance(event, ConfigurationChanged) for event in cell.events[S1])
    cell.advance(2_000)
    assert cell.witness(W0).next_timer_ms() is None, "it is named, and asks no more"
    cell.cut.add(S1)
    cell.propose(S0, b"x")
    cell.advance(1_000)
    assert cell.payloads(S0)[-1] == b"x"


@pytest.mark.parametrize("tolerated_faults", [2, 3])
def test_the_highest_witnesses_are_asked_nothing_in_a_smaller_configuration(tolerated_faults: int) -> None:
    """As many as servers may still fail are enough, and more would not be safe."""
    cell = LocalCell(tolerated_faults)
    cell.elect()
    cell.advance(1_000)
    cell.crash(S2)
    cell.advance_until(lambda: cell.node(S0).configuration.number == 2)
    cell.advance(5_000)
    cell.sent.clear()
    cell.cut.add(S1)
    cell.propose(S0, b"x")
    cell.advance(1_500)
    asked = {receiver.number for _, receiver, _ in cell.messages(Accept) if not receiver.is_server}
    assert asked == set(range(tolerated_faults - 1))
    assert cell.payloads(S0)[-1] == b"x"
