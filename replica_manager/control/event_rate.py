"""How many events of one kind may be recorded: a token bucket per kind that counts what it refuses."""

from collections.abc import Sequence
from dataclasses import dataclass

BURST = 100
PER_SECOND = 20.0
KINDS_MAX = 1000
"""Kinds are named in the code; should one ever be made from what others send, the rest shares one bucket."""
_OTHER_KINDS = "others"
REPORT_INTERVAL_US = 10_000_000
"""While a kind floods, one report of what was left out comes this often."""


@dataclass(slots=True)
class _Bucket:
    """State of one kind."""

    tokens: float
    filled_at_us: int
    suppressed: int = 0
    suppressed_since_us: int = 0


class EventRate:
    """Admits events; pure, time is an argument."""

    def __init__(self, burst: int = BURST, per_second: float = PER_SECOND) -> None:
        """Admit `burst` events of a kind at once and `per_second` of it in the long run."""
        self._burst = burst
        self._per_us = per_second / 1_000_000
        self._buckets: dict[str, _Bucket] = {}
        self._suppressing: set[str] = set()

    def admits(self, kind: str, now_us: int) -> bool:
        """Say whether an event of `kind` may be recorded now; if not, it is counted."""
        if kind not in self._buckets and len(self._buckets) >= KINDS_MAX:
            kind = _OTHER_KINDS
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = _Bucket(float(self._burst), now_us)
        # The wall clock may step back: no time has passed then.
        passed_us = max(0, now_us - bucket.filled_at_us)
        bucket.tokens = min(float(self._burst), bucket.tokens + passed_us * self._per_us)
        bucket.filled_at_us = now_us
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return True
        if bucket.suppressed == 0:
            bucket.suppressed_since_us = now_us
            self._suppressing.add(kind)
        bucket.suppressed += 1
        return False

    def take_suppressed(self, now_us: int | None) -> Sequence[tuple[str, int]]:
        """Return kinds and numbers of refused events that are due for a report, and forget them.

        Args:
            now_us: the time; `None`: everything is due.
        """
        if not self._suppressing:
            return ()
        due = []
        for kind in sorted(self._suppressing):
            bucket = self._buckets[kind]
            if now_us is None or abs(now_us - bucket.suppressed_since_us) >= REPORT_INTERVAL_US:
                due.append((kind, bucket.suppressed))
                bucket.suppressed = 0
                self._suppressing.remove(kind)
        return due
