"""The acceptor with plain values: promises, votes, runs, and what a restart leaves of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement.acceptor import Acceptor
from agreement.changes import Batch, Entry, encode_batch
from agreement.identifiers import NO_BALLOT, Ballot, MemberId
from agreement.messages import VoteReport
from agreement.quorum import Run
from agreement.records import SlotRecord, StoredConfiguration

S0, S1 = MemberId.server(0), MemberId.server(1)
LOW, MIDDLE, HIGH = Ballot(1, S0), Ballot(1, S1), Ballot(2, S0)


def batch(text: bytes) -> Batch:
    """A batch of one entry."""
    return Batch((Entry(0, 1, 1, text),))


def vote(acceptor: Acceptor, ballot: Ballot, slot: int, text: bytes = b"x", first: int = 0) -> None:
    """Vote for a batch of one entry."""
    acceptor.vote(ballot, first, slot, encode_batch(batch(text)), batch(text))


def test_a_new_acceptor_has_promised_nothing_and_reports_nothing() -> None:
    """Every ballot that is ever used is above the one it starts with."""
    acceptor = Acceptor(1)
    assert acceptor.promised == NO_BALLOT
    assert acceptor.can_promise(LOW)
    assert acceptor.report(0) == []


def test_a_promise_is_news_once() -> None:
    """The caller writes a promise only when it says more than what is written."""
    acceptor = Acceptor(1)
    assert acceptor.promise(LOW)
    assert not acceptor.promise(LOW)
    assert acceptor.promise(HIGH)


def test_promising_or_voting_below_a_promise_is_a_broken_invariant() -> None:
    """Whoever asks must have looked first; a promise taken back splits the cell."""
    acceptor = Acceptor(1)
    acceptor.promise(HIGH)
    with pytest.raises(AssertionError):
        acceptor.promise(LOW)
    with pytest.raises(AssertionError):
        vote(acceptor, MIDDLE, 0)
    assert acceptor.votes == {}
    assert acceptor.promised == HIGH


def test_a_vote_raises_the_promise() -> None:
    """A vote in a ballot that nobody prepared here says as much as a promise of it."""
    acceptor = Acceptor(1)
    vote(acceptor, MIDDLE, 0)
    assert acceptor.promised == MIDDLE
    assert not acceptor.can_vote(LOW)


def test_the_newest_vote_of_a_slot_is_reported() -> None:
    """A later ballot's vote takes the place of an earlier one's; reports ascend by slot."""
    acceptor = Acceptor(1)
    vote(acceptor, LOW, 1, b"old")
    vote(acceptor, LOW, 0, b"kept")
    vote(acceptor, HIGH, 1, b"new")
    assert acceptor.report(0) == [
        VoteReport(0, LOW, encode_batch(batch(b"kept"))),
        VoteReport(1, HIGH, encode_batch(batch(b"new"))),
    ]
    assert [report.slot for report in acceptor.report(1)] == [1]


def test_forgotten_slots_are_reported_no_more() -> None:
    """What is decided is kept elsewhere; forgetting what is not there is no error."""
    acceptor = Acceptor(1)
    vote(acceptor, LOW, 0)
    vote(acceptor, LOW, 1)
    acceptor.forget_through([0, 7])
    assert [report.slot for report in acceptor.report(0)] == [1]


def test_a_run_ends_below_the_first_hole() -> None:
    """A slot that was lost on the way ends the run until it comes, or is known to be decided."""
    acceptor = Acceptor(1)
    for slot in (0, 1, 3):
        vote(acceptor, LOW, slot)
    assert acceptor.run_after(-1) == Run(0, 1)
    assert acceptor.run_after(2) == Run(0, 3)


def test_a_run_closes_when_the_lost_slot_comes() -> None:
    """The order of arrival is of no matter."""
    acceptor = Acceptor(1)
    for slot in (1, 2, 0):
        vote(acceptor, LOW, slot)
    assert acceptor.run_after(-1) == Run(0, 2)


def test_a_new_ballot_begins_a_new_run() -> None:
    """A vote in an older ballot does not count in a newer one."""
    acceptor = Acceptor(1)
    vote(acceptor, LOW, 0)
    vote(acceptor, LOW, 1)
    vote(acceptor, HIGH, 0)
    assert acceptor.run_after(-1) == Run(0, 0)


def test_a_member_that_was_not_asked_for_a_while_begins_its_run_anew() -> None:
    """Slots between two spells of a witness are none of its business."""
    acceptor = Acceptor(1)
    vote(acceptor, LOW, 0)
    assert acceptor.run_after(-1) == Run(0, 0)
    vote(acceptor, LOW, 5, first=5)
    assert acceptor.run_after(-1) == Run(5, 5)


def test_a_restart_restores_the_promise_and_the_votes() -> None:
    """What was durable says after the restart what it said before."""
    raw = encode_batch(batch(b"x"))
    stored = StoredConfiguration(HIGH, {0: SlotRecord(LOW, -1, raw), 1: SlotRecord(MIDDLE, -1, raw)})
    acceptor = Acceptor(1, stored)
    assert acceptor.promised == HIGH
    assert acceptor.report(0) == [VoteReport(0, LOW, raw), VoteReport(1, MIDDLE, raw)]


def test_a_restart_takes_the_promise_from_a_vote_if_that_is_newer() -> None:
    """A vote is written without a promise of its own."""
    stored = StoredConfiguration(LOW, {0: SlotRecord(HIGH, -1, encode_batch(batch(b"x")))})
    assert Acceptor(1, stored).promised == HIGH


def test_a_restart_leaves_out_what_is_decided_and_reports_a_decided_batch_above_a_hole_as_newest() -> None:
    """No ballot can propose anything else for a decided slot, so the report must win over every other."""
    raw = encode_batch(batch(b"x"))
    stored = StoredConfiguration(HIGH, {0: SlotRecord(LOW, -1, raw), 2: SlotRecord(None, 2, raw)})
    assert Acceptor(1, stored, decided=0).report(0) == [VoteReport(2, HIGH, raw)]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.integers(0, 1), st.integers(0, 3)), max_size=40))
def test_the_promise_never_falls_and_no_vote_is_above_it(steps: list[tuple[bool, int, int, int]]) -> None:
    """Whatever is asked in whatever order: refused below the promise, and each slot's vote only ever gets newer."""
    acceptor = Acceptor(1)
    for is_prepare, ballot_round, server, slot in steps:
        ballot = Ballot(ballot_round, MemberId.server(server))
        before, known = acceptor.promised, acceptor.votes.get(slot)
        if is_prepare and acceptor.can_promise(ballot):
            acceptor.promise(ballot)
        elif not is_prepare and acceptor.can_vote(ballot):
            vote(acceptor, ballot, slot)
            assert known is None or acceptor.votes[slot].ballot >= known.ballot
        assert acceptor.promised == max(before, ballot)
        assert all(kept.ballot <= acceptor.promised for kept in acceptor.votes.values())
