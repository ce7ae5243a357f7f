"""How far this server is, and what may therefore be dropped here and everywhere.

Source: design "What may be dropped, and catching up" (`L12` of its list of traps).
"""

from collections.abc import Callable, Mapping

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import ProgressMade
from replica_manager.cell.entries import DIGEST_INTERVAL, Progress
from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import REPAIR
from replica_manager.execution.feed import Feed
from replica_manager.execution.request_log import RequestLog
from replica_manager.identifiers import DomainId
from replica_manager.updates.update_buffer import UpdateBuffer

DIGESTS_KEPT = 64
"""Digests of the cell state that reports of slower servers are compared with."""
FOLLOWER_LAG_MAX = 5_000
"""Numbers by which a peer may lag for the others to keep what it misses, beyond `stable_all`."""
OVERRUN_FACTOR = 2
"""At its bound the buffer makes intake refuse requests, here; other servers' intakes go on until theirs are full.
At this multiple the domain that holds everything up is given up: one faulty sleeper must not fill the memory."""


class Retention:
    """Reports progress, compares it, and drops what nobody needs."""

    def __init__(
        self, cell: CellState, requests: RequestLog, buffer: UpdateBuffer, feeds: Mapping[DomainId, Feed]
    ) -> None:
        """Keep watch over these; nothing is reported yet."""
        self._cell = cell
        self._requests = requests
        self._buffer = buffer
        self._feeds = feeds
        self.followers_stable: Callable[[], Mapping[int, int]] = dict
        """The stable prefixes that peers have told of, live ones and learners, by server; its owner sets it."""
        self.is_whole_log_needed: Callable[[], bool] = lambda: False
        """Whether domains may come back that nothing is known of yet; its owner sets it."""
        self._digests: dict[int, bytes] = {}
        self._last_request = 0
        self._reported: tuple[int, int, int] = (0, 0, 0)

    def _present(self) -> list[Feed]:
        return [feed for feed in self._feeds.values() if feed.holds_the_log]

    def on_delivered(self, sequence: int, *, is_request: bool) -> None:
        """An entry was applied."""
        if is_request:
            self._last_request = sequence
        if sequence % DIGEST_INTERVAL == 0:
            self._digests[sequence] = self._cell.chain
            self._digests.pop(sequence - DIGESTS_KEPT * DIGEST_INTERVAL, None)

    @property
    def durable(self) -> int:
        """Up to where every domain of this server has on its disk what it was handed, or would be."""
        feeds = [feed for feed in self._feeds.values() if feed.holds_the_disk]
        return min((feed.durable_through(self._buffer) for feed in feeds), default=self._buffer.prefix)

    def report(self) -> Progress | None:
        """Return what to tell the cell; None: nothing worth an entry."""
        prefix, durable = self._buffer.prefix, self.durable
        position = max(self._digests, default=0)
        # A report is an entry itself and extends the prefix: count requests only, or an idle cell would never rest.
        useful = (min(prefix, self._last_request), min(durable, prefix, self._last_request), position)
        if useful == self._reported:
            return None
        self._reported = useful
        return Progress(self._cell.sequence, prefix, min(durable, prefix), position, self._digests.get(position, b""))

    def on_progress(self, progress: ProgressMade) -> None:
        """A server's report was delivered: its cell state must be ours, and old numbers may go.

        A difference is a broken invariant and ends the process, before a domain is told anything that the others' are
        not: a crash is inside the fault model, a wrong vote is not.
        """
        own = self._digests.get(progress.digest_position)
        assert own is None or own == progress.digest, (
            f"cell state at {progress.digest_position} differs between this server and server {progress.server}"
        )
        self.drop()

    def drop(self) -> None:
        """Forget values that every live server has; numbers and updates also when every domain here was handed them.

        With no domain here nobody would ever be handed them, unless the cell restarts and they come back from their
        disks.
        """
        if self.is_whole_log_needed():
            return
        stable_all = min(self._cell.stable_all, self._buffer.prefix, *self._held_for_followers())
        needed_from = self._needed_from()
        replayed = [feed.executes_from for feed in self._present() if feed.executes_from is not None]
        self._requests.forget_values_through(min([stable_all, *(first - 1 for first in replayed)]))
        self._requests.drop_through(min(stable_all, needed_from - 1))
        self._buffer.drop_below(needed_from)

    def _held_for_followers(self) -> list[int]:
        """Who is near gets the values it misses, also one that joined while `stable_all` was ahead of it.

        A learner that is far begins with a state: from its point on it needs the values, and may read of the point, and
        say how far it is, long after the others have everything stable.  A live server reports, and so is in
        `stable_all` itself.
        """
        limit = self._cell.sequence - FOLLOWER_LAG_MAX
        stable = dict(self.followers_stable())
        point = self._cell.state_point
        # What a server left behind that has vanished waits for nothing.
        present = stable.keys() | ({point.host} if point is not None and point.kind == REPAIR else set())
        for server in present:
            points = [one.since for one in self._cell.domains_of(server) if one.role is Role.STARTING]
            if points and not self._cell.is_live(server):
                stable[server] = max(stable.get(server, 0), min(points) - 1)
        return [position for position in stable.values() if position >= limit]

    def _needed_from(self) -> int:
        buffer = self._buffer
        return min((feed.needed_from(buffer) for feed in self._present()), default=buffer.prefix + 1)

    def laggard(self, entries_max: int, bytes_max: int) -> DomainId | None:
        """Return the domain that makes the buffer exceed its bounds far, if there is one."""
        buffer, factor = self._buffer, OVERRUN_FACTOR
        if buffer.entry_count <= factor * entries_max and buffer.byte_count <= factor * bytes_max:
            return None
        self.drop()  # what was confirmed since the last report may suffice
        if buffer.entry_count <= factor * entries_max and buffer.byte_count <= factor * bytes_max:
            return None
        return min(self._present(), key=lambda feed: feed.needed_from(buffer)).domain
