"""The events that the simulated seeds must reach: a rule that no seed exercises is not checked."""

from collections.abc import Mapping
from typing import Any

LEAST_SHARE = 0.01
"""Share of the seeds in which each of them must occur."""

NAMED_EVENTS = (
    "LeaderChanged",
    "WitnessUsed",
    "ServerSuspected",
    "Removed",
    "membership_changed",
    "server_leaves",
    "vote_stalled",
    "vote_diverged",
    "vote_contradicts",
    "activation",
    "second round",
    "promotion",
    "demotion",
    "conviction",
    "conviction by state",
    "domain_suspected",
    "domain_misbehaved",
    "domain_gone",
    "repaired",
    "second repair",
    "repair_retried",
    "state_part_damaged",
    "checkpoint_ordered",
    "export_ordered",
    "export_retried",
    "exported",
    "export failed",
    "recovery_began",
    "recovery_ordered",
    "recovery_complete",
    "recovery_incomplete",
    "next_booting",
    "next_filled",
    "switch",
    "request_held",
    "request_resolved",
    "skip",
    "retry",
    "refreshed",
    "ServerRestarted",
    "SnapshotInstalled",
    "rejoining",
    "rejoined",
    "relapse",
    "power lost",
    "restart interrupted",
    "cell_restarted",
    "log_compacted",
    "memory lost",
)
"""Names of agreement's events, of the managers', and of what `names_of` and the history make of these."""


def names_of(kind: str, data: Mapping[str, Any]) -> list[str]:
    """Return further names of a manager's event."""
    if kind == "role_changed":
        return _names_of_role(str(data["role"]), str(data["reason"]))
    if kind == "standing_changed" and data["standing"] == "serving" and data["former"] == "learning":
        return ["rejoined"]
    if kind == "request_resolved" and not data["objection"]:
        return [str(data["action"])]
    return []


def _names_of_role(role: str, reason: str) -> list[str]:
    if role == "active" and reason.startswith("recovery"):
        return ["switch"]
    if role == "active":
        return ["promotion" if reason == "promoted" else "activation"]
    if reason.startswith("convicted"):
        return ["conviction by state" if "its state" in reason else "conviction"]
    return ["demotion"] if reason == "demoted" else []
