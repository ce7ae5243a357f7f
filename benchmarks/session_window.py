"""What a cell used between two moments: CPU, refreshes, time asleep."""

import time
from dataclasses import dataclass
from typing import Any

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.control_client import ControlClient

OBSERVATION_AGE_S = 1.2
"""Managers ask the hypervisor once a second: after this long their answer is of now."""


@dataclass(frozen=True)
class Moment:
    """The cell's counters at one time."""

    at_s: float
    statuses: tuple[dict[str, Any], ...]

    @property
    def domains(self) -> dict[str, dict[str, Any]]:
        """What each server says of its own domains."""
        return {
            row["domain"]: row
            for status in self.statuses
            for row in status["domains"]
            if row["server"] == status["server"]
        }


def look_now(config: Config) -> Moment:
    """Ask every server."""
    time.sleep(OBSERVATION_AGE_S)
    paths = CellPaths.of(config)
    statuses = []
    for server in config.server:
        with ControlClient(paths.control_socket(server.id), 30.0) as client:
            statuses.append(client.call("status"))
    return Moment(time.monotonic(), tuple(statuses))


def window_figures(before: Moment, after: Moment) -> dict[str, Any]:
    """Return the difference of two moments."""
    domains = {}
    for name, row in after.domains.items():
        old = before.domains.get(name, {})
        domains[name] = {
            "role": row["role"],
            "cpu_seconds": _difference(row, old, "cpu_seconds"),
            "suspended_seconds": _difference(row, old, "suspended_seconds"),
        }
    pairs = list(zip(before.statuses, after.statuses, strict=True))
    return {
        "window_s": round(after.at_s - before.at_s, 1),
        "cpu_seconds": {
            **{name: figures["cpu_seconds"] for name, figures in domains.items()},
            **{f"manager {new['server']}": round(new["cpu_seconds"] - old["cpu_seconds"], 2) for old, new in pairs},
        },
        "suspended_seconds": {
            name: figures["suspended_seconds"] for name, figures in domains.items() if figures["role"] == "passive"
        },
        "refreshes": {f"s{new['server']}": new["refreshes"] - old["refreshes"] for old, new in pairs},
        "roles": {name: figures["role"] for name, figures in domains.items()},
        "passive_cpu_share": _passive_share(domains),
        "counters": {
            f"s{new['server']}": {
                key: round(value - old["counters"].get(key, 0), 3) for key, value in new["counters"].items()
            }
            for old, new in pairs
        },
    }


def _difference(row: dict[str, Any], old: dict[str, Any], key: str) -> float:
    return round(float(row.get(key) or 0.0) - float(old.get(key) or 0.0), 2)


def _passive_share(domains: dict[str, dict[str, Any]]) -> float:
    """CPU of the passive domains as a share of the active ones'."""
    sums = {"active": 0.0, "passive": 0.0}
    for figures in domains.values():
        if figures["role"] in sums:
            sums[figures["role"]] += figures["cpu_seconds"]
    return round(sums["passive"] / sums["active"], 4) if sums["active"] else 0.0
