"""Latency histogram: percentiles against sorted values."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubis_adapter.client_emulator.histogram import RELATIVE_ERROR, VALUE_BITS_MAX, LatencyHistogram

latencies = st.one_of(st.integers(0, 300), st.integers(0, 10**6), st.integers(0, 2**VALUE_BITS_MAX - 1))


def histogram_of(values: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(value)
    return histogram


def exact_percentile(values: list[int], percent: float) -> int:
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


@given(st.lists(latencies, min_size=1, max_size=200), st.sampled_from([0, 1, 50, 90, 99, 99.9, 100]))
def test_a_percentile_is_never_too_low_and_at_most_one_bucket_too_high(values: list[int], percent: float) -> None:
    found = histogram_of(values).percentile_us(percent)
    exact = exact_percentile(values, percent)
    assert exact <= found <= exact * (1 + RELATIVE_ERROR)


@given(st.lists(st.integers(0, 255), min_size=1))
def test_short_latencies_are_exact(values: list[int]) -> None:
    assert histogram_of(values).percentile_us(50) == exact_percentile(values, 50)


def test_percentiles_of_many_exponential_latencies_are_within_one_percent() -> None:
    random = Random(1)
    values = [round(random.expovariate(1 / 20_000)) for _ in range(100_000)]
    histogram = histogram_of(values)
    for percent in (50, 90, 99, 99.9):
        assert histogram.percentile_us(percent) == pytest.approx(exact_percentile(values, percent), rel=0.01)
    assert histogram.percentile_us(100) == histogram.max_us == max(values)


def test_an_empty_histogram_has_zero_percentiles() -> None:
    assert LatencyHistogram().percentile_us(99) == 0
    assert LatencyHistogram().max_us == 0


def test_values_out_of_range_count_as_the_nearest() -> None:
    histogram = histogram_of([-5, 2**60])
    assert histogram.count == 2
    assert histogram.percentile_us(50) == 0
    assert histogram.max_us == 2**VALUE_BITS_MAX - 1


@given(st.lists(latencies), st.lists(latencies))
def test_adding_histograms_counts_both(first: list[int], second: list[int]) -> None:
    added, whole = histogram_of(first), histogram_of(first + second)
    added.add(histogram_of(second))
    assert (added.count, added.max_us) == (whole.count, whole.max_us)
    assert [added.percentile_us(p) for p in range(0, 101, 5)] == [whole.percentile_us(p) for p in range(0, 101, 5)]
