"""What clients saw: when each reply came and how long it took, and what became of the others."""

import time
from dataclasses import dataclass, field


@dataclass
class Record:
    """Written by clients while they are at work."""

    replies: list[tuple[int, float]] = field(default_factory=list)
    """Wall clock in microseconds since 1970, latency in ms."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Wall clock, and what became of the request."""
    unsent: int = 0
    """Requests that were still due when the time was over."""

    def reply(self, due_s: float) -> None:
        """A request that was due at `due_s`, on the monotonic clock, is answered now."""
        self.replies.append((_now_us(), round(1000 * (time.monotonic() - due_s), 3)))

    def fail(self, reason: str) -> None:
        """A request has failed now."""
        self.failed.append((_now_us(), reason))


def _now_us() -> int:
    return time.time_ns() // 1000
