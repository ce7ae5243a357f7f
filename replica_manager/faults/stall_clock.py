"""How long to wait for a vote.

Counted from a request's delivery, one pause of a loaded machine would make every number in flight look stalled; so
the clock of a number runs only while it is the lowest open one and some domain has voted on it.  The limit follows
what domains really need: twice the longest lag behind the first vote of late.

Source: design "Noticing" (`M1` of its list of traps).
"""

LAG_FACTOR = 2
HALVING_MS = 30_000
"""An observed lag counts half after this time: a service that was slow for a while is not waited for for ever."""


class StallClock:
    """The clock of the lowest open number, and the limit that it runs against."""

    def __init__(self, start_ms: int, max_ms: int) -> None:
        """Begin with the limit `start_ms`, which is also its lower bound; `max_ms` is the upper one."""
        self._start_ms = start_ms
        self._max_ms = max_ms
        self._longest_lag_ms = 0.0
        self._decayed_at_ms = 0
        self._sequence = 0
        self._voted_ms: int | None = None

    def note_lag(self, lag_ms: int, now_ms: int) -> None:
        """A domain voted `lag_ms` after the first one."""
        self._decay(now_ms)
        self._longest_lag_ms = max(self._longest_lag_ms, float(lag_ms))

    def _decay(self, now_ms: int) -> None:
        passed_ms = now_ms - self._decayed_at_ms
        if passed_ms > 0:
            self._longest_lag_ms *= 0.5 ** (passed_ms / HALVING_MS)
            self._decayed_at_ms = now_ms

    @property
    def limit_ms(self) -> int:
        """How long a vote may stay out after another domain's."""
        return int(min(self._max_ms, max(self._start_ms, LAG_FACTOR * self._longest_lag_ms)))

    def watch(self, sequence: int, now_ms: int, *, has_vote: bool) -> None:
        """`sequence` is the lowest open number now; 0: none is open."""
        self._decay(now_ms)
        if sequence != self._sequence:
            self._sequence = sequence
            self._voted_ms = None
        if has_vote and self._voted_ms is None:
            self._voted_ms = now_ms

    def restart(self, now_ms: int) -> None:
        """This process was paused: what came meanwhile was not late."""
        if self._voted_ms is not None:
            self._voted_ms = now_ms

    def share(self, now_ms: int) -> float:
        """Return how much of its time the watched number has used; from 1 on it stalls."""
        if self._sequence == 0:
            return 0.0
        # A request on which nobody has voted may be one that hangs whoever executes it: more domains would hang too.
        return 0.0 if self._voted_ms is None else (now_ms - self._voted_ms) / self.limit_ms
