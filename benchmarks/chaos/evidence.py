"""From the servers' named events to what a fault did: that it took effect, when it was noticed, how long votes stood.

Pure: events are the JSON documents of the event logs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.fault_kinds import FaultKind, Sign
from benchmarks.chaos.schedule import Target
from replica_manager.execution.domain_answers import GAVE_UP

Event = Mapping[str, Any]

RUNNER = -1
"""The `server` of events that the runner itself has recorded."""
EVIDENCE_MAX = 8
"""Event ids named for a fault; a flood has hundreds."""
CONVICTED = "convicted"
"""How the reason of a role begins that a domain has lost for what it said, or for its state."""
_ACCUSING = ("vote_contradicts", "domain_misbehaved")
"""Events that prove a domain faulty: it said something that no correct domain says."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What the events behind a fault say of it."""

    evidence: Sequence[str]
    """Event ids, `s0:17`; empty: nothing shows that the fault took effect."""
    detected_ms: float | None
    """From the fault to the first event that shows it, by the clock of the server that tells it."""
    stable_ms: float | None
    """The longest that an open number had to wait from the begin of a stall until it was stable; None: no stall."""


def event_id(event: Event) -> str:
    """Return the name of an event in a report: the server and its number there."""
    place = "runner" if event["server"] == RUNNER else f"s{event['server']}"
    return f"{place}:{event['id']}"


def observe(kind: FaultKind, target: Target, injected_us: int, events: Iterable[Event]) -> Effect:
    """Return what `events`, those behind the fault, say of it.

    Args:
        kind: of the fault.
        target: whom it struck.
        injected_us: when, by the machine's clock.
        events: straightened (`Straightener`), of all servers.
    """
    proofs = [event for event in events if any(shows(sign, event, target) for sign in kind.signs)]
    stalls = [event["data"]["ms"] for event in events if event["kind"] == "stall_ended"]
    first_us = min((event["at_us"] for event in proofs), default=None)
    return Effect(
        [event_id(event) for event in proofs[:EVIDENCE_MAX]],
        None if first_us is None else max(0.0, round((first_us - injected_us) / 1000, 1)),
        max(stalls, default=None),
    )


def shows(sign: Sign, event: Event, target: Target) -> bool:
    """Say whether `event` is this sign, about `target`."""
    if event["kind"] != sign.kind:
        return False
    if not sign.about:
        return bool(event["server"] == target.server)
    value = event["data"].get(sign.about)
    named = value if isinstance(value, list) else [value]
    is_named = any(_is_of(one, target) for one in named)
    return not is_named if sign.is_absent else is_named


def _is_of(named: Any, target: Target) -> bool:
    """Say whether a domain, member or server in an event is the target, or belongs to it."""
    if target.domain:
        return bool(named == target.domain)
    return named in (target.server, f"s{target.server}") or str(named).startswith(f"s{target.server}.")


def wrong_convictions(events: Iterable[Event], faulty: Collection[str]) -> list[dict[str, Any]]:
    """Return the accusations of domains that were told nothing wrong; who says itself that it gives up is not accused.

    Args:
        events: of the whole run.
        faulty: domains, or servers (`s1`) for all their domains, that were ordered to lie.
    """
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        domain = str(event["data"].get("domain", ""))
        if _accuses(event) and domain not in faulty and domain.partition(".")[0] not in faulty:
            found.setdefault(domain, {"domain": domain, "event": event_id(event), "kind": event["kind"]})
    return list(found.values())


def _accuses(event: Event) -> bool:
    reason = str(event["data"].get("reason", ""))
    if event["kind"] == "role_changed":
        return reason.startswith(CONVICTED)
    return event["kind"] in _ACCUSING and not reason.startswith(GAVE_UP)


class Straightener:
    """Gives events of a server with a wrong clock the time of the machine.  In the order of each server's log."""

    def __init__(self) -> None:
        self._offset_us: dict[int, int] = {}

    def straighten(self, event: Event) -> Event:
        """Return `event` with the right time."""
        server, kind = event["server"], event["kind"]
        if kind == "clock_stepped":
            self._offset_us[server] = int(event["data"]["offset_us"])
        offset_us = self._offset_us.get(server, 0)
        return {**event, "at_us": event["at_us"] - offset_us} if offset_us else event
