"""States are voted on like replies, part by part.  Source: design "Resilient"; `L10`, `L11` of its list of traps."""

import random

from hypothesis import given
from hypothesis import strategies as st

from replica_manager.cell.state_points import REPAIR, StatePoint
from replica_manager.identifiers import DomainId
from replica_manager.recovery.state_vote import StateVote
from replica_manager.voting.vote_count import Exceeded, Pending, Stable, VoteOutcome

A0, A1, P0, P1 = (DomainId(name) for name in ("s0.g1", "s1.g1", "s0.g2", "s1.g2"))
GOOD, BAD = [b"g" * 32, b"h" * 32, b"i" * 32], [b"g" * 32, b"x" * 32, b"i" * 32]


def vote_of(*donors: DomainId) -> StateVote:
    return StateVote(StatePoint(9, REPAIR, donors, 0, (DomainId("s0.g3"),), 0, 0))


def give(vote: StateVote, domain: DomainId, parts: list[bytes]) -> bool:
    """A whole state at once."""
    return vote.report(domain, 0, parts, is_complete=True)


def judge(vote: StateVote, gone: tuple[DomainId, ...] = (), convicted: tuple[DomainId, ...] = ()) -> VoteOutcome:
    absent = {*gone, *convicted}
    return vote.judge(2, 1, lambda domain: domain not in convicted, lambda domain: domain not in absent)


def test_equal_states_of_the_threshold_are_the_state() -> None:
    """And who gave it is known."""
    vote = vote_of(A0, P1)
    assert give(vote, P1, GOOD)
    assert judge(vote) == Pending()
    assert vote.agreed == []
    assert give(vote, A0, GOOD)
    assert isinstance(judge(vote), Stable)
    assert (vote.agreed, vote.is_whole) == (GOOD, True)
    assert vote.dissenters() == []
    assert vote.copies(1, near=1) == [P1, A0]


def test_parts_are_agreed_on_while_the_rest_still_streams() -> None:
    """They can be handed on before the last one exists."""
    vote = vote_of(A0, P1)
    vote.report(A0, 0, GOOD[:2], is_complete=False)
    vote.report(P1, 0, GOOD[:1], is_complete=False)
    assert judge(vote) == Pending()
    assert (vote.agreed, vote.is_whole) == (GOOD[:1], False)
    vote.report(P1, 1, GOOD[1:], is_complete=True)
    assert judge(vote) == Pending()
    assert (vote.agreed, vote.is_whole) == (GOOD[:2], False)
    vote.report(A0, 2, GOOD[2:], is_complete=True)
    assert isinstance(judge(vote), Stable)
    assert (vote.agreed, vote.is_whole) == (GOOD, True)


def test_what_comes_twice_or_after_a_gap_changes_nothing() -> None:
    """Reports are said again and again, and one in between may be lost."""
    vote = vote_of(A0, P1)
    assert vote.report(A0, 0, GOOD[:2], is_complete=False)
    assert not vote.report(A0, 0, GOOD[:2], is_complete=False)
    assert not vote.report(P1, 1, GOOD[1:], is_complete=True), "a gap"
    assert vote.report(A0, 1, GOOD[1:], is_complete=True)
    assert vote.missing == (P1,)
    assert give(vote, P1, GOOD)
    judge(vote)
    assert vote.agreed == GOOD
    assert vote.part_count == 2 * len(GOOD)


def test_a_state_that_differs_is_a_dissenters_from_that_part_on() -> None:
    """It is proven faulty; its other parts are as good as anybody's."""
    vote = vote_of(A0, A1, P1)
    for domain, parts in ((A0, GOOD), (A1, BAD), (P1, GOOD)):
        give(vote, domain, parts)
    assert isinstance(judge(vote), Stable)
    assert vote.agreed == GOOD
    assert vote.dissenters() == [A1]
    assert vote.copies(1, near=1) == [P1, A0]
    assert vote.copies(2, near=1) == [A1, P1, A0]


def test_who_differs_in_one_part_has_no_vote_on_the_later_ones() -> None:
    """L10: two who were wrong before would else decide."""
    vote = vote_of(A0, A1, P1)
    give(vote, A0, GOOD)
    give(vote, A1, BAD)
    assert judge(vote) == Pending()
    assert vote.agreed == GOOD[:1]


def test_a_state_that_ends_earlier_is_another_one() -> None:
    """L11: the number of parts is voted on too."""
    vote = vote_of(A0, A1)
    give(vote, A0, GOOD)
    give(vote, A1, GOOD[:1])
    assert isinstance(judge(vote), Exceeded)
    assert not vote.is_whole


def test_who_ends_early_or_goes_on_dissents() -> None:
    """Even if all that it gave is right."""
    vote = vote_of(A0, A1, P0, P1)
    for domain, parts in ((A0, GOOD), (A1, GOOD), (P0, GOOD[:2]), (P1, [*GOOD, b"j" * 32])):
        give(vote, domain, parts)
    vote.judge(2, 2, lambda _: True, lambda _: True)
    assert vote.is_whole
    assert vote.dissenters() == [P0, P1]


def test_who_was_not_asked_and_who_gave_it_already_has_no_further_vote() -> None:
    """One vote per domain, the first."""
    vote = vote_of(A0, P1)
    assert not give(vote, P0, GOOD)
    assert give(vote, A0, BAD)
    assert not give(vote, A0, GOOD)
    assert vote.missing == (P1,)


def test_what_a_convicted_domain_gave_does_not_count() -> None:
    """Like its votes."""
    vote = vote_of(A0, A1, P1)
    for domain in (A0, A1):
        give(vote, domain, GOOD)
    assert judge(vote, convicted=(A1,)) == Pending()
    assert vote.agreed == []


def test_a_donor_that_is_gone_is_not_waited_for_and_what_it_gave_counts() -> None:
    """It did nothing wrong by dying, but gives nothing more."""
    vote = vote_of(A0, P1)
    give(vote, A0, GOOD)
    assert isinstance(judge(vote, gone=(P1,)), Exceeded)
    assert judge(vote, gone=(A0,)) == Pending()
    give(vote, P1, GOOD)
    assert isinstance(judge(vote, gone=(A0,)), Stable)


states = st.lists(st.sampled_from([b"a" * 32, b"b" * 32]), max_size=4)


@given(st.lists(states, min_size=4, max_size=4), st.randoms(use_true_random=False))
def test_however_parts_come_the_same_is_agreed_on(all_states: list[list[bytes]], order: random.Random) -> None:
    """Servers hear of them in different orders; what one has agreed on no other contradicts."""
    donors = (A0, A1, P0, P1)
    whole = vote_of(*donors)
    for domain, parts in zip(donors, all_states, strict=True):
        give(whole, domain, parts)
    piecewise = vote_of(*donors)
    left = {domain: (0, parts) for domain, parts in zip(donors, all_states, strict=True)}
    while left:
        domain = order.choice(sorted(left))
        first, parts = left.pop(domain)
        count = order.randint(0, len(parts) - first)
        is_complete = first + count == len(parts)
        piecewise.report(domain, first, parts[first : first + count], is_complete=is_complete)
        piecewise.judge(3, 1, lambda _: True, lambda _: True)
        if not is_complete:
            left[domain] = (first + count, parts)
    whole.judge(3, 1, lambda _: True, lambda _: True)
    assert (piecewise.agreed, piecewise.is_whole) == (whole.agreed, whole.is_whole)
