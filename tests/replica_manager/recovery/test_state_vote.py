"""States are voted on like replies.  Source: design "Resilient"; `L10`, `L11` of its list of traps."""

from replica_manager.cell.state_points import REPAIR, StatePoint
from replica_manager.identifiers import DomainId
from replica_manager.recovery.state_vote import StateVote, state_digest
from replica_manager.voting.vote_count import Exceeded, Pending, Stable, VoteOutcome

A0, A1, P0, P1 = (DomainId(name) for name in ("s0.g1", "s1.g1", "s0.g2", "s1.g2"))
GOOD, BAD = [b"g" * 32, b"h" * 32], [b"g" * 32, b"x" * 32]


def vote_of(*donors: DomainId) -> StateVote:
    return StateVote(StatePoint(9, REPAIR, donors, 0, (DomainId("s0.g3"),), 0, 0))


def outcome(vote: StateVote, gone: tuple[DomainId, ...] = (), convicted: tuple[DomainId, ...] = ()) -> VoteOutcome:
    absent = {*gone, *convicted}
    return vote.outcome(2, 1, lambda domain: domain not in convicted, lambda domain: domain not in absent)


def test_equal_states_of_the_threshold_are_the_state() -> None:
    """And who gave it is known."""
    vote = vote_of(A0, P1)
    assert vote.report(P1, GOOD)
    assert outcome(vote) == Pending()
    assert vote.report(A0, GOOD)
    assert outcome(vote) == Stable(state_digest(GOOD), ())
    assert vote.parts_of(state_digest(GOOD)) == GOOD
    assert vote.givers_of(state_digest(GOOD)) == [A0, P1]


def test_a_state_that_differs_is_a_dissenters() -> None:
    """It is proven faulty."""
    vote = vote_of(A0, A1, P1)
    for domain, parts in ((A0, GOOD), (A1, BAD), (P1, GOOD)):
        vote.report(domain, parts)
    assert outcome(vote) == Stable(state_digest(GOOD), (A1,))


def test_a_state_that_ends_earlier_is_another_one() -> None:
    """L11: the number of parts is voted on too."""
    vote = vote_of(A0, A1)
    vote.report(A0, GOOD)
    vote.report(A1, GOOD[:1])
    assert isinstance(outcome(vote), Exceeded)


def test_who_was_not_asked_and_who_gave_it_already_has_no_further_vote() -> None:
    """One vote per domain, the first."""
    vote = vote_of(A0, P1)
    assert not vote.report(P0, GOOD)
    assert vote.report(A0, BAD)
    assert not vote.report(A0, GOOD)
    assert vote.missing == (P1,)


def test_what_a_convicted_domain_gave_does_not_count() -> None:
    """Like its votes."""
    vote = vote_of(A0, A1, P1)
    for domain in (A0, A1):
        vote.report(domain, GOOD)
    assert outcome(vote, convicted=(A1,)) == Pending()


def test_a_donor_that_is_gone_is_not_waited_for_and_what_it_gave_counts() -> None:
    """It did nothing wrong by dying, but gives nothing more."""
    vote = vote_of(A0, P1)
    vote.report(A0, GOOD)
    assert isinstance(outcome(vote, gone=(P1,)), Exceeded)
    assert outcome(vote, gone=(A0,)) == Pending()
    vote.report(P1, GOOD)
    assert isinstance(outcome(vote, gone=(A0,)), Stable)
