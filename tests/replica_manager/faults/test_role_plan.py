"""The planner's next step towards the roles that domains should have."""

from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.faults.role_plan import plan_roles
from replica_manager.identifiers import DomainId

THRESHOLD = 3


def active(name: str, suspicion: str = "") -> DomainRecord:
    return DomainRecord(DomainId(name), Role.ACTIVE, True, "", suspicion=suspicion, was_active=True)


HEALTHY = [active("s0.g3"), active("s1.g1"), active("s2.g1")]
SILENT = [active("s0.g1", "no vote in time"), active("s1.g2", "no vote in time")]
VOTED = [record.domain for record in HEALTHY]


def test_two_silent_domains_do_not_keep_each_other_active() -> None:
    """A demotion needs `T` domains that stay and have voted, not that everybody who stays has."""
    step = plan_roles([*HEALTHY, *SILENT], [], THRESHOLD, 0, VOTED)
    assert step is not None
    assert not step.is_promotion
    assert step.domain in {record.domain for record in SILENT}


def test_nobody_is_demoted_while_fewer_than_the_threshold_of_those_who_stay_have_voted() -> None:
    """The next request would stall for want of the one demoted."""
    assert plan_roles([*HEALTHY, *SILENT], [], THRESHOLD, 0, VOTED[:2]) is None
