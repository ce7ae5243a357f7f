"""What entries about faults do to the cell state.  Pure functions of the state and the entry.

Source: design "The replicated cell state", "Fault handling" (`L2`, `L5`, `L13` of its list of traps).
"""

from typing import TYPE_CHECKING

from replica_manager.cell.effects import ConsentWanted, Effect, RequestHeld, RequestKilled, RequestResolved, RoundOpened
from replica_manager.cell.entries import Consent, Convicted, Demote, Offer, Promote, Resolve, Stalled, Stopped
from replica_manager.cell.point_entries import release_point
from replica_manager.cell.restart_entries import conclude_restart
from replica_manager.cell.roles import Role
from replica_manager.identifiers import DomainId

if TYPE_CHECKING:
    from replica_manager.cell.cell_state import CellState


def apply_stopped(cell: "CellState", sequence: int, entry: Stopped) -> tuple[Effect, ...]:
    """A domain is gone, as its own server knows."""
    record = cell.table.present(entry.domain)
    if record is None:
        return ()
    # Votes that it gave while it ran keep counting: it is not convicted of anything.
    effects: list[Effect] = [cell.table.change(record, Role.RETIRED, entry.reason, sequence)]
    effects += release_point(cell, record.domain)
    if cell.restarting is not None:
        cell.restarting.note_gone(record.domain)
        effects += conclude_restart(cell, sequence)
    if entry.at:
        is_held = cell.poison.note_death(entry.at, cell.f_prime)
        effects.append(RequestHeld(entry.at) if is_held else RequestKilled(entry.at))
    return tuple(effects)


def apply_convicted(cell: "CellState", sequence: int, entry: Convicted) -> tuple[Effect, ...]:
    """A domain is proven faulty: it is retired, and its votes do not count any more."""
    record = cell.domains.get(DomainId(entry.domain))
    if record is None or not record.is_counted:
        return ()
    effects: list[Effect] = [cell.table.convict(record, f"convicted: {entry.reason}", sequence)]
    effects += release_point(cell, record.domain)
    if cell.restarting is not None:
        cell.restarting.note_gone(record.domain)
        effects += conclude_restart(cell, sequence)
    return tuple(effects)


def apply_stalled(cell: "CellState", sequence: int, entry: Stalled) -> tuple[Effect, ...]:
    """A vote cannot end: open a round, and suspect who is late."""
    if entry.sequence <= cell.stable_all or entry.count < 1 or cell.rounds.is_void(entry):
        return ()
    effects: list[Effect] = []
    for record in cell.domains_in(Role.ACTIVE):
        is_silent = entry.is_late and record.domain not in entry.contributed and record.since <= entry.seen
        if is_silent and not record.suspicion:
            effects.append(cell.table.suspect(record, f"no vote on {entry.sequence} in time"))
    opened = cell.rounds.open(entry.sequence, entry.count, sequence)
    effects.append(RoundOpened(opened.number, opened.count, entry.sequence, tuple(entry.contributed)))
    return tuple(effects)


def apply_offer(cell: "CellState", sequence: int, offer: Offer) -> tuple[Effect, ...]:
    """A server offers its sleeper in the current round."""
    record = cell.table.present(offer.domain)
    if record is None or record.role is not Role.PASSIVE:
        return ()
    if not cell.rounds.maybe_accept(offer.round_number, sequence):
        return ()
    return (cell.table.change(record, Role.ACTIVE, f"offered in round {offer.round_number}", sequence),)


def apply_promote(cell: "CellState", sequence: int, entry: Promote) -> tuple[Effect, ...]:
    """A sleeper becomes active, as planner or operator wish."""
    record = cell.table.present(entry.domain)
    if record is None or record.role is not Role.PASSIVE or cell.is_overtaken(entry.seen):
        return ()
    return (cell.table.change(record, Role.ACTIVE, "promoted", sequence),)


def apply_demote(cell: "CellState", sequence: int, entry: Demote) -> tuple[Effect, ...]:
    """An active domain goes to sleep, as the planner wishes; never below `T`."""
    record = cell.table.present(entry.domain)
    if record is None or record.role is not Role.ACTIVE or cell.is_overtaken(entry.seen):
        return ()
    if len(cell.lasting) <= cell.threshold:
        return ()
    return (cell.table.change(record, Role.PASSIVE, "demoted", sequence),)


def apply_resolve(cell: "CellState", server: int, entry: Resolve | Consent) -> tuple[Effect, ...]:
    """An operator decides about a number that stays open; servers consent."""
    match entry:
        case Resolve(sequence=sequence, action=action, token=token):
            return _begin_resolving(cell, sequence, action, token)
        case Consent(sequence=sequence, is_open=is_open, has_fresh_domain=has_fresh):
            if not cell.is_live(server):
                return ()
            refused = cell.poison.consent(server, sequence, is_open=is_open, has_fresh_domain=has_fresh)
            if refused is not None:
                return (RequestResolved(sequence, "skip", *refused),)
            return conclude_skips(cell)


def _begin_resolving(cell: "CellState", sequence: int, action: str, token: int) -> tuple[Effect, ...]:
    if not cell.stable_all < sequence < cell.sequence:
        return (RequestResolved(sequence, action, token, "it is not open"),)
    if action == "retry":
        cell.poison.retry(sequence)
        return (RequestResolved(sequence, action, token, ""),)
    cell.poison.begin_skipping(sequence, token)
    return (ConsentWanted(sequence),)


def give_up_skips(cell: "CellState") -> tuple[Effect, ...]:
    """End the asking for consent: a server that left may have told its client what the others would skip."""
    ended = cell.poison.give_up_skipping()
    return tuple(RequestResolved(number, "skip", token, objection) for number, token, objection in ended)


def conclude_skips(cell: "CellState") -> tuple[Effect, ...]:
    """Skip what every live server has consented to."""
    concluded = cell.poison.conclude(cell.live_servers)
    return tuple(RequestResolved(number, "skip", token, objection) for number, token, objection in concluded)


def maybe_open_round(cell: "CellState", sequence: int) -> tuple[Effect, ...]:
    """If fewer than `T` domains are active, look for more; unless the current round already does."""
    active = len(cell.domains_in(Role.ACTIVE))
    missing = cell.threshold - active
    if cell.restarting is not None or missing <= 0 or not cell.domains_in(Role.PASSIVE):
        return ()
    current = cell.rounds.current
    if current is not None and current.opened_at == sequence:
        return ()
    if current is not None and current.count - current.accepted >= missing:
        return ()
    opened = cell.rounds.open(0, missing, sequence)
    cell.roles_changed_at = sequence
    return (RoundOpened(opened.number, missing),)
