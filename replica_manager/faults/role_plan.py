"""From the roles that domains have to the next step towards those that they should have.

Wanted: `T` active domains and `extra` more, one on each live server where possible, never-suspected ones first.  One
step at a time: every ordered step changes what is observed, and planning again gives the rest.

Safety: a step is an entry that carries what its proposer had seen, and is void if roles changed since; a demotion is
void if fewer than `T` domains would stay.  So two planners, or a planner and a fault, cannot shift each other's count.

Source: SPARE §4.4.5, §4.12.3; design "Back to normal" (`L5` of its list of traps).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from replica_manager.cell.roles import DomainRecord
from replica_manager.identifiers import DomainId


class Step(NamedTuple):
    """What to order."""

    domain: DomainId
    is_promotion: bool
    """Else a demotion."""
    reason: str


def plan_roles(
    active: Sequence[DomainRecord],
    passive: Sequence[DomainRecord],
    threshold: int,
    extra: int,
    voted: Collection[DomainId] | None,
) -> Step | None:
    """Return the next step; None: roles are as wanted, or nothing can be done now.

    Args:
        active: all active domains.
        passive: all passive domains.
        threshold: `T`.
        extra: active domains wanted beyond `T`.
        voted: domains that have voted on the newest stable number; None: there is none to vote on.
    """
    clean = [record for record in passive if record.is_clean_passive]
    suspected = [record for record in active if record.suspicion]
    healthy = len(active) - len(suspected)
    wanted = threshold + extra
    if clean and healthy < wanted and len(active) < wanted + len(suspected):
        chosen = _to_promote(active, clean)
        return Step(chosen.domain, True, f"{healthy} of {wanted} wanted domains are active and not suspected")
    if len(active) > wanted:
        return _maybe_demote(active, threshold, voted)
    return _maybe_move(active, clean)


def _to_promote(active: Sequence[DomainRecord], clean: Sequence[DomainRecord]) -> DomainRecord:
    """Prefer the server with the fewest active domains that are not suspected."""
    load = Counter(record.server for record in active if not record.suspicion)
    return min(clean, key=lambda record: (load[record.server], record.server, record.domain))


def _maybe_demote(active: Sequence[DomainRecord], threshold: int, voted: Collection[DomainId] | None) -> Step | None:
    load = Counter(record.server for record in active)
    chosen = max(active, key=lambda record: (bool(record.suspicion), load[record.server], record.since, record.domain))
    staying = [record for record in active if record is not chosen]
    # `T` of those who stay must be able to answer alone: else the next request would stall for want of the one demoted.
    # Not all of them: two silent ones would keep each other active for ever.
    able = [record for record in staying if voted is None or record.domain in voted]
    if len(able) < threshold:
        return None
    reason = chosen.suspicion or f"{len(active)} domains are active, {threshold} suffice"
    return Step(chosen.domain, False, reason)


def _maybe_move(active: Sequence[DomainRecord], clean: Sequence[DomainRecord]) -> Step | None:
    """If a server has two active domains and another one with a clean sleeper has none, begin to move one."""
    load = Counter(record.server for record in active)
    idle = [record for record in clean if not load[record.server]]
    if not idle or max(load.values(), default=0) < 2:
        return None
    chosen = min(idle, key=lambda record: (record.server, record.domain))
    return Step(chosen.domain, True, f"server {chosen.server} has no active domain, another one has two")
