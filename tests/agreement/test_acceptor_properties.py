"""An acceptor asked anything in any order, and what a restart leaves of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement.acceptor import Acceptor
from agreement.changes import Batch, Entry, encode_batch
from agreement.identifiers import Ballot, MemberId
from agreement.messages import VoteReport
from agreement.records import SlotRecord, StoredConfiguration

S0, S1 = MemberId.server(0), MemberId.server(1)
LOW, MIDDLE, HIGH = Ballot(1, S0), Ballot(1, S1), Ballot(2, S0)


def batch(text: bytes) -> Batch:
    """A batch of one entry."""
    return Batch((Entry(0, 1, 1, text),))


def vote(acceptor: Acceptor, ballot: Ballot, slot: int, text: bytes = b"x", first: int = 0) -> None:
    """Vote for a batch of one entry."""
    acceptor.vote(ballot, first, slot, encode_batch(batch(text)), batch(text))


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


def test_a_restart_leaves_out_what_is_decided_and_what_was_only_learned() -> None:
    """A batch learned to be decided, above a gap, is no vote; it must not count as one in whatever ballot comes."""
    raw = encode_batch(batch(b"x"))
    slots = {0: SlotRecord(LOW, -1, raw), 1: SlotRecord(LOW, -1, raw), 2: SlotRecord(None, 2, raw)}
    assert Acceptor(1, StoredConfiguration(HIGH, slots), decided=0).report(0) == [VoteReport(1, LOW, raw)]


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
