"""What the entries of a proactive recovery do to the cell state.

Source: SPARE §4.5; design "Proactive recovery" (`L6`, `L10` of its list of traps).
"""

from typing import TYPE_CHECKING

from replica_manager.cell.effects import (
    DomainFilled,
    Effect,
    RecoveryBegan,
    RecoveryEnded,
    RecoveryRefused,
    RoleChanged,
    StateEnded,
    StateRefused,
    StateWanted,
)
from replica_manager.cell.entries import NextBooted, RecoveryAborted, RecoveryBegun, Switch
from replica_manager.cell.recoveries import LIGHTWEIGHT, RESILIENT, Recovery, Renewal
from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.cell.state_points import RECOVERY, StatePoint
from replica_manager.identifiers import DomainId, server_of

if TYPE_CHECKING:
    from replica_manager.cell.cell_state import CellState


def apply_begun(cell: "CellState", sequence: int, entry: RecoveryBegun) -> tuple[Effect, ...]:
    """A recovery begins, unless one is under way."""
    recoveries = cell.recoveries
    if recoveries.current is not None or cell.restarting is not None:
        return (RecoveryRefused(entry.token),)
    if entry.number != recoveries.begun_count + 1:
        return (RecoveryRefused(entry.token),) if entry.token else ()  # ordered twice
    begun = recoveries.begin(entry.kind, entry.token, cell.live_servers, sequence)
    return (RecoveryBegan(begun.number, begun.kind, begun.token),)


def apply_booted(cell: "CellState", sequence: int, entry: NextBooted) -> tuple[Effect, ...]:
    """A server's next generation is there, and empty."""
    current = cell.recoveries.current
    if current is None or current.number != entry.number or current.point:
        return ()
    renewal = current.of_server(int(server_of(DomainId(entry.domain))))
    if renewal is None or renewal.fresh or not cell.table.may_begin([entry.domain]):
        return ()
    renewal.fresh = entry.domain
    renewal.boots += 1
    return tuple(cell.table.begin([entry.domain], f"next generation, recovery {current.number}", sequence))


def apply_recovery_point(cell: "CellState", sequence: int, number: int) -> tuple[Effect, ...]:
    """Every next generation is there: this is the position whose state they get.  What serves an operator gives way."""
    current, former = cell.recoveries.current, cell.state_point
    if current is None or current.number != number or current.point or not current.is_booted:
        return ()
    if former is not None and not former.gives_way:
        return ()
    effects: list[Effect] = []
    if former is not None:
        effects += [StateEnded(former.point), StateRefused(former.token, sequence)]
    current.point = sequence
    current.kind = _kind(cell, current.kind)
    donors = cell.domains_in(Role.PASSIVE)
    if current.kind == RESILIENT:
        donors += cell.domains_in(Role.ACTIVE)
    names = tuple(sorted(record.domain for record in donors))
    cell.state_point = StatePoint(sequence, RECOVERY, names, number, current.fresh)
    return (*effects, StateWanted(cell.state_point))


def _kind(cell: "CellState", wanted: str) -> str:
    """Return how the state is found: sleepers suffice only if none was ever active or suspected and there are enough.

    Source: design "Choice and evolution".
    """
    sleepers = cell.domains_in(Role.PASSIVE)
    are_clean = all(record.is_clean_passive and not record.was_active for record in sleepers)
    has_each = {record.server for record in sleepers} >= set(cell.live_servers)
    suffice = are_clean and has_each and len(sleepers) >= cell.threshold
    return LIGHTWEIGHT if wanted == LIGHTWEIGHT and suffice else RESILIENT


def note_filled(cell: "CellState", record: DomainRecord) -> tuple[Effect, ...] | None:
    """A next generation holds the agreed state, and waits for its server's turn; None: the domain is none."""
    renewal = _renewal_of(cell, record.domain)
    if renewal is None:
        return None
    renewal.is_filled = True
    return (DomainFilled(record.domain),)


def apply_switch(cell: "CellState", sequence: int, entry: Switch) -> tuple[Effect, ...]:
    """A server's sleeper becomes active, and its next generation the sleeper; one server at a time.

    The domain that was active goes on until the new one has done everything before this position, and is then given up
    by its server.  What was convicted or suspected is replaced first: where there is no clean sleeper the next
    generation takes its place, and who is active stays.
    """
    current = cell.recoveries.current
    renewal = _renewal_of(cell, entry.domain)
    record = cell.table.present(entry.domain)
    if current is None or renewal is None or record is None or cell.is_overtaken(entry.seen):
        return ()
    if not renewal.is_filled or renewal.switched_at or any(one.is_leaving for one in current.renewals):
        return ()
    own = cell.domains_of(renewal.server)
    sleepers = [one for one in own if one.is_clean_passive]
    active = sorted((one for one in own if one.role is Role.ACTIVE), key=lambda one: (not one.suspicion, one.since))
    renewal.switched_at = sequence
    reason = f"recovery {current.number}"
    effects: list[Effect] = [cell.table.change(record, Role.PASSIVE, reason, sequence)]
    if sleepers and active:
        effects.append(cell.table.change(sleepers[0], Role.ACTIVE, reason, sequence))
        renewal.old, renewal.successor = active[0].domain, sleepers[0].domain
    elif len(active) > 1:
        # A fault has activated the sleeper already.
        renewal.old, renewal.successor = active[0].domain, active[-1].domain
    else:
        current.finish(renewal)
    return tuple(effects)


def apply_aborted(cell: "CellState", entry: RecoveryAborted) -> tuple[Effect, ...]:
    """The recovery goes on without the servers that hold it up, and perhaps ends by that."""
    current, point = cell.recoveries.current, cell.state_point
    if current is None or current.number != entry.number or all(one.is_filled for one in current.renewals):
        return ()
    cell.recoveries.abort(entry.reason)
    if point is None or point.kind != RECOVERY:
        return ()
    cell.state_point = None
    return (StateEnded(point.point),)


def follow(cell: "CellState", effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """Return what the retirements among `effects` mean for the recovery, and its end."""
    recoveries = cell.recoveries
    for effect in effects:
        if isinstance(effect, RoleChanged) and effect.role is Role.RETIRED:
            recoveries.note_gone(effect.domain)
    ended = recoveries.maybe_end()
    return () if ended is None else (_ending(ended),)


def _ending(ended: Recovery) -> RecoveryEnded:
    return RecoveryEnded(ended.number, ended.kind, ended.token, tuple(ended.renewed), tuple(ended.given_up))


def _renewal_of(cell: "CellState", domain: str) -> Renewal | None:
    current = cell.recoveries.current
    return None if current is None else current.of_fresh(domain)
