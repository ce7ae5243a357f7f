"""Latencies in a fixed number of buckets whose width grows with the value."""

import math
from typing import Final

_SUB_BUCKET_BITS: Final = 7
_SUB_BUCKETS: Final = 1 << _SUB_BUCKET_BITS
VALUE_BITS_MAX: Final = 36
"""Values below 2³⁶ µs, 19 hours, are told apart; larger ones count as that."""
RELATIVE_ERROR: Final = 1 / _SUB_BUCKETS
"""A reported percentile is at most this share too high, and never too low."""


class LatencyHistogram:
    """Counts microseconds: exact below 256, then 128 buckets per power of two."""

    def __init__(self) -> None:
        self.count = 0
        self.max_us = 0
        self._counts = [0] * (_SUB_BUCKETS * (VALUE_BITS_MAX - _SUB_BUCKET_BITS + 1))

    def record(self, latency_us: int) -> None:
        """Counts one latency; negative ones (a clock's granularity) count as 0."""
        value = min(max(latency_us, 0), (1 << VALUE_BITS_MAX) - 1)
        shift = max(0, value.bit_length() - _SUB_BUCKET_BITS - 1)
        self._counts[shift * _SUB_BUCKETS + (value >> shift)] += 1
        self.count += 1
        if value > self.max_us:
            self.max_us = value

    def add(self, other: "LatencyHistogram") -> None:
        """Counts everything that `other` has counted."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.max_us = max(self.max_us, other.max_us)

    def percentile_us(self, percent: float) -> int:
        """The least recorded latency that `percent` (0 to 100) of all do not exceed; 0 if there are none."""
        wanted = max(1, math.ceil(self.count * percent / 100))
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(_highest_of_bucket(index), self.max_us)
        return self.max_us


def _highest_of_bucket(index: int) -> int:
    shift = max(0, index // _SUB_BUCKETS - 1)
    return ((index - shift * _SUB_BUCKETS + 1) << shift) - 1
