"""Positions at which domains give their state: for a checkpoint, to fill fresh domains, or for a file of one server.

One is open at a time: a domain that still streams its state for an earlier one could not give a later one's in time.

Source: design "Repair", "Proactive recovery" (`M12` of its list of traps: not every domain dumps its state).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.identifiers import DomainId

CHECKPOINT = "checkpoint"
REPAIR = "repair"
RECOVERY = "recovery"
EXPORT = "export"


@dataclass(frozen=True, slots=True)
class StatePoint:
    """An open point."""

    point: int
    kind: str
    """`checkpoint`, `repair`, `recovery` or `export`."""
    donors: tuple[DomainId, ...]
    """Who gives its state."""
    token: int = 0
    """Of a checkpoint or an export: chosen by who asked for it; of a recovery: its number."""
    domains: tuple[DomainId, ...] = ()
    """Of a repair or a recovery: the fresh domains to be filled."""
    host: int = -1
    """Of a repair: their server; of an export: the one that writes the file."""
    attempt: int = 0

    @property
    def gives_way(self) -> bool:
        """Whether a repair or a recovery may take its place: it serves an operator, they serve the cell."""
        return self.kind in (CHECKPOINT, EXPORT)

    @property
    def is_read(self) -> bool:
        """Whether the parts themselves are wanted, and not their digests alone."""
        return self.kind != CHECKPOINT

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
    """Return who gives its state for a repair, or an export, on server `host`.

    All clean sleepers, for it costs no client anything; of the active ones as few as reach the threshold, the host's
    own first (its parts need not travel).  Suspected ones, which may never answer, only if the others are too few.  If
    that was not enough, everybody.
    """

    def rank(record: DomainRecord) -> tuple[bool, bool, bool, DomainId]:
        is_active = record.role is Role.ACTIVE
        return bool(record.suspicion), is_active, record.server != host, record.domain

    ranked = sorted((*active, *passive), key=rank)
    clean = sum(1 for record in passive if record.is_clean_passive)
    chosen = ranked if attempt > 0 else ranked[: max(threshold, clean)]
    return tuple(sorted(record.domain for record in chosen))
