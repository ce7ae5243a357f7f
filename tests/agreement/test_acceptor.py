"""Promises, votes and runs of one acceptor."""

import pytest

from agreement.acceptor import Acceptor
from agreement.changes import EMPTY_BATCH, EMPTY_BATCH_RAW
from agreement.identifiers import NO_BALLOT, Ballot
from agreement.quorum import Run
from agreement.records import SlotRecord, StoredConfiguration
from tests.agreement.local_cell import S0, S1

LOW, HIGH = Ballot(1, S0), Ballot(2, S1)


def vote(acceptor: Acceptor, ballot: Ballot, first: int, slot: int) -> None:
    """Vote for an empty batch."""
    acceptor.vote(ballot, first, slot, EMPTY_BATCH_RAW, EMPTY_BATCH)


def test_a_promise_refuses_lower_ballots_and_only_those() -> None:
    """P1a."""
    acceptor = Acceptor(1)
    assert acceptor.promise(HIGH)
    assert not acceptor.promise(HIGH)
    assert not acceptor.can_promise(LOW)
    assert not acceptor.can_vote(LOW)
    assert acceptor.can_vote(HIGH)
    with pytest.raises(AssertionError, match="promised"):
        vote(acceptor, LOW, 0, 0)


def test_a_vote_is_a_promise() -> None:
    """So that a restart can tell the promise from the vote alone."""
    acceptor = Acceptor(1)
    vote(acceptor, HIGH, 0, 0)
    assert not acceptor.can_promise(LOW)
    restored = Acceptor(1, StoredConfiguration(NO_BALLOT, {0: SlotRecord(HIGH, -1, EMPTY_BATCH_RAW)}))
    assert restored.promised == HIGH
    assert restored.report(0) == acceptor.report(0)


def test_a_run_stops_at_a_hole_and_goes_on_when_it_closes() -> None:
    """Only what is voted for without a hole is said."""
    acceptor = Acceptor(1)
    for slot in (0, 1, 3, 4):
        vote(acceptor, LOW, 0, slot)
    assert acceptor.run_after(-1) == Run(0, 1)
    vote(acceptor, LOW, 0, 2)
    assert acceptor.run_after(-1) == Run(0, 4)


def test_a_run_begins_anew_above_a_hole_that_is_decided() -> None:
    """Nobody proposes it again, so it would stay for ever; but it may have been decided in a higher ballot."""
    acceptor = Acceptor(1)
    vote(acceptor, LOW, 0, 4)
    assert acceptor.run_after(2) == Run(3, 2)
    assert acceptor.run_after(3) == Run(4, 4)


def test_another_ballot_begins_another_run() -> None:
    """Votes of the former one do not count for it."""
    acceptor = Acceptor(1)
    for slot in (0, 1, 2):
        vote(acceptor, LOW, 0, slot)
    vote(acceptor, HIGH, 1, 1)
    assert acceptor.run_after(0) == Run(1, 1)
    assert [report.ballot for report in acceptor.report(0)] == [LOW, HIGH, LOW]


def test_a_witness_asked_again_later_says_only_what_it_was_asked_for() -> None:
    """The slots between were none of its business."""
    acceptor = Acceptor(1)
    vote(acceptor, LOW, 0, 0)
    vote(acceptor, LOW, 10, 10)
    assert acceptor.run_after(-1) == Run(10, 10)


def test_decided_slots_are_not_taken_up_again_after_a_restart() -> None:
    """They are in the log."""
    records = {slot: SlotRecord(LOW, -1, EMPTY_BATCH_RAW) for slot in range(4)}
    acceptor = Acceptor(1, StoredConfiguration(HIGH, records), decided=1)
    assert [report.slot for report in acceptor.report(0)] == [2, 3]
    assert acceptor.promised == HIGH
    acceptor.forget_through([2])
    assert [report.slot for report in acceptor.report(0)] == [3]
