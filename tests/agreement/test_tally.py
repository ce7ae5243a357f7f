"""What a learner counts, and what it does not."""

from agreement.identifiers import Ballot
from agreement.tally import Tally
from tests.agreement.local_cell import S0, S1, S2, W0
from tests.agreement.test_quorum import cell

LOW, HIGH = Ballot(1, S0), Ballot(2, S1)
RULE = cell(1).rule


def test_a_quorum_of_one_ballot_decides() -> None:
    """As far as its shorter run reaches."""
    tally = Tally()
    assert tally.record_votes(S0, LOW, 0, 5)
    assert tally.decided_through(RULE, -1) == -1
    assert tally.record_votes(S1, LOW, 0, 3)
    assert tally.decided_through(RULE, -1) == 3


def test_votes_of_different_ballots_are_not_added() -> None:
    """Two members that voted in different ballots may have voted for different batches."""
    tally = Tally()
    tally.record_votes(S0, LOW, 0, 5)
    tally.record_votes(S1, HIGH, 0, 5)
    assert tally.decided_through(RULE, -1) == -1
    assert not tally.record_votes(S0, LOW, 0, 9)
    tally.record_votes(W0, HIGH, 0, 2)
    assert tally.decided_through(RULE, -1) == 2


def test_what_is_said_again_or_late_is_no_news() -> None:
    """Duplicates and overtaken messages change nothing."""
    tally = Tally()
    assert tally.record_votes(S0, LOW, 2, 5)
    assert not tally.record_votes(S0, LOW, 2, 5)
    assert not tally.record_votes(S0, LOW, 2, 4)
    assert tally.record_votes(S0, LOW, 1, 5)
    assert tally.voted_through(S0) == 5
    assert tally.voted_through(S2) == -1


def test_the_leader_s_word_counts_for_its_ballot() -> None:
    """It knows the votes of witnesses, which servers do not."""
    tally = Tally()
    tally.record_votes(S1, HIGH, 0, 0)
    tally.record_decided(LOW, 9)
    assert tally.decided_through(RULE, -1) == -1
    tally.record_decided(HIGH, 4)
    tally.record_decided(HIGH, 3)
    assert tally.decided_through(RULE, -1) == 4
