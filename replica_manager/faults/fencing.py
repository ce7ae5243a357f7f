"""Who fences whom, and when, in a cell without witnesses.  Pure; time is an argument.

Without witnesses a server that is silent blocks the cell until it has surely stopped.  Of servers that suspect each
other the lowest begins at once and the others later, one after the other: two that switch each other off at the same
moment leave nobody.

Source: design section 3, `witnesses = 0` (`S5` of its list of traps).
"""

from collections.abc import Sequence
from dataclasses import dataclass

RETRY_MS_MIN, RETRY_MS_MAX = 2_000, 60_000
"""Between a fencing that failed and the next attempt."""


@dataclass(slots=True)
class Suspicion:
    """One silent server."""

    server: int
    since_ms: int
    """When it was suspected first."""
    renewed_ms: int
    """When agreement said so last; it does so again and again while the silence lasts."""
    failures: int = 0
    """Attempts to fence it that failed."""
    last_failure: str = ""
    is_running: bool = False
    """Whether an attempt is under way."""
    is_fenced: bool = False
    """Whether it has surely stopped; its departure is ordered."""
    not_before_ms: int = 0


class Fencing:
    """One server's suspicions and what it does about them."""

    def __init__(self, server: int, delay_ms: int, stale_ms: int) -> None:
        """Nobody is suspected.

        Args:
            server: this one.
            delay_ms: a server waits so long for each live server with a lower id.
            stale_ms: a suspicion that was not renewed for so long is over.
        """
        self._server = server
        self._delay_ms = delay_ms
        self._stale_ms = stale_ms
        self._suspicions: dict[int, Suspicion] = {}

    @property
    def suspicions(self) -> Sequence[Suspicion]:
        """Who is suspected now."""
        return list(self._suspicions.values())

    def on_suspected(self, server: int, now_ms: int) -> None:
        """The agreement stage cannot go on for want of this server's answers."""
        known = self._suspicions.get(server)
        if known is None:
            self._suspicions[server] = Suspicion(server, now_ms, now_ms)
        else:
            known.renewed_ms = now_ms

    def on_leader(self) -> None:
        """Somebody leads: without witnesses every server that was not fenced has answered."""
        for server, suspicion in list(self._suspicions.items()):
            if not (suspicion.is_running or suspicion.is_fenced):
                del self._suspicions[server]

    def take_due(self, now_ms: int, live_servers: Sequence[int], *, may_fence: bool) -> list[int]:
        """Return whom to fence now; each is answered by `on_result`.

        Args:
            now_ms: monotonic time.
            live_servers: members of the cell.
            may_fence: whether this server serves.  One that starts is nobody: the cell may have gone on without it.
        """
        self._forget(now_ms, live_servers)
        if not may_fence or self._server not in live_servers:
            return []
        wait_ms = self._delay_ms * sorted(live_servers).index(self._server)
        due = []
        for suspicion in self._suspicions.values():
            is_waiting = not (suspicion.is_running or suspicion.is_fenced)
            if is_waiting and now_ms >= max(suspicion.since_ms + wait_ms, suspicion.not_before_ms):
                suspicion.is_running = True
                due.append(suspicion.server)
        return due

    def _forget(self, now_ms: int, live_servers: Sequence[int]) -> None:
        for server, suspicion in list(self._suspicions.items()):
            is_stale = now_ms - suspicion.renewed_ms > self._stale_ms and not suspicion.is_fenced
            if not suspicion.is_running and (server not in live_servers or is_stale):
                del self._suspicions[server]

    def on_result(self, server: int, failure: str, now_ms: int) -> None:
        """An attempt has ended; an empty `failure` means that the server has surely stopped."""
        suspicion = self._suspicions[server]
        suspicion.is_running = False
        if not failure:
            suspicion.is_fenced = True
            return
        suspicion.failures += 1
        suspicion.last_failure = failure
        suspicion.not_before_ms = now_ms + min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** (suspicion.failures - 1))
