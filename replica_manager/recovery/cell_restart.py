"""One server's part in the restart of a whole cell.

1. Every live server of the last configuration is there and has started again; the lowest one orders `RestartBegun`.
2. Each boots its domains from their own disks and orders `Restarted` with the cursor that each claims.
3. When all are back or given up, each domain executes from its own cursor what is left of the log.

Source: design "Cell restart" (`L4` of its list of traps).
"""

from collections.abc import Callable, Sequence

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import CellRestarted
from replica_manager.cell.entries import RestartBegun, Restarted, encode_entry
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput
from replica_manager.execution.feed import Feed
from replica_manager.execution.request_log import RequestLog
from replica_manager.identifiers import DomainId, server_of
from replica_manager.standing import Standing
from replica_manager.updates.update_buffer import UpdateBuffer

ORDER_AGAIN_MS = 2_000
"""An entry that was not delivered in this time is ordered again: who leads may have changed, or may be unknown yet."""


class CellRestart:
    """Brings one server back together with all others."""

    def __init__(
        self,
        server: int,
        cell: CellState,
        feeds: dict[DomainId, Feed],
        requests: RequestLog,
        buffer: UpdateBuffer,
        make_feed: Callable[[DomainId, Role], Feed],
        life: int,
    ) -> None:
        """Nobody has been heard of; `life` is a number that no former process of this server had."""
        self._life = life
        self._server = server
        self._cell = cell
        self._feeds = feeds
        self._requests = requests
        self._buffer = buffer
        self._make_feed = make_feed
        self._present: dict[int, Standing] = {}
        self._token = 0
        """Of the restart that this process has answered, and need not answer again."""
        self._answered = 0
        """Token of the restart that this process has answered last, perhaps in vain."""
        self._ordered: int | None = None
        """Token of the restart that this process has ordered."""
        self._ordered_ms = 0
        self._linked: dict[DomainId, int] = {}

    def note_peer(self, server: int, standing: Standing) -> None:
        """A peer says what it is; one that starts once more has lost what it answered."""
        if standing is Standing.RETURNING:
            self._begin_anew()
        self._present[server] = standing

    def _begin_anew(self) -> None:
        self._token, self._ordered = 0, None

    def forget_peer(self, server: int) -> None:
        """A link broke."""
        self._present.pop(server, None)

    def learning_peers(self) -> set[int]:
        """Return the peers that say that they are learning; that they left may still be on its way here."""
        return {server for server, standing in self._present.items() if standing is Standing.LEARNING}

    def has_missed_the_cell(self) -> bool:
        """Whether a live server serves, and the cell went on without this one.

        While the restart that this process has answered goes on, as far as the order is read here, its end may have
        been read there first.
        """
        ongoing = self._cell.restarting
        if ongoing is not None and ongoing.token == self._answered:
            return False
        return any(self._present.get(server) is Standing.SERVING for server in self._cell.live_servers)

    def serving(self) -> Sequence[int]:
        """Return the peers that say that they serve, whatever this server has read of the order so far."""
        return [server for server, standing in self._present.items() if standing is Standing.SERVING]

    @property
    def missing(self) -> list[int]:
        """Return the live servers that have not started again, as far as is known here."""
        others = [server for server in self._cell.live_servers if server != self._server]
        together = (Standing.RETURNING, Standing.RESTARTING)
        return [server for server in others if self._present.get(server) not in together]

    @property
    def is_together(self) -> bool:
        """Whether every live server has started again."""
        return not self.missing

    def maybe_begin(self, now_ms: int, token: int, output: CoreOutput) -> None:
        """On the lowest live server, when all are there, order the restart."""
        if not self.is_together or self._server != min(self._cell.live_servers):
            return
        if self._ordered is not None and (self._token == self._ordered or now_ms - self._ordered_ms < ORDER_AGAIN_MS):
            return
        self._ordered, self._ordered_ms = token, now_ms
        output.proposals.append(encode_entry(RestartBegun(token)))

    def maybe_answer(self, token: int, output: CoreOutput) -> None:
        """The restart was ordered: boot what is not retired from its own disk."""
        if self._token == token:
            return
        self._token = self._answered = token
        for record in self._cell.domains_of(self._server):
            if record.role is Role.RETIRED:
                continue
            if record.domain in self._feeds:
                self._maybe_answer(record.domain, output)  # an earlier restart was interrupted, elsewhere
            else:
                self._feeds[record.domain] = self._make_feed(record.domain, record.role)
                output.boots_from_disk.append(record.domain)

    def on_linked(self, domain: DomainId, cursor: int, output: CoreOutput) -> None:
        """A domain is back."""
        self._linked[domain] = cursor
        self._maybe_answer(domain, output)

    def lacking(self) -> list[DomainId]:
        """Return domains whose disks lack what the log here does not hold.

        Where every disk covers the log's begin, a cursor below it tells of numbers without effect.  The log of a server
        that joined begins where it joined: what it filled its domains with may not have reached their disks.
        """
        first = self._requests.first
        if first <= self._cell.durable_all + 1:
            return []
        return [feed.domain for feed in self._feeds.values() if feed.cursor < first]

    def _maybe_answer(self, domain: DomainId, output: CoreOutput) -> None:
        cursor = self._linked.get(domain)
        if cursor is not None and self._token:
            output.proposals.append(encode_entry(Restarted(domain, cursor, self._token, self._life)))

    def on_restarted(self, effect: CellRestarted) -> bool:
        """All are back: nobody votes on what is settled, everybody executes it from its own cursor.

        Return whether it is the restart of this process.  The log may tell of earlier ones, when the power went again:
        its end is read when peers have met, and after such a restart it may go on.
        """
        settled = effect.settled_through
        for record in self._requests.records(1):
            record.deadly_at = 0  # everybody has to execute it again
        for record in self._requests.records(self._buffer.prefix + 1):
            if record.sequence <= settled:
                record.is_settled = True
        if settled > self._buffer.prefix:
            self._buffer.restart_at(settled)
        for domain, _ in effect.cursors:
            feed = self._feeds.get(domain)
            if feed is not None:
                feed.replay_through = settled
        is_ours = self._feeds.keys() & dict(effect.lives).keys() and all(
            life == self._life for domain, life in effect.lives if int(server_of(domain)) == self._server
        )
        if not is_ours:
            self._begin_anew()
        return bool(is_ours)
