"""Values between servers: each server's own domain gives it nearly all of them, the rest is asked for or pushed.

A server lacks the value of a stable digest when its own domain said something else, is late or is gone.  While a
server has no active domain it would have to ask for every value, one by one; the lowest live server whose domain has
voted for the value sends it unasked.

Source: design "Execution and voting" (`M10` of its list of traps).
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput, NamedEvent
from replica_manager.execution.feed import Feed
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.identifiers import DomainId, server_of
from replica_manager.peer_messages import FetchResult, Result
from replica_manager.voting.vote_count import vote_digest
from replica_manager.voting.voter import Voter

MISSING_MAX = 256
"""Values that are asked for at a time, the oldest numbers first."""
VALUE_BYTES_MAX = 16 * 1024 * 1024 - 1024
"""Reply and update of one request, so that they fit into a frame between servers."""


@dataclass(slots=True)
class _Missing:
    """A value that is stable and not here."""

    noticed_ms: int
    asked_ms: int | None = None
    attempts: int = 0


class ValueExchange:
    """Asks for values that are missing here, answers peers, and sends values to servers without a domain."""

    def __init__(
        self,
        server: int,
        cell: CellState,
        requests: RequestLog,
        feeds: Mapping[DomainId, Feed],
        learners: AbstractSet[int],
        patience_ms: int,
    ) -> None:
        """Nothing is missing yet.

        Args:
            server: this server.
            cell: roles and membership.
            requests: the records whose values are exchanged.
            feeds: the domains of this server.
            learners: servers in no quorum that follow the order.
            patience_ms: how long an own domain, or an answer, is waited for before (another) server is asked.
        """
        self._server = server
        self._cell = cell
        self._requests = requests
        self._feeds = feeds
        self._learners = learners
        self._patience_ms = patience_ms
        self._missing: dict[int, _Missing] = {}
        self._now_ms = 0
        self._without_domain: frozenset[int] = frozenset()
        """Servers, this one perhaps among them, that have no active domain: live ones and learners."""

    def on_roles_changed(self) -> None:
        """Roles or membership are new."""
        answering = {record.server for record in self._cell.domains_in(Role.ACTIVE)}
        self._without_domain = (frozenset(self._cell.live_servers) | frozenset(self._learners)) - answering

    # -- sending -----------------------------------------------------------------------------------------------

    def push(self, record: RequestRecord, output: CoreOutput) -> None:
        """The record is complete: send its value to servers without a domain, if that is this server's task."""
        receivers = self._without_domain - {self._server}
        if not receivers or record.stable_digest is None or self._server != min(self._voters(record), default=None):
            return
        for receiver in sorted(receivers):
            _send(receiver, record.sequence, record.values[record.stable_digest], output)

    def _voters(self, record: RequestRecord) -> set[int]:
        """Live servers whose domain has voted for the stable digest: they have the value."""
        members = self._cell.members
        voters = {int(server_of(domain)) for domain, vote in record.votes.items() if vote == record.stable_digest}
        return {server for server in voters if members[server].is_live}

    def answer(self, server: int, asked: FetchResult, output: CoreOutput) -> None:
        """A peer asks for a value."""
        record = self._requests.get(asked.sequence)
        value = None if record is None else record.values.get(asked.digest)
        if value is not None:
            _send(server, asked.sequence, value, output)

    # -- receiving ---------------------------------------------------------------------------------------------

    def take(self, result: Result, voter: Voter) -> None:
        """A peer sent a value; it may come before the last vote that makes it stable here."""
        record = self._requests.get(result.sequence)
        if record is None or record.is_complete:
            return
        digest = vote_digest(result.reply, result.update)
        if record.stable_digest is None or record.stable_digest == digest:
            voter.record_value(record, digest, result.reply, result.update)

    def maybe_ask(self, record: RequestRecord, output: CoreOutput) -> None:
        """The value is stable and not here: ask at once, if neither a domain here nor another server will send it."""
        if record.sequence in self._missing or len(self._missing) >= MISSING_MAX:
            return
        if self._server in self._without_domain or self._will_come(record):
            return
        missing = self._missing[record.sequence] = _Missing(self._now_ms)
        self._ask(record, missing, output)

    def _will_come(self, record: RequestRecord) -> bool:
        """Whether a domain here is still to execute, or executes, this request."""
        return any(
            feed.is_linked and feed.role is Role.ACTIVE and feed.confirmed < record.sequence
            for feed in self._feeds.values()
        )

    def on_timer(self, now_ms: int, voter: Voter, output: CoreOutput) -> None:
        """Ask for what is missing too long."""
        self._now_ms = now_ms
        wanting = voter.wanting_value(limit=MISSING_MAX)
        known = self._missing
        self._missing = {record.sequence: known.get(record.sequence) or _Missing(now_ms) for record in wanting}
        for record in wanting:
            missing = self._missing[record.sequence]
            if now_ms >= self._due_ms(record, missing):
                self._ask(record, missing, output)

    def _due_ms(self, record: RequestRecord, missing: _Missing) -> int:
        if missing.asked_ms is not None:
            return missing.asked_ms + self._patience_ms
        if self._will_come(record):
            return missing.noticed_ms + self._patience_ms
        # Pushed to this server, perhaps: it is still on its way when the votes have just come.
        return missing.noticed_ms + (1 if self._server in self._without_domain else 0)

    def _ask(self, record: RequestRecord, missing: _Missing, output: CoreOutput) -> None:
        """Ask one server whose domain has voted for the value; each time another one, since a message may be lost."""
        assert record.stable_digest is not None, "only a stable digest has a value worth having"
        voters = sorted(self._voters(record) - {self._server})
        # A digest known from a notice alone: any server may have it.
        asked = voters or [server for server in self._cell.live_servers if server != self._server]
        if not asked:
            return
        receiver = asked[missing.attempts % len(asked)]
        missing.asked_ms = self._now_ms
        missing.attempts += 1
        output.sends.append((receiver, FetchResult(record.sequence, record.stable_digest)))


def _send(receiver: int, sequence: int, value: tuple[bytes, bytes], output: CoreOutput) -> None:
    size = len(value[0]) + len(value[1])
    if size > VALUE_BYTES_MAX:
        detail = f"the value of {sequence} has {size} bytes, between servers at most {VALUE_BYTES_MAX}"
        output.events.append(NamedEvent("limit_reached", {"limit": "value_bytes", "detail": detail}))
        return
    output.sends.append((receiver, Result(sequence, *value)))
