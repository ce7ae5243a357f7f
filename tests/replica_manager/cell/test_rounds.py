"""Which `Stalled` opens a round, which `Offer` is accepted.

Source: design "Stalled verification"; `L2` and `L12` of its list of traps.
"""

from replica_manager.cell.entries import Stalled
from replica_manager.cell.rounds import Rounds


def stalled(sequence: int, seen: int) -> Stalled:
    return Stalled(sequence, seen, [], 1, True)


def test_a_second_stalled_of_the_same_number_by_who_had_not_seen_the_round_is_void() -> None:
    """Every server orders one; one round is enough."""
    rounds = Rounds()
    rounds.open(5, 1, position=10)
    assert rounds.is_void(stalled(5, seen=9))
    assert not rounds.is_void(stalled(5, seen=10)), "who had seen it wants another one"


def test_an_accepted_offer_for_a_lower_number_helps_a_higher_one_and_not_the_other_way_round() -> None:
    """The domain that was activated votes on every number from its cursor on."""
    rounds = Rounds()
    opened = rounds.open(5, 2, position=10)
    assert rounds.maybe_accept(opened.number, position=12)
    assert rounds.is_void(stalled(6, seen=11))
    assert rounds.is_void(stalled(5, seen=11))
    assert not rounds.is_void(stalled(4, seen=11))
    assert not rounds.is_void(stalled(6, seen=12))


def test_an_accepted_offer_of_a_round_for_every_number_helps_each() -> None:
    """A round that was opened because too few are active."""
    rounds = Rounds()
    opened = rounds.open(0, 1, position=10)
    rounds.maybe_accept(opened.number, position=12)
    assert rounds.is_void(stalled(1, seen=11))


def test_a_round_for_another_number_does_not_void() -> None:
    """L2: only an accepted offer of it would help."""
    rounds = Rounds()
    rounds.open(4, 1, position=10)
    assert not rounds.is_void(stalled(5, seen=9))


def test_offers_are_accepted_as_many_as_asked_for_of_the_current_round_only() -> None:
    """All managers accept the same ones."""
    rounds = Rounds()
    first = rounds.open(5, 2, position=10)
    assert [rounds.maybe_accept(first.number, position) for position in (11, 12, 13)] == [True, True, False]
    second = rounds.open(5, 1, position=14)
    assert not rounds.maybe_accept(first.number, position=15)
    assert rounds.maybe_accept(second.number, position=16)
    assert second.is_complete


def test_what_every_server_has_stable_needs_no_round() -> None:
    """L12: rounds are closed and forgotten below `stable_all`; the state would grow for ever else."""
    rounds = Rounds()
    for sequence in (5, 6, 7):
        opened = rounds.open(sequence, 1, position=10 + sequence)
        rounds.maybe_accept(opened.number, position=20 + sequence)
    rounds.drop_through(6)
    assert rounds.current is not None
    rounds.drop_through(7)
    assert rounds.current is None
    assert rounds.rows() == [None, 3, [], []]


def test_a_round_for_every_number_is_not_closed_by_progress() -> None:
    """Too few are still active."""
    rounds = Rounds()
    rounds.open(0, 1, position=10)
    rounds.drop_through(100)
    assert rounds.current is not None
