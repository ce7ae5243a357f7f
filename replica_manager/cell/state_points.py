"""Positions at which domains give their state: for a checkpoint, or to fill fresh domains of one server.

One is open at a time: a domain that still streams its state for an earlier one could not give a later one's in time.

Source: design "Repair", "Proactive recovery" (`M12` of its list of traps: not every domain dumps its state).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.identifiers import DomainId

CHECKPOINT = "checkpoint"
REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class StatePoint:
    """An open point."""

    point: int
    kind: str
    """`checkpoint` or `repair`."""
    donors: tuple[DomainId, ...]
    """Who gives its state."""
    token: int = 0
    """Of a checkpoint: chosen by who asked for it."""
    domains: tuple[DomainId, ...] = ()
    """Of a repair: the fresh domains to be filled."""
    host: int = -1
    """Of a repair: their server."""
    attempt: int = 0

    def without(self, domain: DomainId) -> "StatePoint | None":
        """Return the point when a fresh domain needs nothing more; None: nobody needs it any more."""
        left = tuple(other for other in self.domains if other != domain)
        if not left:
            return None
        return StatePoint(self.point, self.kind, self.donors, self.token, left, self.host, self.attempt)

    def row(self) -> list[object]:
        """Return everything as a list."""
        return [self.point, self.kind, self.donors, self.token, self.domains, self.host, self.attempt]

    @classmethod
    def of_row(cls, row: Sequence[object]) -> "StatePoint":
        """Return what `row` wrote."""
        point, kind, donors, token, domains, host, attempt = row
        assert isinstance(point, int)
        assert isinstance(kind, str)
        assert isinstance(donors, list)
        assert isinstance(token, int)
        assert isinstance(domains, list)
        assert isinstance(host, int)
        assert isinstance(attempt, int)
        names = tuple(map(DomainId, domains))
        return cls(point, kind, tuple(map(DomainId, donors)), token, names, host, attempt)


def choose_donors(
    active: Sequence[DomainRecord], passive: Sequence[DomainRecord], threshold: int, host: int, attempt: int
) -> tuple[DomainId, ...]:
    """Return who gives its state for a repair on server `host`.

    Sleepers first, for it costs no client anything; of the active ones as few as reach the threshold, the host's own
    first (its parts need not travel), never-suspected ones before others.  If that was not enough, everybody.
    """
    ranked = sorted(active, key=lambda record: (bool(record.suspicion), record.server != host, record.domain))
    missing = max(0, threshold - len(passive))
    chosen = [*passive, *(ranked if attempt > 0 else ranked[:missing])]
    return tuple(sorted(record.domain for record in chosen if record.role is not Role.STARTING))
