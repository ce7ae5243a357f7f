"""One lightweight recovery of a running cell: ordered, waited for, and told by the events of all servers."""

import contextlib
import time
from collections.abc import Sequence

from benchmarks.fault_cell import FaultCell, NotInTime, Report, wait_until
from benchmarks.recovery_phases import ENDS, INCIDENTS, KINDS, RecoverySteps, steps_of
from replica_manager.control.recovery_wait import recover_and_wait
from replica_manager.domain_specs import DomainSpecs
from replica_manager.identifiers import DomainId, server_of

MARGIN_S = 900.0
"""For everything beside the boots of all servers, one after the other."""
EVENTS_PATIENCE_S = 30.0
END_PATIENCE_S = 30.0
"""For a domain that is given up to end."""
TOLD_EVERY_S = 10.0
SERVING = ("active", "passive")


def run_recovery(cell: FaultCell, report: Report) -> RecoverySteps:
    """Renew all domains of a cell that is at rest; return how long that took, when it is at rest again.

    Raises:
        ControlError: it cannot be ordered, or does not end in time.
        NotInTime: the cell does not come to rest, or its servers do not tell the recovery's end.
    """
    config, newest = cell.config, cell.newest_events()
    limit_s = config.timeouts.boot_ms / 1000 * len(config.server) + MARGIN_S
    number = int(recover_and_wait(config, is_resilient=False, report=seldom(report), limit_s=limit_s)["number"])

    def is_told() -> bool:
        told = cell.events_since(newest, ENDS)
        return {event["server"] for event in told if event["data"]["number"] == number} == set(newest)

    # One server has told the end; the others follow with the next entries that they learn.
    wait_until(is_told, f"all servers tell the end of recovery {number}", EVENTS_PATIENCE_S)
    wait_until_at_rest(cell)
    return steps_of(cell.events_since(newest, (*KINDS, *INCIDENTS)), number)


def seldom(report: Report) -> Report:
    """Return a function that passes lines on when what stands before their colon is new, or the last one is old."""
    told_s, told = -TOLD_EVERY_S, ""

    def tell(line: str) -> None:
        nonlocal told_s, told
        stage = line.partition(":")[0]
        if stage != told or time.monotonic() - told_s >= TOLD_EVERY_S:
            told_s, told = time.monotonic(), stage
            report(line)

    return tell


def wait_until_at_rest(cell: FaultCell) -> None:
    """Wait for full redundancy without any recovery under way: one that left somebody out is followed by another one.

    Raises:
        NotInTime: the cell does not come to rest.
    """
    wait_until(lambda: cell.is_whole() and not any(s["recovery"] for s in cell.statuses()), "the cell is at rest")


def serving_domains(cell: FaultCell) -> list[str]:
    """Return the domains that are active or passive."""
    return sorted(name for name, row in cell.rows().items() if row["role"] in SERVING)


def remains_of(cell: FaultCell, domains: Sequence[str]) -> list[str]:
    """Return what is left of domains that are to be gone, after some patience: roles, processes, disks."""
    with contextlib.suppress(NotInTime):
        wait_until(lambda: not _remains(cell, domains), "the former domains are gone", END_PATIENCE_S)
    return _remains(cell, domains)


def _remains(cell: FaultCell, domains: Sequence[str]) -> list[str]:
    rows = cell.rows()
    found = [f"{name} is {rows[name]['role']}" for name in domains if name in rows and _has_role(rows[name]["role"])]
    found += [f"a process of {name}" for name in domains if _has_process(cell, name)]
    return found + [f"the disk of {name}" for name in domains if _has_disk(cell, DomainId(name))]


def _has_role(role: str) -> bool:
    return role not in ("retired", "left")


def _has_process(cell: FaultCell, domain: str) -> bool:
    try:
        cell.domain_process(domain)
    except LookupError:
        return False
    return True


def _has_disk(cell: FaultCell, domain: DomainId) -> bool:
    return DomainSpecs(cell.config, server_of(domain)).disk_of(domain) is not None
