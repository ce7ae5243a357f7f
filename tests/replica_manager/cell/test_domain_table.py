"""What becomes of domains.  Source: design "Back to normal", "Repair"; `M12`, `L9` of its list of traps."""

from replica_manager.cell.domain_table import RETIRED_KEPT, DomainTable
from replica_manager.cell.effects import RoleChanged
from replica_manager.cell.roles import Role
from replica_manager.identifiers import DomainId

ACTIVE, PASSIVE, FRESH = (DomainId(f"s0.g{generation}") for generation in (1, 2, 3))


def table_with_fresh(role: Role = Role.PASSIVE) -> DomainTable:
    """Server 0 has an active, a passive and a fresh domain."""
    table = DomainTable([0, 1])
    list(table.begin([FRESH], "to be filled", 5))
    table.change(table.records[FRESH], role, "repaired", 6)
    return table


def retired(table: DomainTable) -> list[DomainId]:
    effects = list(table.retire_surplus(9))
    assert all(isinstance(effect, RoleChanged) and effect.role is Role.RETIRED for effect in effects)
    return [effect.domain for effect in effects]


def test_a_cell_begins_with_an_active_and_a_passive_domain_on_each_server() -> None:
    """And nothing is surplus."""
    table = DomainTable([0, 1])
    assert [record.domain for record in table.in_role(Role.ACTIVE)] == ["s0.g1", "s1.g1"]
    assert [record.domain for record in table.in_role(Role.PASSIVE)] == ["s0.g2", "s1.g2"]
    assert retired(table) == []


def test_a_suspected_sleeper_is_retired_when_a_clean_one_is_there_and_not_before() -> None:
    """M12: the replacement is filled first."""
    table = table_with_fresh(Role.STARTING)
    table.suspect(table.records[PASSIVE], "late")
    assert retired(table) == []
    table.change(table.records[FRESH], Role.PASSIVE, "repaired", 6)
    assert retired(table) == [PASSIVE]
    assert "late" in table.records[PASSIVE].reason


def test_of_two_clean_sleepers_the_one_stays_that_was_never_active() -> None:
    """Its state was voted on all along; the other's is what it executed."""
    table = table_with_fresh()
    table.records[PASSIVE] = table.records[PASSIVE]._replace(was_active=True)
    assert retired(table) == [PASSIVE]


def test_of_two_that_were_never_active_the_newer_one_stays() -> None:
    """From a clean image."""
    assert retired(table_with_fresh()) == [PASSIVE]


def test_a_server_without_active_domain_keeps_both_sleepers() -> None:
    """One of them is about to be active."""
    table = table_with_fresh()
    table.change(table.records[ACTIVE], Role.RETIRED, "killed", 7)
    assert retired(table) == []


def test_another_servers_sleepers_are_no_replacement() -> None:
    """Redundancy is per server."""
    table = DomainTable([0, 1])
    table.suspect(table.records[PASSIVE], "late")
    assert retired(table) == []


def test_names_are_taken_once() -> None:
    """L9: votes of a domain of that name may still be on their way."""
    table = table_with_fresh(Role.STARTING)
    assert table.next_generation[0] == 4
    assert table.may_begin([FRESH]), "a further attempt with the same fresh domain"
    assert table.may_begin(["s0.g4"])
    table.change(table.records[FRESH], Role.RETIRED, "failed", 7)
    assert not table.may_begin([FRESH])
    assert not table.may_begin([ACTIVE])


def test_a_repair_is_of_one_server_and_of_different_domains() -> None:
    """What else could a manager order that has gone wrong?"""
    table = DomainTable([0, 1])
    assert not table.may_begin([])
    assert not table.may_begin(["s0.g3", "s1.g3"])
    assert not table.may_begin(["s0.g3", "s0.g3"])


def test_a_convicted_domain_counts_no_more_and_a_stopped_one_does() -> None:
    """It did nothing wrong by dying."""
    table = DomainTable([0, 1])
    table.change(table.records[ACTIVE], Role.RETIRED, "killed", 3)
    assert table.records[ACTIVE].is_counted
    table.convict(table.records[ACTIVE], "differs", 4)
    assert not table.records[ACTIVE].is_counted


def test_long_retired_domains_are_forgotten_but_for_the_newest_of_each_server() -> None:
    """A cell whose domains are replaced every hour for years would carry them all."""
    table = DomainTable([0, 1])
    for generation in range(3, 50):
        name = DomainId(f"s0.g{generation}")
        list(table.begin([name], "", generation))
        table.change(table.records[name], Role.RETIRED, "replaced", generation)
    table.forget_retired(stable_all=10)
    assert DomainId("s0.g9") not in table.records
    assert DomainId("s0.g10") in table.records, "not below stable_all"
    table.forget_retired(stable_all=1_000)
    kept = [record.domain for record in table.of_server(0) if record.role is Role.RETIRED]
    assert kept == [f"s0.g{generation}" for generation in range(50 - RETIRED_KEPT, 50)]
    assert table.next_generation[0] == 50


def test_all_of_it_travels() -> None:
    """S6."""
    table = table_with_fresh()
    table.suspect(table.records[PASSIVE], "late")
    assert DomainTable.of_rows([list(map(list, table.rows()[0])), table.rows()[1]]).rows() == table.rows()  # type: ignore[call-overload]
