"""What entries about states of domains do to the cell state: checkpoints, exports, repairs, domains that are filled.

Source: design "Repair", "Proactive recovery".
"""

from typing import TYPE_CHECKING

from replica_manager.cell.effects import (
    DomainFilled,
    Effect,
    RepairRefused,
    StateCompared,
    StateEnded,
    StateRefused,
    StateWanted,
)
from replica_manager.cell.entries import DomainReady, RecoveryPoint, RepairPoint
from replica_manager.cell.recovery_entries import apply_recovery_point, note_filled
from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import CHECKPOINT, EXPORT, RECOVERY, REPAIR, StatePoint, choose_donors
from replica_manager.identifiers import DomainId, server_of

if TYPE_CHECKING:
    from replica_manager.cell.cell_state import CellState


def apply_point(cell: "CellState", sequence: int, server: int, entry: RecoveryPoint) -> tuple[Effect, ...]:
    """Domains give their state as of this position, as `server` ordered."""
    match entry.kind:
        case kind if kind == RECOVERY:
            return apply_recovery_point(cell, sequence, entry.token)
        case kind if kind == EXPORT:
            return _apply_export(cell, sequence, server, entry)
        case _:
            return _apply_checkpoint(cell, sequence, entry.token)


def _apply_checkpoint(cell: "CellState", sequence: int, token: int) -> tuple[Effect, ...]:
    """Every domain gives its state as of this position, unless another point is open."""
    if cell.state_point is not None:
        return (StateRefused(token, cell.state_point.point),)
    donors = cell.domains_in(Role.ACTIVE) + cell.domains_in(Role.PASSIVE)
    names = tuple(sorted(record.domain for record in donors))
    cell.state_point = StatePoint(sequence, CHECKPOINT, names, token)
    return (StateWanted(cell.state_point),)


def _apply_export(cell: "CellState", sequence: int, server: int, entry: RecoveryPoint) -> tuple[Effect, ...]:
    """Give the server that ordered this a state to write.

    A further attempt takes the place of the one before; so does another export of that server, which has given the
    former one up: its end may come after this entry.
    """
    former = cell.state_point
    if not cell.is_live(server):
        return ()
    if former is not None and (former.kind, former.host) != (EXPORT, server):
        return (StateRefused(entry.token, former.point),)
    effects = () if former is None else (StateEnded(former.point),)
    active, passive = cell.domains_in(Role.ACTIVE), cell.domains_in(Role.PASSIVE)
    donors = choose_donors(active, passive, cell.threshold, server, entry.attempt)
    cell.state_point = StatePoint(sequence, EXPORT, donors, entry.token, (), server, entry.attempt)
    return (*effects, StateWanted(cell.state_point))


def apply_closed(cell: "CellState", server: int, point: int, digests: list[tuple[str, bytes]]) -> tuple[Effect, ...]:
    """Every domain has given its state at a checkpoint, or is gone; or an export has ended, as its server says."""
    current = cell.state_point
    if current is None or current.point != point or not current.gives_way:
        return ()
    if current.kind == EXPORT:
        return end_export(cell, server)
    cell.state_point = None
    return (StateCompared(point, current.token, tuple((name, digest) for name, digest in digests)),)


def end_export(cell: "CellState", server: int) -> tuple[Effect, ...]:
    """A server writes no file any more."""
    current = cell.state_point
    if current is None or (current.kind, current.host) != (EXPORT, server):
        return ()
    cell.state_point = None
    return (StateEnded(current.point),)


def apply_repair(cell: "CellState", sequence: int, entry: RepairPoint) -> tuple[Effect, ...]:
    """Begin to fill fresh domains; a further attempt of the same server takes the place of the one before.

    A checkpoint or an export gives way: one domain that does not give its state would else keep every repair out, also
    its own.
    """
    if not cell.table.may_begin(entry.domains) or cell.table.is_overtaken(entry.domains, entry.seen):
        return (RepairRefused(tuple(entry.domains)),)
    host = int(server_of(DomainId(entry.domains[0])))
    former = cell.state_point
    if former is not None and not former.gives_way and former.host != host:
        return (RepairRefused(tuple(entry.domains)),)
    effects: list[Effect] = [] if former is None else [StateEnded(former.point)]
    if former is not None and former.gives_way:
        effects.append(StateRefused(former.token, sequence))
    effects += cell.table.begin(entry.domains, "to be filled", sequence)
    active, passive = cell.domains_in(Role.ACTIVE), cell.domains_in(Role.PASSIVE)
    donors = choose_donors(active, passive, cell.threshold, host, entry.attempt)
    names = tuple(map(DomainId, entry.domains))
    cell.state_point = StatePoint(sequence, REPAIR, donors, 0, names, host, entry.attempt)
    return (*effects, StateWanted(cell.state_point))


def apply_ready(cell: "CellState", sequence: int, entry: DomainReady) -> tuple[Effect, ...]:
    """A fresh domain holds the agreed state."""
    record = cell.table.present(entry.domain)
    if record is None or record.role is not Role.STARTING:
        return ()
    filled = note_filled(cell, record)
    if filled is not None:
        return (*filled, *release_point(cell, record.domain))
    if not cell.is_live(record.server):
        return (DomainFilled(record.domain), *release_point(cell, record.domain))
    ready = cell.table.change(record, Role.PASSIVE, "repaired", sequence)
    return (ready, *release_point(cell, record.domain))


def release_point(cell: "CellState", domain: DomainId) -> tuple[Effect, ...]:
    """A fresh domain is filled or gone; when none is left the point has ended."""
    current = cell.state_point
    if current is None or domain not in current.domains:
        return ()
    cell.state_point = current.without(domain)
    return () if cell.state_point is not None else (StateEnded(current.point),)
