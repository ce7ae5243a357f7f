"""Requests that kill who executes them.  Source: design "More rounds, and more than f faults"; `L13`."""

from replica_manager.cell.poison import IS_STABLE, NO_FRESH_DOMAIN, Poison


def held_after(deaths: int, f_prime: int) -> Poison:
    poison = Poison()
    assert [poison.note_death(7, f_prime) for _ in range(deaths)].count(True) <= 1
    return poison


def test_a_number_is_held_after_more_than_f_prime_deaths() -> None:
    """Up to f' are within the bound: others are fed it."""
    assert not held_after(1, 1).is_held(7)
    assert held_after(2, 1).is_held(7)
    assert not held_after(2, 2).is_held(7)


def test_deaths_at_different_numbers_are_no_poison() -> None:
    """Each of them may be an accident."""
    poison = Poison()
    assert not any(poison.note_death(sequence, 1) for sequence in range(1, 20))


def test_holding_is_told_once() -> None:
    """A third death changes nothing."""
    poison = held_after(2, 1)
    assert not poison.note_death(7, 1)
    assert poison.is_held(7)


def test_a_retry_counts_deaths_anew() -> None:
    """Else the next death would hold it again at once."""
    poison = held_after(2, 1)
    poison.retry(7)
    assert not poison.is_held(7)
    assert not poison.note_death(7, 1)
    assert poison.note_death(7, 1)


def test_a_number_is_skipped_when_every_live_server_consents_and_some_domain_has_nothing_of_it() -> None:
    """Stability is no agreed knowledge."""
    poison = held_after(2, 1)
    poison.begin_skipping(7, token=3)
    assert poison.consent(0, 7, is_open=True, has_fresh_domain=False) is None
    assert poison.conclude([0, 1]) == []
    assert poison.consent(1, 7, is_open=True, has_fresh_domain=True) is None
    assert poison.conclude([0, 1]) == [(7, 3, "")]
    assert poison.skipped == {7}
    assert not poison.is_held(7)
    assert not poison.note_death(7, 0), "a late death at a skipped number holds nothing"


def test_who_left_is_not_waited_for() -> None:
    """Its answer will not come."""
    poison = held_after(2, 1)
    poison.begin_skipping(7, token=3)
    poison.consent(1, 7, is_open=True, has_fresh_domain=True)
    assert poison.conclude([1]) == [(7, 3, "")]


def test_without_a_domain_that_has_nothing_of_it_a_number_is_not_skipped() -> None:
    """The cell would have no state to go on from."""
    poison = held_after(2, 1)
    poison.begin_skipping(7, token=3)
    for server in (0, 1):
        poison.consent(server, 7, is_open=True, has_fresh_domain=False)
    assert poison.conclude([0, 1]) == [(7, 3, NO_FRESH_DOMAIN)]
    assert poison.is_held(7)


def test_a_server_that_has_it_stable_objects_for_all() -> None:
    """What was answered is not taken back."""
    poison = held_after(2, 1)
    poison.begin_skipping(7, token=3)
    assert poison.consent(1, 7, is_open=False, has_fresh_domain=True) == (3, IS_STABLE.format(1))
    assert poison.consent(0, 7, is_open=True, has_fresh_domain=True) is None
    assert poison.conclude([0, 1]) == []
    assert not poison.skipped


def test_an_answer_that_nobody_asked_for_is_nothing() -> None:
    """Of a question that has ended."""
    poison = Poison()
    assert poison.consent(0, 7, is_open=False, has_fresh_domain=True) is None


def test_everything_below_stable_all_is_forgotten() -> None:
    """L12: the state would grow with every accident else."""
    poison = held_after(2, 1)
    poison.note_death(9, 1)
    poison.skipped.add(6)
    poison.drop_through(8)
    assert poison.rows() == [[(9, 1)], [], [], []]


def test_all_of_it_travels() -> None:
    """S6: what `apply` reads is in the snapshot."""
    poison = held_after(2, 1)
    poison.skipped.add(6)
    poison.begin_skipping(7, token=3)
    poison.consent(0, 7, is_open=True, has_fresh_domain=True)
    assert Poison.of_rows(poison.rows()).rows() == poison.rows()
