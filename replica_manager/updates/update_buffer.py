"""Stable updates that some local domain has not been handed yet: the contiguous stable prefix only.

Source: SPARE §4.3.2; design "Passive replicas".
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import NamedTuple


class Batch(NamedTuple):
    """What one `ApplyUpdates` frame carries."""

    up_to: int
    updates: tuple[tuple[int, bytes], ...]


class UpdateBuffer:
    """Non-empty updates by sequence number, ascending, and how far the stable prefix reaches.

    Bounds are the owner's to keep: `entry_count` and `byte_count` say how full it is.
    """

    def __init__(self, prefix: int = 0) -> None:
        """Make an empty buffer; every number up to `prefix` is stable and handed out."""
        self.prefix = prefix
        """Every number up to and including this one is stable here and its update was taken in."""
        self._sequences: list[int] = []
        self._updates: list[bytes] = []
        self._ends: list[int] = []
        """Bytes taken in since the start, up to and including each update held."""
        self._dropped_bytes = 0

    def restart_at(self, prefix: int) -> None:
        """Everything up to `prefix` is in the domains' own states, or will be: no update of it will be asked for."""
        assert prefix >= self.prefix, f"prefix {prefix} after {self.prefix}"
        self.prefix = prefix
        for held in (self._sequences, self._updates, self._ends):
            held.clear()
        self._dropped_bytes = 0

    @property
    def entry_count(self) -> int:
        """Updates held."""
        return len(self._sequences)

    @property
    def byte_count(self) -> int:
        """Their bytes."""
        return (self._ends[-1] if self._ends else self._dropped_bytes) - self._dropped_bytes

    def take_in(self, sequence: int, update: bytes) -> None:
        """Extend the prefix by one number; `update` is empty for commands and read-only requests."""
        assert sequence == self.prefix + 1, f"update {sequence} after prefix {self.prefix}"
        self.prefix = sequence
        if update:
            self._sequences.append(sequence)
            self._updates.append(update)
            self._ends.append((self._ends[-1] if self._ends else self._dropped_bytes) + len(update))

    def waiting_count(self, cursor: int) -> int:
        """Return how many updates a domain with `cursor` has not been handed."""
        return len(self._sequences) - bisect_left(self._sequences, cursor)

    def waiting_bytes(self, cursor: int) -> int:
        """Return their bytes."""
        start = bisect_left(self._sequences, cursor)
        return self.byte_count if start == 0 else self._ends[-1] - self._ends[start - 1]

    def next_update(self, cursor: int) -> int:
        """Return the number of the first update at or after `cursor`; `prefix + 1` if there is none."""
        start = bisect_left(self._sequences, cursor)
        return self._sequences[start] if start < len(self._sequences) else self.prefix + 1

    def batch(self, cursor: int, up_to: int, bytes_max: int) -> Batch:
        """Return the updates from `cursor` through `up_to`, as many as fit `bytes_max` (at least one)."""
        start = bisect_left(self._sequences, cursor)
        end = bisect_right(self._sequences, up_to)
        sizes = accumulate(len(update) + 16 for update in self._updates[start:end])
        fitting = sum(1 for size in sizes if size <= bytes_max)
        taken = start + max(fitting, min(1, end - start))
        reached = up_to if taken == end else self._sequences[taken] - 1
        return Batch(reached, tuple(zip(self._sequences[start:taken], self._updates[start:taken], strict=True)))

    def drop_below(self, cursor: int) -> None:
        """Forget updates below `cursor`: every local domain was handed them and confirmed."""
        count = bisect_left(self._sequences, cursor)
        if count:
            self._dropped_bytes = self._ends[count - 1]
            for held in (self._sequences, self._updates, self._ends):
                del held[:count]
