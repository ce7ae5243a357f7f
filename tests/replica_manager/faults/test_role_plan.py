"""The plan of roles ends, never goes below `T`, and spreads the active domains.

Source: design "Back to normal"; SPARE §4.4.5, §4.12.3; `L5` and `M13` of the design's list of traps.
"""

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.faults.role_plan import Step, plan_roles
from replica_manager.identifiers import DomainId

STEPS_MAX = 40
"""More than any table below can need: each domain changes its role a few times at most."""


class Table:
    """Roles of all domains, changed by steps as the cell state would change them."""

    def __init__(self, records: Sequence[DomainRecord]) -> None:
        self.records = {record.domain: record for record in records}
        self._position = itertools.count(1000)

    def in_role(self, role: Role) -> list[DomainRecord]:
        return [record for _, record in sorted(self.records.items()) if record.role is role]

    def active(self) -> list[DomainRecord]:
        return self.in_role(Role.ACTIVE)

    def plan(self, threshold: int, extra: int, voted: set[DomainId] | None = None) -> Step | None:
        return plan_roles(self.active(), self.in_role(Role.PASSIVE), threshold, extra, voted)

    def carry_out(self, step: Step) -> None:
        role = Role.ACTIVE if step.is_promotion else Role.PASSIVE
        record = self.records[step.domain]
        assert record.role is not role, "a step changes something"
        self.records[step.domain] = record._replace(role=role, since=next(self._position))


def record_of(name: str, role: Role, suspicion: str = "", since: int = 0) -> DomainRecord:
    return DomainRecord(DomainId(name), role, True, "", since, suspicion)


roles = st.sampled_from([Role.ACTIVE, Role.PASSIVE, Role.PASSIVE, Role.STARTING, Role.RETIRED])
suspicions = st.sampled_from(["", "", "late"])


@st.composite
def tables(draw: st.DrawFn) -> list[DomainRecord]:
    records = []
    for server in range(draw(st.integers(1, 4))):
        for generation in range(1, draw(st.integers(1, 3)) + 1):
            since = draw(st.integers(0, 9))
            records.append(record_of(f"s{server}.g{generation}", draw(roles), draw(suspicions), since))
    return records


@given(tables(), st.integers(1, 4), st.integers(0, 2))
def test_from_any_roles_the_plan_ends_never_below_the_threshold_and_with_clean_domains_spread(
    records: list[DomainRecord], threshold: int, extra: int
) -> None:
    """Planned again after every step; every active domain has voted."""
    table = Table(records)
    wanted = threshold + extra
    for _ in range(STEPS_MAX):
        before = len(table.active())
        step = table.plan(threshold, extra)
        if step is None:
            break
        table.carry_out(step)
        assert len(table.active()) >= min(before, threshold), "a step never takes the cell below T"
    else:
        raise AssertionError(f"the plan does not end: {step}")
    active = table.active()
    clean = [record for record in table.in_role(Role.PASSIVE) if not record.suspicion]
    healthy = [record for record in active if not record.suspicion]
    assert len(healthy) >= wanted or not clean, "clean sleepers are used while too few healthy ones are active"
    assert len(active) <= wanted, "not more than wanted"
    busy = {record.server for record in active}
    idle = [record for record in clean if record.server not in busy]
    assert not idle or len(busy) == len(active), "one per live server where possible"


@given(tables(), st.integers(1, 4), st.integers(0, 2), st.data())
def test_a_fault_after_any_prefix_of_the_plan_does_no_harm(
    records: list[DomainRecord], threshold: int, extra: int, data: st.DataObject
) -> None:
    """Between two steps domains die or become suspected; planning again still ends."""
    table = Table(records)
    for _ in range(STEPS_MAX + len(records)):
        step = table.plan(threshold, extra)
        if step is None:
            return
        table.carry_out(step)
        present = [name for name, record in table.records.items() if record.role is not Role.RETIRED]
        victim = data.draw(st.sampled_from([None, None, *present]))
        if victim is not None:
            dies = data.draw(st.booleans())
            record = table.records[victim]
            table.records[victim] = record._replace(role=Role.RETIRED) if dies else record._replace(suspicion="late")
    raise AssertionError("the plan does not end")


def test_nothing_is_planned_for_a_cell_as_it_starts() -> None:
    """One active domain on each server."""
    table = Table([record_of(f"s{s}.g{g}", Role.ACTIVE if g == 1 else Role.PASSIVE) for s in (0, 1) for g in (1, 2)])
    assert table.plan(2, 0) is None


def test_a_suspected_active_domain_is_replaced_before_it_is_demoted() -> None:
    """Never below T on the way."""
    table = Table([record_of("s0.g1", Role.ACTIVE, "late"), record_of("s0.g2", Role.PASSIVE)])
    table.records |= Table([record_of("s1.g1", Role.ACTIVE), record_of("s1.g2", Role.PASSIVE)]).records
    steps = []
    while (step := table.plan(2, 0)) is not None:
        steps.append((step.domain, step.is_promotion))
        table.carry_out(step)
    assert steps == [("s0.g2", True), ("s0.g1", False)]


def test_nobody_is_demoted_before_those_who_stay_have_voted() -> None:
    """Else the next request would stall for want of the one demoted."""
    table = Table([record_of("s0.g1", Role.ACTIVE), record_of("s1.g1", Role.ACTIVE), record_of("s1.g2", Role.ACTIVE)])
    voted = {DomainId("s1.g1"), DomainId("s1.g2")}
    assert table.plan(2, 0, voted) is None
    step = table.plan(2, 0, voted | {DomainId("s0.g1")})
    assert step is not None
    assert not step.is_promotion
    assert step.domain == "s1.g2"


def test_a_suspected_sleeper_is_not_promoted() -> None:
    """It may be offered when nobody else comes forward; the planner leaves it to repair."""
    table = Table([record_of("s0.g1", Role.ACTIVE), record_of("s1.g2", Role.PASSIVE, "late")])
    assert table.plan(2, 0) is None


def test_extra_active_domains_are_kept() -> None:
    """M13: for services whose replicas are slow at times."""
    table = Table([record_of(f"s{s}.g{g}", Role.ACTIVE if g == 1 else Role.PASSIVE) for s in (0, 1) for g in (1, 2)])
    step = table.plan(2, 1)
    assert step is not None
    assert step.is_promotion
    table.carry_out(step)
    assert table.plan(2, 1) is None
