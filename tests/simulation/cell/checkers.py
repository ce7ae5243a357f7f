"""The rules, each checked apart from the code that is to keep it.  A broken rule raises `RuleBroken`."""

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from agreement.changes import Entry
from agreement.node import Node
from benchmarks.linearizability.checker import check
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import RequestAccepted
from replica_manager.cell.roles import Role
from replica_manager.execution.feed import Power
from replica_manager.faults.role_plan import plan_roles
from tests.simulation.cell.history import History
from tests.simulation.cell.options import Options
from tests.simulation.cell.registers import RegisterModel, as_operations

if TYPE_CHECKING:
    from tests.simulation.cell.server import SimulatedServer


SKEW_US = 1_000_000
"""`max_clock_skew` of the simulated cells."""


class RuleBroken(AssertionError):
    """Raised when a run broke a rule; the message names the rule and the evidence."""


def _require(condition: bool, rule: str, evidence: object) -> None:
    if not condition:
        raise RuleBroken(f"{rule}: {evidence}")


def check_order(history: History) -> None:
    """A1: every server delivers the same sequence of entries."""
    longest = history.longest_order
    for server, order in history.orders.items():
        for position, entry in enumerate(order):
            _require(entry == longest[position], "order", f"server {server} differs at {position + 1}")


def check_at_most_once(history: History) -> None:
    """A2: an entry is delivered at most once, the numbers of an origin in order without gaps."""
    last: dict[tuple[int, int], int] = {}
    for entry in history.longest_order:
        if isinstance(entry, Entry):
            origin = (entry.server, entry.incarnation)
            _require(entry.number == last.get(origin, 0) + 1, "at most once", f"{origin}: {entry.number}")
            last[origin] = entry.number


class Model:
    """The service, executed once in the agreed order: what every correct replica must have said."""

    def __init__(self, history: History, f: int, client_table_entries_max: int) -> None:
        """Replay the longest order."""
        state = CellState(f, client_table_entries_max)
        rows: dict[bytes, bytes] = {}
        self.replies: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        self.writes: list[tuple[int, bytes, bytes]] = []
        self.timestamps_us: list[int] = []
        for sequence, entry in enumerate(history.longest_order, 1):
            for effect in state.apply(sequence, entry):
                if isinstance(effect, RequestAccepted):
                    self._execute(rows, sequence, effect)

    def _execute(self, rows: dict[bytes, bytes], sequence: int, request: RequestAccepted) -> None:
        identity = (bytes(request.client), request.number)
        _require(identity not in self.replies, "at most once", f"{identity} executed twice")
        self.timestamps_us.append(request.timestamp_us)
        command, key, *value = request.payload.split(b" ", 2)
        old = rows.get(key, b"")
        if command == b"get":
            self.replies[identity] = (sequence, old)
            return
        rows[key] = value[0] if command == b"set" else old + value[0]
        self.writes.append((sequence, key, rows[key]))
        self.replies[identity] = (sequence, b"%d:" % request.timestamp_us + rows[key])

    def rows_before(self, cursor: int) -> dict[bytes, bytes]:
        """Return the state after every entry before `cursor`."""
        return {key: value for sequence, key, value in self.writes if sequence < cursor}


def check_linearizable(history: History, model: Model) -> None:
    """Every reply is the model's, and real time is kept.

    The sequence number of a request is its place in the linearization, so two conditions decide: the replies are
    those of a sequential execution in that order, and who ended before another began comes before it.
    """
    answered = [operation for operation in history.operations if operation.replied_us >= 0]
    placed = []
    for operation in answered:
        _require((operation.client, operation.number) in model.replies, "stable replies", f"{operation} never ordered")
        sequence, reply = model.replies[operation.client, operation.number]
        _require(operation.reply == reply, "linearizable", f"{operation}, {reply!r} expected")
        placed.append((operation.invoked_us, operation.replied_us, sequence))
    by_reply = sorted(placed, key=lambda row: row[1])
    newest, index = 0, 0
    for invoked_us, _, sequence in sorted(placed):
        while index < len(by_reply) and by_reply[index][1] < invoked_us:
            newest = max(newest, by_reply[index][2])
            index += 1
        _require(sequence > newest, "linearizable", f"{sequence} began after {newest} had ended")


def check_client_history(history: History) -> None:
    """What clients asked and were told can have been one execution, one request at a time.

    Beside `check_linearizable` because it is told nothing of the agreed order: what was ordered may differ from what
    was asked, and the order may hold what nobody asked for.
    """
    verdict = check(as_operations(history.operations), RegisterModel())
    _require(verdict.is_proven, "client history", verdict.explain())


def check_domains(servers: "Iterable[SimulatedServer]", model: Model) -> None:
    """The state of every domain is the fold of the stable updates before its cursor."""
    for server in servers:
        for name, domain in server.domains.items():
            _require(domain.rows == model.rows_before(domain.cursor), "state", f"{name} at {domain.cursor}")


def check_cell_states(servers: "Iterable[SimulatedServer]") -> None:
    """Servers that applied the same entries have the same cell state, down to every client."""
    seen: dict[int, bytes] = {}
    for server in servers:
        digest = server.core.cell.full_digest()
        other = seen.setdefault(server.core.cell.sequence, digest)
        _require(digest == other, "cell state", f"at {server.core.cell.sequence}")


def check_no_accusation(history: History) -> None:
    """No correct domain is accused: here all are correct."""
    kinds = ("vote_contradicts", "vote_exceeded", "vote_diverged", "domain_misbehaved")
    accused = [row for row in history.core_events if row[1] in kinds]
    _require(not accused, "no conviction of a correct domain", accused[:3])


def check_only_updates(servers: "Iterable[SimulatedServer]") -> None:
    """A domain that was always passive executed nothing."""
    for server in servers:
        for name, domain in server.domains.items():
            record = server.core.cell.domains[name]
            if record.role is Role.PASSIVE and not record.was_active:
                _require(not domain.executed, "passive domains execute nothing", name)


def check_timestamps(history: History, model: Model) -> None:
    """Service time rises, and no intake server's clock pushes it beyond the leaders' by more than the allowed skew."""
    stamps = model.timestamps_us
    _require(all(one < next_one for one, next_one in pairwise(stamps)), "timestamps rise", stamps[:5])
    limit_us = history.leader_clock_us + SKEW_US + len(stamps)
    _require(not stamps or stamps[-1] <= limit_us, "timestamps keep to the leader's clock", (stamps[-1:], limit_us))


def check_points(servers: "Iterable[SimulatedServer]") -> None:
    """All domains had the same state at every checkpoint."""
    for server in servers:
        for point in range(1, server.core.cell.sequence + 1):
            digests = server.core.board.digests(point)
            if digests:
                _require(len(set(digests.values())) == 1, "checkpoints agree", f"{point}: {digests}")


def check_can_go_on(servers: "Iterable[SimulatedServer]") -> None:
    """The invariant that makes the cell live: each correct domain of a live server has voted on an open number, or can
    still execute it, or its server has the number stable.

    Here every domain that is not gone is correct.  Source: design "Why this is live" (`L1`).
    """
    for server in servers:
        core = server.core
        for feed in core.feeds.values():
            if feed.power is Power.GONE or feed.role is Role.STARTING:
                continue
            for record in core.requests.records(core.buffer.prefix + 1):
                is_ahead = feed.cursor <= record.sequence or record.sequence in feed.executing
                is_stable = record.stable_digest is not None
                can_go_on = is_ahead or is_stable or feed.domain in record.votes
                _require(can_go_on, "every domain can go on", f"{feed.domain} at {record.sequence}")


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
        f"{unordered} own entries are not ordered": unordered > 0,
        f"stable up to {core.buffer.prefix} of {core.requests.last}": core.buffer.prefix < core.requests.last,
        f"checkpoint {core.cell.open_point} is open": core.cell.open_point > 0,
        f"{core.admission.waiting_count} clients wait": core.admission.waiting_count > 0,
        f"{core.voter.early_vote_count} votes wait for their entry": core.voter.early_vote_count > 0,
        f"{values} values are kept": values > 0,
        f"{core.buffer.entry_count} updates are kept": core.buffer.entry_count > update_limit,
    }
    lacking = next((what for what, holds in found.items() if holds), None)
    return lacking or missing_redundancy(core.cell)


def missing_redundancy(cell: CellState) -> str | None:
    """Return what is not as it should be among the domains; None: redundancy is whole.

    `T` domains are active, every live server has a sleeper that can be relied on, and nobody is suspected or half made.
    """
    active = cell.domains_in(Role.ACTIVE)
    if len(active) != cell.threshold:
        return f"{[record.domain for record in active]} are active, {cell.threshold} wanted"
    present = (*active, *cell.domains_in(Role.PASSIVE), *cell.domains_in(Role.STARTING))
    for record in present:
        if record.suspicion or record.role is Role.STARTING:
            return f"{record.domain} is {record.role.value}, suspected: {record.suspicion or 'no'}"
    for server in cell.live_servers:
        if not any(record.is_clean_passive for record in cell.domains_of(server)):
            return f"server {server} has no clean sleeper"
    step = plan_roles(active, cell.domains_in(Role.PASSIVE), cell.threshold, 0, None)
    return None if step is None else f"{step} is still to be done"


def check_rest(servers: "Iterable[SimulatedServer]", options: Options) -> None:
    """Every server comes to rest."""
    for server in servers:
        what = unrest(server, options)
        _require(what is None, "rest", f"server {server.number}: {what}")


def check_quiet(sent: int) -> None:
    """A cell in which nothing happens sends nothing but what agreement needs to know who lives."""
    _require(sent == 0, "quiet", f"{sent} messages between managers with nothing to do")
