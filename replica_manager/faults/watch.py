"""What a server knows alone of its own domains: which of them does not do in time what it was handed.

A silent voter of an open number is found by the stall clock, whoever hosts it.  Here are the cases that no vote shows:
a sleeper that does not apply, a domain that does not give its state, an extra active domain that is silent while others
suffice, a domain that never makes its state durable, and a request that takes longer than any may.

Source: design "Noticing", "Passive replicas" (a passive domain that does not confirm in time), "More rounds".
"""

from collections.abc import Mapping
from dataclasses import dataclass

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import Suspected, encode_entry
from replica_manager.core_output import CoreOutput
from replica_manager.execution.feed import Feed, Power
from replica_manager.execution.request_log import RequestLog
from replica_manager.identifiers import DomainId

EXTRA_FACTOR = 4
"""An active domain whose vote nobody waits for may be this many times later than one that is waited for."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Time limits of a domain's answers."""

    applied_timeout_ms: int
    """For one batch of updates, or a sync."""
    state_timeout_ms: int
    """For the next part of its state."""
    execution_limit_ms: int
    """For one request; a domain that exceeds it is stopped."""


@dataclass(slots=True)
class _Waiting:
    """What a domain owes, and since when."""

    owed: tuple[int, int, bool, int, int] = (0, 0, False, 0, 0)
    since_ms: int = 0


class DomainWatch:
    """Watches the feeds of one server."""

    def __init__(
        self, settings: WatchSettings, cell: CellState, requests: RequestLog, feeds: Mapping[DomainId, Feed]
    ) -> None:
        """Nobody is late."""
        self._settings = settings
        self._cell = cell
        self._requests = requests
        self._feeds = feeds
        self._waiting: dict[DomainId, _Waiting] = {}
        self._suspected: set[DomainId] = set()
        self._looked_ms = 0

    def on_timer(self, now_ms: int, stall_limit_ms: int, output: CoreOutput) -> list[tuple[DomainId, str]]:
        """Order suspicions; return `(domain, reason)` of domains that are to be stopped."""
        is_late = self._looked_ms > 0 and now_ms - self._looked_ms > stall_limit_ms // 2
        self._looked_ms = now_ms
        stopped = []
        for feed in self._feeds.values():
            waited_ms = self._waited_ms(feed, now_ms, is_late)
            reason = self._complaint(feed, waited_ms, stall_limit_ms)
            if reason:
                self._suspect(feed.domain, reason, output)
            if feed.executing and waited_ms >= self._settings.execution_limit_ms:
                stopped.append((feed.domain, f"request {feed.executing[0]} exceeded the execution limit"))
        self._waiting = {domain: waiting for domain, waiting in self._waiting.items() if domain in self._feeds}
        return stopped

    def _waited_ms(self, feed: Feed, now_ms: int, is_late: bool) -> int:
        """Return how long the domain owes the very same answer while it has CPU time."""
        waiting = self._waiting.setdefault(feed.domain, _Waiting())
        executing = feed.executing[0] if feed.executing else 0
        owed = (executing, feed.applying_up_to, feed.is_syncing, feed.state_point, feed.state_part_count)
        is_idle = owed[:4] == (0, 0, False, 0) or feed.power is not Power.RUNNING
        # After a pause of this process: what came meanwhile was not late.
        if is_idle or is_late or owed != waiting.owed:
            waiting.owed, waiting.since_ms = owed, now_ms
        return now_ms - waiting.since_ms

    def _complaint(self, feed: Feed, waited_ms: int, stall_limit_ms: int) -> str:
        if feed.executing:
            record = self._requests.get(feed.executing[0])
            is_answered = record is None or record.stable_digest is not None
            is_late = is_answered and waited_ms >= EXTRA_FACTOR * stall_limit_ms
            return f"no vote on {feed.executing[0]}, which others have agreed on" if is_late else ""
        if feed.state_point and waited_ms >= self._settings.state_timeout_ms:
            return f"its state at {feed.state_point} does not come in time"
        if waited_ms < self._settings.applied_timeout_ms:
            return ""
        if feed.applying_up_to:
            return f"updates up to {feed.applying_up_to} not confirmed in time"
        return "its state is not on its disk in time" if feed.is_syncing else ""

    def _suspect(self, domain: DomainId, reason: str, output: CoreOutput) -> None:
        record = self._cell.domains.get(domain)
        if record is not None and not record.suspicion and domain not in self._suspected:
            self._suspected.add(domain)
            output.proposals.append(encode_entry(Suspected(domain, reason, self._cell.sequence)))
