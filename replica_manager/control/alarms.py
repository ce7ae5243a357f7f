"""Which events a person should know of: the one list.  Pure.

`docs/runbook.md` has an entry for each: what it means, what to look at, what to do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Data = Mapping[str, Any]


class AlarmRule(NamedTuple):
    """One alarm."""

    kind: str
    """What the hook is called with."""
    event: str
    """The kind of event that raises it."""
    applies: Callable[[Data], bool] = lambda _data: True
    """Whether an event of that kind, with these values, does."""


def _is_departure(data: Data) -> bool:
    return data.get("left_server") is not None


def _is_conviction(data: Data) -> bool:
    return str(data.get("reason", "")).startswith("convicted")


def _is_repeated(data: Data) -> bool:
    return int(data.get("attempt") or 0) >= 2


def _is_failed_boot(data: Data) -> bool:
    return str(data.get("reason", "")).startswith("it could not be booted")


RULES: Sequence[AlarmRule] = (
    # Answers are in doubt, or withheld.
    AlarmRule("vote_exceeded", "vote_exceeded"),
    AlarmRule("request_held", "request_held"),
    AlarmRule("below_threshold", "below_threshold"),
    # The cell tolerates fewer faults than configured.
    AlarmRule("server_left", "membership_changed", _is_departure),
    AlarmRule("server_rejoins", "rejoining"),
    AlarmRule("memory_lost", "memory_lost"),
    AlarmRule("domain_convicted", "role_changed", _is_conviction),
    AlarmRule("repair_failing", "repair_retried", _is_repeated),
    AlarmRule("repair_failing", "domain_gone", _is_failed_boot),
    AlarmRule("recovery_incomplete", "recovery_incomplete"),
    AlarmRule("state_part_damaged", "state_part_damaged"),
    AlarmRule("fencing_failed", "fencing_failed"),
    # What is below the cell fails.
    AlarmRule("storage_failed", "storage_failed"),
    AlarmRule("event_file_failed", "event_file_failed"),
    AlarmRule("audit_failed", "audit_failed"),
    AlarmRule("recording_failed", "recording_failed"),
    AlarmRule("hypervisor_failed", "hypervisor_failed"),
    AlarmRule("internal_error", "internal_error"),
    AlarmRule("limit_reached", "limit_reached"),
    # The keeper.
    AlarmRule("member_ended", "member_ended", lambda data: "restart_in_s" in data),
    AlarmRule("member_keeps_ending", "member_keeps_ending"),
    AlarmRule("member_start_failed", "member_start_failed"),
)

ALARM_KINDS = frozenset(rule.kind for rule in RULES)

_BY_EVENT: dict[str, list[AlarmRule]] = {}
for _rule in RULES:
    _BY_EVENT.setdefault(_rule.event, []).append(_rule)


def alarm_of(event: str, data: Data) -> str | None:
    """Return the alarm that an event raises; `None`: none."""
    return next((rule.kind for rule in _BY_EVENT.get(event, ()) if rule.applies(data)), None)


class AlarmRate:
    """Tells the same alarm again only after a while.  Pure; time is an argument."""

    def __init__(self, interval_ms: int) -> None:
        """`interval_ms` lie between two alarms of a kind."""
        self._interval_ms = interval_ms
        self._told_ms: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def admit(self, kind: str, now_ms: int) -> int | None:
        """Return how many of `kind` were left out since the last one that was told; `None`: this one is left out."""
        told_ms = self._told_ms.get(kind)
        if told_ms is not None and now_ms - told_ms < self._interval_ms:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return None
        self._told_ms[kind] = now_ms
        return self._left_out.pop(kind, 0)
