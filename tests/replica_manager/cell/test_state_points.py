"""Who gives its state for a repair.  Source: design "Repair"; `M12` of its list of traps."""

import pytest

from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.cell.state_points import REPAIR, StatePoint, choose_donors
from replica_manager.identifiers import DomainId


def record(name: str, role: Role, suspicion: str = "") -> DomainRecord:
    return DomainRecord(DomainId(name), role, True, "", 0, suspicion)


def actives(*names: str) -> list[DomainRecord]:
    return [record(name, Role.ACTIVE) for name in names]


def passives(*names: str) -> list[DomainRecord]:
    return [record(name, Role.PASSIVE) for name in names]


def test_sleepers_alone_give_their_state_when_they_are_enough() -> None:
    """M12: it costs no client anything."""
    donors = choose_donors(actives("s0.g1", "s1.g1", "s2.g1"), passives("s0.g2", "s1.g2", "s2.g2"), 3, 0, attempt=0)
    assert donors == ("s0.g2", "s1.g2", "s2.g2")


@pytest.mark.parametrize(("host", "chosen"), [(0, "s0.g1"), (1, "s1.g1")])
def test_of_the_active_ones_as_few_as_are_missing_and_the_hosts_own_first(host: int, chosen: str) -> None:
    """Its parts need not travel."""
    donors = choose_donors(actives("s0.g1", "s1.g1"), passives("s1.g2"), 2, host, attempt=0)
    assert set(donors) == {"s1.g2", chosen}


def test_a_suspected_active_one_is_asked_last() -> None:
    """It may not answer."""
    suspected = record("s0.g1", Role.ACTIVE, "late")
    donors = choose_donors([suspected, *actives("s1.g1")], passives("s1.g2"), 2, 0, attempt=0)
    assert donors == ("s1.g1", "s1.g2")


def test_if_that_was_not_enough_everybody_gives_its_state() -> None:
    """The next attempt."""
    donors = choose_donors(actives("s0.g1", "s1.g1"), passives("s0.g2", "s1.g2"), 2, 0, attempt=1)
    assert donors == ("s0.g1", "s0.g2", "s1.g1", "s1.g2")


def test_a_point_lasts_until_its_last_fresh_domain_needs_it_no_more() -> None:
    """A server that rejoins fills two."""
    first, second = DomainId("s0.g3"), DomainId("s0.g4")
    point = StatePoint(9, REPAIR, (DomainId("s1.g2"),), 0, (first, second), 0, 2)
    rest = point.without(first)
    assert rest is not None
    assert rest.domains == (second,)
    assert (rest.point, rest.donors, rest.host, rest.attempt) == (9, ("s1.g2",), 0, 2)
    assert rest.without(second) is None
