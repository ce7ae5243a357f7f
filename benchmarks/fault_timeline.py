"""From the events of all servers to how long each step of handling one fault took.  Pure.

Every event bears the wall clock of its server; all servers of the benchmark are on one machine and share it.

Source: SPARE §4.11.5 (fault handling from suspicion to the stable reply); design "Stalled verification".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Event = Mapping[str, Any]

STEPS = ("round", "offer", "activated", "awake", "applied", "voted", "answered")
"""Milestones in the order in which they usually come; `awake` and `applied` run beside the three before them."""


@dataclass(frozen=True)
class Request:
    """The request during which the fault happened."""

    sent_us: int
    replied_us: int


@dataclass(frozen=True)
class Timeline:
    """One fault, from its detection to the reply."""

    latency_ms: float
    """From the first suspicion or detection on any server until the client has the stable reply."""
    unnoticed_ms: float
    """From sending the request until then."""
    activated: str
    """The domain whose vote was missing."""
    applied_updates: int
    """Updates that it applied first."""
    milestones_ms: dict[str, float]
    """When each of `STEPS` was reached, after the detection; a step that was not needed is missing."""


def timeline_of(events: Sequence[Event], request: Request) -> Timeline | None:
    """Return what happened; None: no fault was handled, or the reply did not need it.

    Args:
        events: of all servers, since before the request.
        request: the one that stalled.
    """
    later = [event for event in events if event["at_us"] >= request.sent_us]
    detected_us = _first(later, lambda e: e["kind"] in ("stall_began", "domain_gone"))
    activation = next((event for event in later if _is_activation(event)), None)
    if detected_us is None or activation is None or detected_us > request.replied_us:
        return None
    domain = str(activation["data"]["domain"])
    applied = [e for e in later if e["kind"] in ("refreshed", "caught_up") and e["data"]["domain"] == domain]
    applied = [event for event in applied if event["at_us"] <= request.replied_us]
    times_us = {
        "round": _first(later, lambda e: e["kind"] == "round_opened"),
        "offer": _first(later, lambda e: e["kind"] == "offer_ordered" and e["data"]["domain"] == domain),
        "activated": activation["at_us"],
        "awake": _first(later, lambda e: e["kind"] == "sleeper_awake" and e["data"]["domain"] == domain),
        "applied": max((event["at_us"] for event in applied), default=None),
        "voted": _first(later, lambda e: e["kind"] == "stalled_voted" and e["data"]["domain"] == domain),
        "answered": request.replied_us,
    }
    return Timeline(
        latency_ms=_ms(request.replied_us - detected_us),
        unnoticed_ms=_ms(detected_us - request.sent_us),
        activated=domain,
        applied_updates=sum(event["data"]["updates"] for event in applied),
        milestones_ms={step: _ms(at_us - detected_us) for step, at_us in times_us.items() if at_us is not None},
    )


def _is_activation(event: Event) -> bool:
    data = event["data"]
    return bool(event["kind"] == "role_changed" and data.get("role") == "active" and "offered" in data["reason"])


def _first(events: Iterable[Event], is_wanted: Any) -> int | None:
    return min((event["at_us"] for event in events if is_wanted(event)), default=None)


def _ms(microseconds: int) -> float:
    return round(microseconds / 1000, 2)


def breakdown(timelines: Sequence[Timeline]) -> dict[str, float]:
    """Return the median of every milestone, in ms after the detection."""
    found = {}
    for step in STEPS:
        values = [one.milestones_ms[step] for one in timelines if step in one.milestones_ms]
        if values:
            found[step] = round(median(values), 2)
    return found


def percentile(values: Sequence[float], quantile: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed (nearest rank).

    Args:
        values: at least one.
        quantile: 0 to 1.
    """
    ascending = sorted(values)
    rank = max(1, -(-int(quantile * 1000) * len(ascending) // 1000))
    return ascending[rank - 1]
