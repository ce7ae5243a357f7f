"""When a cell is at rest: everything stable everywhere, redundancy whole, nothing kept that nobody needs."""

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from agreement.changes import Change, Entry
from agreement.node import Node
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import Progress, Suspected, decode_entry
from replica_manager.cell.roles import Role
from replica_manager.execution.feed import Feed, Power
from replica_manager.faults.role_plan import plan_roles
from replica_manager.standing import Standing
from tests.simulation.cell.options import Options
from tests.simulation.cell.rules import require

if TYPE_CHECKING:
    from tests.simulation.cell.server import SimulatedServer


def unrest(server: "SimulatedServer", options: Options) -> str | None:
    """Return what a server still has to do or to drop once nothing goes wrong any more; None: nothing.

    Everything is stable everywhere, whatever became of a server's own domains; every checkpoint has ended; nothing is
    kept but what the sleeper waits for.  Memory without bound is found here.
    """
    core = server.core
    update_limit = options.refresh_updates_max + 1
    values = sum(len(record.values) for record in core.requests.records(1))
    unordered = server.agreement.undelivered_count if isinstance(server.agreement, Node) else 0
    found = {
        f"it is still {core.standing.value}": core.standing is not Standing.SERVING,
        f"{unordered} own entries are not ordered": unordered > 0,
        f"stable up to {core.buffer.prefix} of {core.requests.last}": core.buffer.prefix < core.requests.last,
        f"checkpoint {core.cell.open_point} is open": core.cell.open_point > 0,
        "an export is under way": core.export.is_under_way,
        "a recovery is under way": core.cell.recoveries.current is not None,
        "a recovery is owed": core.cell.recoveries.debt > 0,
        f"{core.admission.waiting_count} clients wait": core.admission.waiting_count > 0,
        f"{core.voter.early_vote_count} votes wait for their entry": core.voter.early_vote_count > 0,
        f"{values} values are kept": values > 0,
        f"{core.buffer.entry_count} updates are kept": core.buffer.entry_count > update_limit,
    }
    found |= {f"{what} of {feed.domain} is owed": True for feed in core.feeds.values() for what in _owed(feed)}
    lacking = next((what for what, holds in found.items() if holds), None)
    return lacking or missing_redundancy(core.cell)


def _owed(feed: Feed) -> list[str]:
    """Return what a domain was handed and has not answered: a silent one must not serve at the end."""
    if feed.power is Power.GONE:
        return []
    owed = {
        "an answer": bool(feed.executing),
        "a confirmation": feed.applying_up_to > 0,
        "a sync": feed.is_syncing,
        "a state": feed.state_point > 0,
    }
    return [what for what, holds in owed.items() if holds]


def missing_redundancy(cell: CellState) -> str | None:
    """Return what is not as it should be among the domains; None: redundancy is whole.

    `T` domains are active, every live server has a sleeper that can be relied on, and nobody is suspected or half made.
    """
    active = cell.domains_in(Role.ACTIVE)
    if len(active) != cell.threshold:
        return f"{[record.domain for record in active]} are active, {cell.threshold} wanted"
    # What a server left behind that was about to join is given up when it comes again.
    starting = [record for record in cell.domains_in(Role.STARTING) if record.server in cell.live_servers]
    present = (*active, *cell.domains_in(Role.PASSIVE), *starting)
    for record in present:
        if record.suspicion or record.role is Role.STARTING:
            return f"{record.domain} is {record.role.value}, suspected: {record.suspicion or 'no'}"
    for server in cell.live_servers:
        if not any(record.is_clean_passive for record in cell.domains_of(server)):
            return f"server {server} has no clean sleeper"
    step = plan_roles(active, cell.domains_in(Role.PASSIVE), cell.threshold, 0, None)
    return None if step is None else f"{step} is still to be done"


def check_rest(servers: "Sequence[SimulatedServer]", lost: Container[int], options: Options) -> None:
    """Every server that did not crash for good is in the cell, and comes to rest."""
    for server in servers:
        if server.number not in lost:
            what = unrest(server, options) if server.is_up else "it does not run"
            require(what is None, "rest", f"server {server.number}: {what}")
            expected = {one.number for one in servers if one.number not in lost}
            require(set(server.core.cell.live_servers) == expected, "rest", f"live: {server.core.cell.live_servers}")


def check_quiet(sent: int, ordered: Sequence[Entry | Change], faulty: Container[str]) -> None:
    """A cell in which nothing happens sends nothing but what agreement needs to know who lives, and orders nothing.

    How far servers are may be reported a last time, and a domain that is faulty may be noticed just then.
    """
    require(sent == 0, "quiet", f"{sent} messages between managers with nothing to do")
    entries = [decode_entry(entry.payload) if isinstance(entry, Entry) else entry for entry in ordered]
    acts = [entry for entry in entries if not isinstance(entry, Progress)]
    is_noticed = any(isinstance(entry, Suspected) and entry.domain in faulty for entry in acts)
    require(is_noticed or not acts, "quiet", f"ordered with nothing to do: {acts[:3]}")
