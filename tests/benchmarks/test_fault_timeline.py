"""From events to how long each step of handling a fault took."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fault_timeline import Request, breakdown, percentile, timeline_of

SENT_US, REPLIED_US = 1_000_000, 1_060_000


def event(at_us: int, kind: str, **data: Any) -> dict[str, Any]:
    """Return an event of server 0."""
    return {"at_us": at_us, "server": 0, "id": at_us, "kind": kind, "data": data}


def handled_fault() -> list[dict[str, Any]]:
    """Return the events of a lie."""
    return [
        event(900_000, "refreshed", domain="s0.g2", updates=50, up_to=7),
        event(1_010_000, "stall_began", sequence=9, diverged=True),
        event(1_010_100, "offer_ordered", domain="s0.g2", round=1),
        event(1_014_000, "round_opened", round=1, count=1, sequence=9),
        event(1_014_500, "role_changed", domain="s0.g2", role="active", reason="offered in round 1"),
        event(1_016_000, "sleeper_awake", domain="s0.g2"),
        event(1_040_000, "caught_up", domain="s0.g2", updates=99, up_to=8),
        event(1_055_000, "stalled_voted", domain="s0.g2", sequence=9),
    ]


def test_the_latency_counts_from_the_first_detection_to_the_reply() -> None:
    timeline = timeline_of(handled_fault(), Request(SENT_US, REPLIED_US))
    assert timeline is not None
    assert (timeline.latency_ms, timeline.unnoticed_ms) == (50.0, 10.0)
    assert (timeline.activated, timeline.applied_updates) == ("s0.g2", 99)


def test_every_milestone_counts_from_the_detection() -> None:
    timeline = timeline_of(handled_fault(), Request(SENT_US, REPLIED_US))
    assert timeline is not None
    assert timeline.milestones_ms == {
        "round": 4.0,
        "offer": 0.1,
        "activated": 4.5,
        "awake": 6.0,
        "applied": 30.0,
        "voted": 45.0,
        "answered": 50.0,
    }


def test_a_step_that_was_not_needed_is_missing() -> None:
    """A passive domain that is kept running is not woken."""
    events = [one for one in handled_fault() if one["kind"] != "sleeper_awake"]
    timeline = timeline_of(events, Request(SENT_US, REPLIED_US))
    assert timeline is not None
    assert "awake" not in timeline.milestones_ms


@pytest.mark.parametrize("missing", ["stall_began", "role_changed"])
def test_without_detection_or_activation_there_is_no_timeline(missing: str) -> None:
    events = [one for one in handled_fault() if one["kind"] != missing]
    assert timeline_of(events, Request(SENT_US, REPLIED_US)) is None


def test_a_fault_that_was_noticed_after_the_reply_held_nothing_up() -> None:
    assert timeline_of(handled_fault(), Request(SENT_US, 1_005_000)) is None


def test_a_role_that_the_planner_gave_is_no_activation() -> None:
    events = handled_fault()
    events[4]["data"]["reason"] = "promoted"
    assert timeline_of(events, Request(SENT_US, REPLIED_US)) is None


def test_the_breakdown_has_the_median_of_each_milestone() -> None:
    timeline = timeline_of(handled_fault(), Request(SENT_US, REPLIED_US))
    assert timeline is not None
    assert breakdown([timeline, timeline])["voted"] == 45.0


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([5.0, 1.0, 3.0, 2.0, 4.0], 0.9) == 5.0
    assert percentile([5.0, 1.0, 3.0, 2.0, 4.0], 0.5) == 3.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_so_large_a_share_does_not_exceed_a_percentile(values: list[float], quantile: float) -> None:
    found = percentile(values, quantile)
    assert sum(value <= found for value in values) >= quantile * len(values)
    assert sum(value < found for value in values) <= quantile * len(values)
