"""What the load has seen: replies per second, failures by reason.  Pure; times are arguments."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of one load."""

    began_s: float
    """Monotonic."""
    per_second: list[int] = field(default_factory=list)
    """Successful replies in each second since then."""
    failures: Counter[str] = field(default_factory=Counter)
    replies: int = 0

    @property
    def requests(self) -> int:
        """Requests that ended, well or not."""
        return self.replies + sum(self.failures.values())

    def replied(self, now_s: float) -> None:
        """A request was answered."""
        self.replies += 1
        self._until(now_s)
        self.per_second[int(now_s - self.began_s)] += 1

    def failed(self, reason: str, now_s: float) -> None:
        """A request failed."""
        self._until(now_s)
        self.failures[reason] += 1

    def _until(self, now_s: float) -> None:
        second = int(now_s - self.began_s)
        self.per_second += [0] * (second + 1 - len(self.per_second))
