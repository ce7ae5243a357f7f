"""The histogram of durations."""

import pytest

from replica_manager.ordering.histogram import BUCKET_COUNT, DurationHistogram


@pytest.mark.parametrize("index", range(BUCKET_COUNT - 1))
def test_a_bound_belongs_to_its_own_bucket(index: int) -> None:
    histogram = DurationHistogram()
    histogram.observe(DurationHistogram.bound_ms(index))
    histogram.observe(DurationHistogram.bound_ms(index) * 1.01)
    assert (histogram.counts[index], histogram.counts[index + 1]) == (1, 1)


def test_quantiles_are_upper_bounds() -> None:
    histogram = DurationHistogram()
    for duration_ms in [0.0] + [0.3] * 98 + [1e9]:
        histogram.observe(duration_ms)
    assert [histogram.quantile_ms(share) for share in (0.01, 0.5, 0.99, 1.0)] == [0.0625, 0.5, 0.5, float("inf")]
    assert histogram.count == 100


def test_an_empty_histogram_has_quantile_zero() -> None:
    assert DurationHistogram().quantile_ms(0.5) == 0.0
