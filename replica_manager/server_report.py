"""What an operator sees of one server: plain values, made on demand from the core.  Pure.

The keys are the JSON of `spare status -o json` and `spare explain -o json`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from replica_manager.cell.recoveries import Recovery, Renewal
from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.execution.feed import Feed, Power
from replica_manager.execution.request_log import RequestRecord
from replica_manager.hypervisor.hypervisor import DomainObservation
from replica_manager.identifiers import DomainId
from replica_manager.manager_core import ManagerCore
from replica_manager.standing import Standing
from replica_manager.voting.voter import Contradiction

COMING_BACK = (Standing.RETURNING, Standing.RESTARTING)


def cell_report(core: ManagerCore) -> dict[str, Any]:
    """Return membership, thresholds and positions."""
    cell = core.cell
    return {
        "f": cell.f,
        "f_prime": cell.f_prime,
        "threshold": cell.threshold,
        "delivered": cell.sequence,
        "stable": core.buffer.prefix,
        "stable_all": cell.stable_all,
        "servers": [
            {"server": server, "live": member.is_live, "stable": member.stable, "durable": member.durable}
            for server, member in sorted(cell.members.items())
        ],
        "buffer": {"updates": core.buffer.entry_count, "bytes": core.buffer.byte_count},
        "clients": len(cell.clients),
        "standing": core.standing.value,
        "waits_for": core.restart.missing if core.standing in COMING_BACK else [],
        "suspected": _reasons(core, lambda record: record.suspicion if record.role is not Role.RETIRED else ""),
        "convicted": _reasons(core, lambda record: record.reason if record.reason.startswith("convicted") else ""),
        "repair": repair_report(core),
        "recovery": recovery_report(core),
        "last_recovery": core.recovery.last,
        "recoveries": {"begun": cell.recoveries.begun_count, "incomplete_in_a_row": cell.recoveries.debt},
        "stuck_request": stuck_request(core),
        "open_requests": core.requests.last - core.buffer.prefix,
    }


def _reasons(core: ManagerCore, reason_of: Callable[[DomainRecord], str]) -> list[dict[str, Any]]:
    found = [(domain, reason_of(record)) for domain, record in sorted(core.cell.domains.items())]
    return [{"domain": domain, "reason": reason} for domain, reason in found if reason]


def repair_report(core: ManagerCore) -> dict[str, Any] | None:
    """Return how far the repair on this server is; None: none is under way here."""
    fresh, filling = core.repair.fresh, core.repair.filling
    if fresh is None:
        return None
    report: dict[str, Any] = {"domain": fresh, "step": "boots", "parts": None, "parts_total": None}
    if filling is not None:
        report["step"] = "takes its state"
        report["parts"], report["parts_total"] = filling.progress
    elif fresh in core.feeds and core.feeds[fresh].power is not Power.STARTING:
        report["step"] = "waits for agreed state"
    return report


def recovery_report(core: ManagerCore) -> dict[str, Any] | None:
    """Return how far the proactive recovery that is under way is, server by server; None: none is."""
    current = core.cell.recoveries.current
    if current is None:
        return None
    steps = [
        {"server": one.server, "next": one.fresh or None, "step": _renewal_step(core, current, one)}
        for one in current.renewals
    ]
    return {
        "number": current.number,
        "kind": current.kind,
        "stage": current.stage,
        "point": current.point or None,
        "servers": steps,
        "renewed": list(current.renewed),
        "given_up": {str(server): reason for server, reason in current.given_up},
    }


def _renewal_step(core: ManagerCore, current: Recovery, renewal: Renewal) -> str:
    if renewal.is_leaving:
        return f"{renewal.successor} takes over from {renewal.old}"
    if renewal.is_filled:
        return "waits for its turn"
    filling = core.repair.filling
    if filling is not None and filling.domain == renewal.fresh:
        done, total = filling.progress
        return f"takes its state, {done} of {total} parts"
    if renewal.fresh:
        return "waits for agreed state" if current.point else "is booted"
    return "boots" if current.turn == renewal.server else "waits to boot"


def stuck_request(core: ManagerCore) -> dict[str, Any] | None:
    """Return the oldest open request if something is wrong with it: who voted for what, and who is silent."""
    record = core.requests.get(core.buffer.prefix + 1)
    if record is None or not (record.is_held or record.is_contested or record.stalled_ms is not None):
        return None
    groups: dict[str, list[str]] = {}
    for domain, digest in sorted(core.voter.counted_votes(record).items()):
        groups.setdefault(digest.hex(), []).append(domain)
    silent = [one.domain for one in core.cell.domains_in(Role.ACTIVE) if one.domain not in record.votes]
    return {"sequence": record.sequence, "held": record.is_held, "votes": groups, "silent": silent}


def domain_reports(
    core: ManagerCore, observed: Mapping[DomainId, DomainObservation], suspended_s: Mapping[DomainId, float]
) -> list[dict[str, Any]]:
    """Return one row per domain of the cell; what only the hosting server knows is filled in for its own."""
    rows = []
    for domain, record in sorted(core.cell.domains.items()):
        row: dict[str, Any] = {
            "domain": domain,
            "server": record.server,
            "role": _shown_role(record.role, core.feeds.get(domain)),
            "reason": record.reason,
        }
        feed = core.feeds.get(domain)
        if feed is not None:
            row |= _local_row(feed, observed.get(domain), suspended_s.get(domain, 0.0))
            row["waiting_updates"] = core.buffer.waiting_count(feed.cursor)
        rows.append(row)
    return rows


def _shown_role(role: Role, feed: Feed | None) -> str:
    return "starting" if feed is not None and feed.power is Power.STARTING else role.value


def _local_row(feed: Feed, seen: DomainObservation | None, suspended_s: float) -> dict[str, Any]:
    return {
        "cursor": feed.cursor,
        "confirmed": feed.confirmed,
        "power": feed.power.value,
        "hypervisor_state": None if seen is None else seen.state.value,
        "cpu_seconds": None if seen is None else round(seen.cpu_seconds, 3),
        "memory_bytes": None if seen is None else seen.memory_bytes,
        "suspended_seconds": round(suspended_s, 3),
    }


def explanation(core: ManagerCore, sequence: int) -> dict[str, Any] | None:
    """Return who said what about a sequence number; None: not known here (any more)."""
    record = core.requests.explain(sequence)
    if record is None:
        return None
    if not isinstance(record, RequestRecord):
        return {"sequence": sequence, "kind": "command", "command": record, "votes": [], "outcome": "stable"}
    return {
        "sequence": sequence,
        "kind": "request",
        "client": record.client.hex(),
        "number": record.number,
        "timestamp_us": record.timestamp_us,
        "payload_bytes": record.payload_bytes,
        "outcome": _outcome(core, record),
        "stable_digest": None if record.stable_digest is None else record.stable_digest.hex(),
        "votes": _votes(core, record),
        "contradictions": sorted(
            finding.domain
            for finding in core.findings.values()
            if isinstance(finding, Contradiction) and finding.sequence == sequence
        ),
    }


def _outcome(core: ManagerCore, record: RequestRecord) -> str:
    if record.stable_digest is not None:
        return "stable"
    kinds = {key[0] for key in core.findings if key[1] == record.sequence}
    for kind in ("exceeded", "diverged"):
        if kind in kinds:
            return kind
    return "open"


def _votes(core: ManagerCore, record: RequestRecord) -> list[dict[str, Any]]:
    rows = []
    for domain, cell_record in sorted(core.cell.domains.items()):
        digest = record.votes.get(domain)
        if digest is None and cell_record.role is not Role.ACTIVE:
            continue
        row: dict[str, Any] = {"domain": domain, "server": cell_record.server, "counted": cell_record.is_counted}
        row["digest"] = None if digest is None else digest.hex()
        row["verdict"] = _verdict(record, digest)
        value = None if digest is None else record.values.get(digest)
        if value is not None:
            row["reply_bytes"], row["update_bytes"] = len(value[0]), len(value[1])
        rows.append(row)
    return rows


def _verdict(record: RequestRecord, digest: bytes | None) -> str:
    if digest is None:
        return "waiting"
    if record.stable_digest is not None:
        return "agrees" if digest == record.stable_digest else "differs"
    return "agrees" if len(set(record.votes.values())) == 1 else "differs"
