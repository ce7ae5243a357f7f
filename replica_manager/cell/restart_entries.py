"""What entries of a restarting cell do to the cell state.

Source: design "Cell restart".
"""

from typing import TYPE_CHECKING

from replica_manager.cell.effects import CellRestarted, Effect, RestartWanted, StateEnded
from replica_manager.cell.entries import RestartBegun, Restarted
from replica_manager.cell.restarting import Restarting
from replica_manager.cell.roles import Role

if TYPE_CHECKING:
    from replica_manager.cell.cell_state import CellState


def apply_restart(cell: "CellState", sequence: int, entry: RestartBegun | Restarted) -> tuple[Effect, ...]:
    """All servers have started again; domains come back from their disks."""
    match entry:
        case RestartBegun(token=token):
            return _begin_restart(cell, sequence, token)
        case Restarted(domain=domain, cursor=cursor, token=token, life=life):
            current, record = cell.restarting, cell.table.present(domain)
            if current is None or current.token != token or record is None or not current.is_expected(record.domain):
                return ()
            current.note_back(record.domain, cursor, life)
            return tuple(conclude_restart(cell, sequence))


def _begin_restart(cell: "CellState", sequence: int, token: int) -> tuple[Effect, ...]:
    """Fresh domains that were not filled are given up; searches and states that were under way have ended."""
    if token <= cell.restart_token:
        return ()
    cell.restart_token = token
    cell.poison.give_up_skipping()  # votes that are lost decide nothing about it any more
    effects: list[Effect] = []
    for record in cell.domains_in(Role.STARTING):
        effects.append(cell.table.change(record, Role.RETIRED, "the cell stopped before it was filled", sequence))
    if cell.state_point is not None:
        effects.append(StateEnded(cell.state_point.point))
        cell.state_point = None
    cell.recoveries.abort("the cell stopped")
    cell.rounds.current = None
    present = cell.domains_in(Role.ACTIVE) + cell.domains_in(Role.PASSIVE)
    cell.restarting = Restarting(token, (record.domain for record in present))
    return (*effects, RestartWanted(token))


def conclude_restart(cell: "CellState", sequence: int) -> list[Effect]:
    """When all are back or given up, everybody goes on from its own cursor."""
    current = cell.restarting
    if current is None or not current.is_complete:
        return []
    cell.restarting = None
    effects: list[Effect] = []
    for domain, _ in current.cursors:
        # All execute what is left of the log, so all are active until the planner sends some to sleep.
        effects.append(cell.table.change(cell.domains[domain], Role.ACTIVE, "back after a restart", sequence))
    # What was stable on every server is in nobody's memory but the client's any more: peers would never be given its
    # value.  What is on every disk may be below where a server's log begins.  Neither is voted on again.
    agreed = max(cell.stable_all, cell.durable_all)
    settled = max(agreed, current.settled_through(cell.threshold, cell.f_prime))
    # What servers had stable before is not in their memory any more: they begin again with what is settled, and a
    # report from before, chosen only now, must not say otherwise.
    cell.restarted_at = sequence
    for member in cell.members.values():
        member.stable = settled
    cell.stable_all = settled
    return [*effects, CellRestarted(current.cursors, current.lives, settled)]
