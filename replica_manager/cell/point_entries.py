"""What entries about states of domains do to the cell state: checkpoints, repairs, fresh domains that are filled.

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
from replica_manager.cell.entries import DomainReady, RepairPoint
from replica_manager.cell.recovery_entries import note_filled
from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import CHECKPOINT, REPAIR, StatePoint, choose_donors
from replica_manager.identifiers import DomainId, server_of

if TYPE_CHECKING:
    from replica_manager.cell.cell_state import CellState


def apply_checkpoint(cell: "CellState", sequence: int, token: int) -> tuple[Effect, ...]:
    """Every domain gives its state as of this position, unless another point is open."""
    if cell.state_point is not None:
        return (StateRefused(token, cell.state_point.point),)
    donors = cell.domains_in(Role.ACTIVE) + cell.domains_in(Role.PASSIVE)
    names = tuple(sorted(record.domain for record in donors))
    cell.state_point = StatePoint(sequence, CHECKPOINT, names, token)
    return (StateWanted(cell.state_point),)


def apply_closed(cell: "CellState", point: int, digests: list[tuple[str, bytes]]) -> tuple[Effect, ...]:
    """Every domain has given its state at a checkpoint, or is gone."""
    current = cell.state_point
    if current is None or (current.point, current.kind) != (point, CHECKPOINT):
        return ()
    cell.state_point = None
    return (StateCompared(point, current.token, tuple((name, digest) for name, digest in digests)),)


def apply_repair(cell: "CellState", sequence: int, entry: RepairPoint) -> tuple[Effect, ...]:
    """Begin to fill fresh domains; a further attempt of the same server takes the place of the one before.

    A checkpoint gives way: one domain that does not give its state would else keep every repair out, also its own.
    """
    if not cell.table.may_begin(entry.domains) or cell.table.is_overtaken(entry.domains, entry.seen):
        return (RepairRefused(tuple(entry.domains)),)
    host = int(server_of(DomainId(entry.domains[0])))
    former = cell.state_point
    if former is not None and former.kind != CHECKPOINT and former.host != host:
        return (RepairRefused(tuple(entry.domains)),)
    effects: list[Effect] = [] if former is None else [StateEnded(former.point)]
    if former is not None and former.kind == CHECKPOINT:
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
