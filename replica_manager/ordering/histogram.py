"""A histogram of durations with doubling buckets, cheap enough for every sync."""

BUCKET_FIRST_MS = 0.0625
BUCKET_COUNT = 18


class DurationHistogram:
    """Counts durations in buckets whose upper bounds double from 1/16 ms to about 8 s; the last one is open."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKET_COUNT
        """Observations per bucket; bucket `i` holds durations ≤ `bound_ms(i)` and above the bound before."""
        self.count = 0
        self.sum_ms = 0.0

    @staticmethod
    def bound_ms(index: int) -> float:
        """Return the inclusive upper bound of bucket `index`, in ms; the last bucket has none."""
        return BUCKET_FIRST_MS * float(2**index) if index < BUCKET_COUNT - 1 else float("inf")

    def observe(self, duration_ms: float) -> None:
        """Count one duration ≥ 0."""
        # Bit length of the duration in units of the first bound is the bucket: no search, no float logarithm.
        index = (int(duration_ms / BUCKET_FIRST_MS - 1e-9)).bit_length() if duration_ms > BUCKET_FIRST_MS else 0
        self.counts[min(index, BUCKET_COUNT - 1)] += 1
        self.count += 1
        self.sum_ms += duration_ms

    def quantile_ms(self, share: float) -> float:
        """Return the upper bound of the bucket that holds the `share` quantile (0 < share ≤ 1); 0.0 when empty."""
        wanted = share * self.count
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return self.bound_ms(index)
        return 0.0
