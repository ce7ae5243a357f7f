"""What `spare history` shows of the audit logs: every change once, and the generations of every server.  Pure.

All servers record the same agreed change: it is shown once, with the servers that have it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from replica_manager.audit.chain import Chain
from replica_manager.audit.comparison import lives_of
from replica_manager.audit.record import (
    CHANGES_DROPPED,
    LINE_TORN,
    NOTED_KINDS,
    RECORDS_LOST,
    ROLES_READ,
    AuditRecord,
)
from replica_manager.identifiers import DomainId, generation_of, server_of

_DOMAIN = re.compile(r"s\d+\.g\d+", re.ASCII)
_OF_THE_LOG = frozenset((RECORDS_LOST, CHANGES_DROPPED, LINE_TORN))


class Change(NamedTuple):
    """One change."""

    at_us: int
    """When the first server that knows of it recorded it."""
    position: int
    """In the agreed order; 0: it has none."""
    kind: str
    subject: str
    """Domain, server, request or log."""
    what: str
    """What it became."""
    evidence: str
    """Why."""
    servers: tuple[int, ...]
    """Whose logs have it."""


class Generation(NamedTuple):
    """One domain of a server, of this life of the cell."""

    domain: str
    role: str
    """Its last one."""
    reason: str
    since_us: int
    """When it got that role."""
    first_us: int
    """When it was taken in."""


def changes_of(chains: Mapping[int, Chain]) -> Sequence[Change]:
    """Return all changes in the logs, oldest first."""
    found: dict[tuple[object, ...], Change] = {}
    for server, chain in chains.items():
        for life, records in enumerate(life.records for life in lives_of(chain)):
            for record in records:
                if record.kind not in NOTED_KINDS | _OF_THE_LOG:
                    continue
                own = server if record.kind in _OF_THE_LOG else None
                key = (life, record.position, record.content, own)
                known = found.get(key)
                change = known or _change(record)
                servers = tuple(sorted({*change.servers, server}))
                found[key] = change._replace(at_us=min(change.at_us, record.at_us), servers=servers)
    return sorted(found.values())


def generations_of(chains: Mapping[int, Chain]) -> Mapping[int, Sequence[Generation]]:
    """Return the domains of every server in the present life of the cell, by generation."""
    found: dict[str, Generation] = {}
    records = [record for chain in chains.values() for record in lives_of(chain)[0].records]
    for record in sorted(records, key=lambda one: (_place(one), one.at_us)):
        for domain, role, reason in _roles(record):
            known = found.get(domain)
            if known is None:
                found[domain] = Generation(domain, role, reason, record.at_us, record.at_us)
            elif (known.role, known.reason) != (role, reason):
                found[domain] = known._replace(role=role, reason=reason, since_us=record.at_us)
    by_server: dict[int, list[Generation]] = {}
    for one in sorted(found.values(), key=lambda one: generation_of(DomainId(one.domain))):
        by_server.setdefault(int(server_of(DomainId(one.domain))), []).append(one)
    return dict(sorted(by_server.items()))


def _place(record: AuditRecord) -> int:
    return record.number_in("through") if record.kind == ROLES_READ else record.position


def _roles(record: AuditRecord) -> Sequence[tuple[str, str, str]]:
    data = record.data
    if record.kind == "role_changed":
        rows = [(str(data.get("domain")), str(data.get("role")), str(data.get("reason")))]
    elif record.kind == ROLES_READ and isinstance(data.get("roles"), dict):
        pairs = [(domain, pair) for domain, pair in data["roles"].items() if isinstance(pair, list) and len(pair) == 2]
        rows = [(str(domain), str(role), str(reason)) for domain, (role, reason) in pairs]
    else:
        rows = []
    return [row for row in rows if _DOMAIN.fullmatch(row[0])]


def _change(record: AuditRecord) -> Change:
    data = record.data
    subject, what, evidence = str(data.get("domain", "")), "", str(data.get("reason", ""))
    match record.kind:
        case "role_changed":
            what = str(data.get("role"))
        case "domain_suspected":
            what = "suspected"
        case "vote_contradicts":
            what, evidence = "contradicts", f"{evidence} at {data.get('sequence')}".strip()
        case "membership_changed":
            left = data.get("left_server")
            subject, what = "cell", "a server joined" if left is None else f"server {left} left"
            servers = data.get("live_servers")
            live = ", ".join(map(str, servers)) if isinstance(servers, list | tuple) else str(servers)
            evidence = f"live servers {live}; votes needed {data.get('threshold')}"
        case "request_resolved":
            subject, what = f"request {data.get('sequence')}", str(data.get("action"))
            evidence = str(data.get("objection") or "done")
        case "cell_restarted":
            subject, what, evidence = "cell", "restarted", f"settled through {data.get('settled_through')}"
        case _:
            subject, what = "log", record.kind.replace("_", " ")
            evidence = ", ".join(f"{key} {value}" for key, value in data.items())
    return Change(record.at_us, record.position, record.kind, subject, what, evidence, ())
