"""From the events of all servers to how long each phase of one proactive recovery took.  Pure.

Every event bears the wall clock of its server; all servers of the benchmark are on one machine and share it.
A phase of the recovery ends when the last server is through with it, so that phases follow each other and add up.

Source: design "Proactive recovery"; `docs/operations.md`, "Events".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from replica_manager.identifiers import DomainId, server_of

Event = Mapping[str, Any]

KINDS = (
    "recovery_began",
    "next_booting",
    "domain_ready",
    "recovery_ordered",
    "repair_state_agreed",
    "next_filled",
    "role_changed",
    "recovery_complete",
    "recovery_incomplete",
)
"""Events that tell of the steps."""
INCIDENTS = (
    "stall_began",
    "domain_suspected",
    "vote_contradicts",
    "vote_diverged",
    "domain_gone",
    "repair_began",
    "repair_retried",
    "server_suspected",
    "leader_changed",
    "membership_changed",
)
"""Events that a recovery does not need: what else happened tells why it took long, or clients had to wait."""
PHASES = ("boot", "refresh and take", "fill", "switch", "old one gone")
"""In their order; each from the end of the one before."""
ENDS = ("recovery_complete", "recovery_incomplete")


@dataclass(frozen=True)
class ServerSteps:
    """One server's part in seconds; None: it has not got so far, or what it needed was there already."""

    server: int
    fresh: str
    """The domain that sleeps at the end; empty: none was filled."""
    boot_s: float | None
    """From the order to boot its next generation until its wrapper said Hello."""
    take_s: float | None
    """From the point until enough sleepers had given the same state."""
    fill_s: float | None
    """From then until the cell knew that its next generation holds that state."""
    switch_s: float | None
    """From then until its sleeper was active: other servers' switches come first."""
    old_gone_s: float | None
    """From then until the domain that was active before was given up."""


@dataclass(frozen=True)
class RecoverySteps:
    """One recovery."""

    number: int
    kind: str
    """`lightweight`, or `resilient`: what it became when its point was ordered."""
    is_complete: bool
    """Whether every server was renewed."""
    began_us: int
    ended_us: int
    phases_s: dict[str, float]
    """Seconds by `PHASES`; a phase that nobody came through is missing."""
    servers: list[ServerSteps]
    incidents: list[str]
    """What else happened since its begin, in a line each."""

    @property
    def duration_s(self) -> float:
        """From the first server that heard of the begin to the last one that heard of the end."""
        return seconds(self.began_us, self.ended_us)

    def row(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**asdict(self), "duration_s": self.duration_s}


class NoRecovery(Exception):
    """Raised when the events do not tell of a recovery from its begin to its end: there is nothing to measure."""


def steps_of(events: Iterable[Event], number: int) -> RecoverySteps:
    """Return what happened in the recovery `number`.

    Args:
        events: of all servers, in any order, of `KINDS` and `INCIDENTS`; others are passed over.
        number: of a recovery that has ended.

    Raises:
        NoRecovery: its begin or its end is missing.
    """
    ordered = sorted(events, key=lambda event: event["at_us"])
    begins = [event for event in ordered if event["kind"] == "recovery_began" and event["data"]["number"] == number]
    ends = [event for event in ordered if event["kind"] in ENDS and event["data"]["number"] == number]
    if not begins or not ends:
        raise NoRecovery(f"no server tells begin and end of recovery {number}")
    began_us, ended_us = begins[0]["at_us"], ends[-1]["at_us"]
    inside = [event for event in ordered if began_us <= event["at_us"] <= ended_us]
    own = [_own_steps(inside, server, number) for server in sorted({event["server"] for event in begins})]
    return RecoverySteps(
        number,
        ends[-1]["data"]["recovery"],
        ends[-1]["kind"] == "recovery_complete",
        began_us,
        ended_us,
        _phases_s(began_us, own, ended_us),
        [one.steps() for one in own],
        [_incident(event, began_us) for event in ordered if event["kind"] in INCIDENTS and event["at_us"] >= began_us],
    )


def boundaries_us(steps: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Return `(phase, begin, end)` of the row of a recovery, for a picture."""
    found, at_us = [], int(steps["began_us"])
    for phase in PHASES:
        if phase in steps["phases_s"]:
            end_us = at_us + round(steps["phases_s"][phase] * 1_000_000)
            found.append((phase, at_us, end_us))
            at_us = end_us
    return found


def seconds(begin_us: int, end_us: int) -> float:
    """Return the time between two moments, to the millisecond."""
    return round((end_us - begin_us) / 1_000_000, 3)


def _incident(event: Event, began_us: int) -> str:
    return f"{seconds(began_us, event['at_us']):.1f} s, server {event['server']}, {event['kind']}: {event['text']}"


@dataclass(frozen=True)
class _Moments:
    """When a server came to each step, microseconds; None: never."""

    server: int
    fresh: str
    booting: int | None
    ready: int | None
    ordered: int | None
    agreed: int | None
    filled: int | None
    switched: int | None
    old_gone: int | None

    def steps(self) -> ServerSteps:
        chain = (self.ordered, self.agreed, self.filled, self.switched, self.old_gone)
        return ServerSteps(
            self.server, self.fresh, _maybe_s(self.booting, self.ready), *(_maybe_s(*pair) for pair in pairwise(chain))
        )


def _own_steps(events: Sequence[Event], server: int, number: int) -> _Moments:
    """What a server says of itself: others hear of the same entries a little earlier or later."""
    own = [event for event in events if event["server"] == server]

    def last(is_meant: Callable[[Event], bool]) -> Event | None:
        return next((event for event in reversed(own) if is_meant(event)), None)

    def last_us(is_meant: Callable[[Event], bool]) -> int | None:
        found = last(is_meant)
        return None if found is None else int(found["at_us"])

    def is_of_fresh(kind: str) -> Callable[[Event], bool]:
        return lambda event: event["kind"] == kind and event["data"]["domain"] == fresh

    # The last one: a next generation that ends early is followed by another one.
    newest = last(lambda event: event["kind"] == "next_filled") or last(lambda event: event["kind"] == "next_booting")
    fresh = "" if newest is None else str(newest["data"]["domain"])
    return _Moments(
        server,
        fresh if newest is not None and newest["kind"] == "next_filled" else "",
        booting=last_us(is_of_fresh("next_booting")),
        ready=last_us(is_of_fresh("domain_ready")),
        ordered=last_us(lambda event: event["kind"] == "recovery_ordered"),
        agreed=last_us(is_of_fresh("repair_state_agreed")),
        filled=last_us(is_of_fresh("next_filled")),
        switched=last_us(lambda event: _is_role(event, server, "active", f"recovery {number}")),
        old_gone=last_us(lambda event: _is_role(event, server, "retired", "replaced by ")),
    )


def _is_role(event: Event, server: int, role: str, reason: str) -> bool:
    data = event["data"]
    return (
        event["kind"] == "role_changed"
        and data["role"] == role
        and str(data["reason"]).startswith(reason)
        and server_of(DomainId(data["domain"])) == server
    )


def _phases_s(began_us: int, own: Sequence[_Moments], ended_us: int) -> dict[str, float]:
    marks = (
        _latest(one.ordered for one in own),
        _latest(one.agreed for one in own),
        _latest(one.filled for one in own),
        _latest(one.switched for one in own),
        ended_us,
    )
    found, at_us = {}, began_us
    for phase, end_us in zip(PHASES, marks, strict=True):
        if end_us is not None:
            # A server that was left out may have been through a phase later than the others through the next one.
            found[phase] = seconds(at_us, max(at_us, end_us))
            at_us = max(at_us, end_us)
    return found


def _latest(moments: Iterable[int | None]) -> int | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _maybe_s(begin_us: int | None, end_us: int | None) -> float | None:
    return None if begin_us is None or end_us is None else seconds(begin_us, end_us)
