"""How totals are divided exactly."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubis_adapter.population.shares import flags, proportional, spread


@given(st.integers(0, 10_000), st.lists(st.integers(1, 8_000), min_size=1, max_size=30))
def test_proportional_parts_sum_to_the_total_and_are_off_by_less_than_one(total: int, weights: list[int]) -> None:
    parts = proportional(total, weights)
    assert sum(parts) == total
    assert all(abs(part - total * weight / sum(weights)) < 1 for part, weight in zip(parts, weights, strict=True))


@given(st.integers(0, 400), st.integers(1, 20), st.data())
def test_spread_counts_sum_to_the_total_and_respect_the_limit(places: int, most: int, data: st.DataObject) -> None:
    total = data.draw(st.integers(0, places * most))
    counts = spread(Random(1), total, places, most)
    assert len(counts) == places
    assert sum(counts) == total
    assert all(count <= most for count in counts)


def test_spread_refuses_more_than_fits() -> None:
    with pytest.raises(AssertionError, match="more than the places can hold"):
        spread(Random(1), 21, 1, 20)


@given(st.integers(0, 500), st.floats(0, 1))
def test_flags_mark_exactly_the_rounded_share(places: int, share: float) -> None:
    marked = flags(Random(1), places, share)
    assert len(marked) == places
    assert sum(marked) == round(places * share)
