"""The rules of the order and of what clients see, each checked apart from the code that is to keep it."""

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from agreement.changes import Entry
from agreement.identifiers import NUMBER_MASK
from benchmarks.linearizability.checker import check
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import Effect, RequestAccepted, RequestResolved
from replica_manager.voting.vote_count import vote_digest
from tests.simulation.cell.history import History
from tests.simulation.cell.registers import RegisterModel, as_operations
from tests.simulation.cell.rules import require

if TYPE_CHECKING:
    from tests.simulation.cell.server import SimulatedServer


SKEW_US = 1_000_000
"""`max_clock_skew` of the simulated cells."""


def check_order(history: History) -> None:
    """A1: every server delivers the same sequence of entries."""
    longest = history.longest_order
    for order in history.orders:
        for position, entry in enumerate(order.entries, order.first):
            is_same = 0 < position <= len(longest) and entry == longest[position - 1]
            require(is_same, "order", f"server {order.server} differs at {position}")


def check_at_most_once(history: History) -> None:
    """A2: an entry is delivered at most once, the numbers of an origin in order without gaps.

    A process that took its memory up again numbers from a higher range on.
    """
    last: dict[tuple[int, int], int] = {}
    for entry in history.longest_order:
        if isinstance(entry, Entry):
            origin = (entry.server, entry.incarnation)
            former = last.get(origin, 0)
            is_restart = entry.number > former and entry.number & NUMBER_MASK == 1
            require(entry.number == former + 1 or is_restart, "at most once", f"{origin}: {entry.number}")
            last[origin] = entry.number


class Model:
    """The service, executed once in the agreed order: what every correct replica must have said."""

    def __init__(self, history: History, f: int, client_table_entries_max: int) -> None:
        """Replay the longest order."""
        state = CellState(f, client_table_entries_max)
        rows: dict[bytes, bytes] = {}
        self.replies: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        self.writes: list[tuple[int, bytes, bytes]] = []
        self.digests: dict[int, bytes] = {}
        """Number of a request → digest of its reply and update."""
        self.timestamps_us: list[int] = []
        self.skipped_requests: set[tuple[bytes, int]] = set()
        ordered: list[tuple[int, Effect]] = []
        for sequence, entry in enumerate(history.longest_order, 1):
            ordered += [(sequence, effect) for effect in state.apply(sequence, entry)]
        self.skipped = {
            effect.sequence
            for _, effect in ordered
            if isinstance(effect, RequestResolved) and effect.action == "skip" and not effect.objection
        }
        for sequence, effect in ordered:
            if isinstance(effect, RequestAccepted):
                self._execute(rows, sequence, effect)

    def _execute(self, rows: dict[bytes, bytes], sequence: int, request: RequestAccepted) -> None:
        identity = (bytes(request.client), request.number)
        require(identity not in self.replies, "at most once", f"{identity} executed twice")
        self.timestamps_us.append(request.timestamp_us)
        if sequence in self.skipped:
            self.skipped_requests.add(identity)
            self.digests[sequence] = vote_digest(b"", b"")
            return
        command, key, *value = request.payload.split(b" ", 2)
        old = rows.get(key, b"")
        if command == b"get":
            self._note(identity, sequence, old, b"")
            return
        rows[key] = value[0] if command == b"set" else old + value[0]
        self.writes.append((sequence, key, rows[key]))
        self._note(identity, sequence, b"%d:" % request.timestamp_us + rows[key], key + b" " + rows[key])

    def _note(self, identity: tuple[bytes, int], sequence: int, reply: bytes, update: bytes) -> None:
        self.replies[identity] = (sequence, reply)
        self.digests[sequence] = vote_digest(reply, update)

    def rows_before(self, cursor: int) -> dict[bytes, bytes]:
        """Return the state after every entry before `cursor`."""
        return {key: value for sequence, key, value in self.writes if sequence < cursor}


def check_linearizable(history: History, model: Model) -> None:
    """Every reply is the model's, and real time is kept.

    The sequence number of a request is its place in the linearization, so two conditions decide: the replies are
    those of a sequential execution in that order, and who ended before another began comes before it.
    """
    for operation in history.operations:
        identity = (operation.client, operation.number)
        require(not operation.is_skipped or identity in model.skipped_requests, "skipped requests", operation)
        require(not operation.is_lost or identity in model.replies, "a lost reply is one of an execution", operation)
    answered = [operation for operation in history.operations if operation.replied_us >= 0]
    placed = []
    for operation in answered:
        require((operation.client, operation.number) in model.replies, "stable replies", f"{operation} never ordered")
        sequence, reply = model.replies[operation.client, operation.number]
        require(operation.reply == reply, "linearizable", f"{operation}, {reply!r} expected")
        placed.append((operation.invoked_us, operation.replied_us, sequence))
    by_reply = sorted(placed, key=lambda row: row[1])
    newest, index = 0, 0
    for invoked_us, _, sequence in sorted(placed):
        while index < len(by_reply) and by_reply[index][1] < invoked_us:
            newest = max(newest, by_reply[index][2])
            index += 1
        require(sequence > newest, "linearizable", f"{sequence} began after {newest} had ended")


def check_client_history(history: History) -> None:
    """What clients asked and were told can have been one execution, one request at a time.

    Beside `check_linearizable` because it is told nothing of the agreed order: what was ordered may differ from what
    was asked, and the order may hold what nobody asked for.
    """
    verdict = check(as_operations(history.operations), RegisterModel())
    require(verdict.is_proven, "client history", verdict.explain())


def check_cell_states(servers: "Iterable[SimulatedServer]") -> None:
    """Servers that applied the same entries have the same cell state, down to every client."""
    seen: dict[int, bytes] = {}
    for server in servers:
        digest = server.core.cell.full_digest()
        other = seen.setdefault(server.core.cell.sequence, digest)
        require(digest == other, "cell state", f"at {server.core.cell.sequence}")


def check_stable(history: History, model: Model) -> None:
    """What a server took for stable, reply and update, is what a correct replica says."""
    for sequence, digests in history.stable.items():
        right = model.digests.get(sequence)
        wrong = {server for server, digest in digests if digest != right}
        require(not wrong, "only what is right becomes stable", f"{sequence} on servers {wrong}")


def check_exports(history: History, model: Model) -> None:
    """What was exported at a point is the state after everything before it."""
    for point, rows in history.exported:
        require(rows == model.rows_before(point), "exports", f"the file of {point}")


def check_timestamps(history: History, model: Model) -> None:
    """Service time rises, and no intake server's clock pushes it beyond the leaders' by more than the allowed skew."""
    stamps = model.timestamps_us
    require(all(one < next_one for one, next_one in pairwise(stamps)), "timestamps rise", stamps[:5])
    limit_us = history.leader_clock_us + SKEW_US + len(stamps)
    require(not stamps or stamps[-1] <= limit_us, "timestamps keep to the leader's clock", (stamps[-1:], limit_us))
