"""The audit table: every change of a role or of the members, with its evidence, from the servers' event files.

All servers record the same agreed change, and a server that starts again records once more what it reads in its log: a
change is shown once, with the servers that know of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config

KINDS = frozenset(
    ("role_changed", "membership_changed", "domain_suspected", "vote_contradicts", "request_resolved", "cell_restarted")
)
BIRTH = "manager_started"
"""With `standing = "serving"`: the first start of a cell, whose sequence numbers begin anew."""


class Change(NamedTuple):
    """One agreed change."""

    at_us: int
    """When the first server that knows of it recorded it."""
    kind: str
    subject: str
    """Domain, server or request."""
    what: str
    """What it became."""
    evidence: str
    """Why."""
    servers: tuple[int, ...]
    """Whose files have it."""


def read_changes(config: Config) -> Sequence[Change]:
    """Return all changes in the event files on this machine, oldest first."""
    paths = CellPaths.of(config)
    found: dict[tuple[object, ...], Change] = {}
    for server in config.server:
        for life, event in _with_lives(_read(paths.event_file(server.id))):
            change = _change(event)
            key = (life, change.kind, change.subject, change.what, change.evidence, event["data"].get("sequence"))
            known = found.get(key)
            servers = {*(known.servers if known else ()), server.id}
            at_us = min(change.at_us, known.at_us) if known else change.at_us
            found[key] = change._replace(at_us=at_us, servers=tuple(sorted(servers)))
    return sorted(found.values())


def _with_lives(events: Sequence[Mapping[str, Any]]) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """Number the cell's lives backwards, since older files may be gone: the present one is 0."""
    life = 0
    for event in reversed(events):
        if event["kind"] in KINDS:
            yield life, event
        elif event["kind"] == BIRTH and event["data"].get("standing") == "serving":
            life += 1


def _change(event: Mapping[str, Any]) -> Change:
    data = event["data"]
    subject, what, evidence = str(data.get("domain", "")), "", str(data.get("reason", ""))
    match event["kind"]:
        case "role_changed":
            what = str(data.get("role"))
        case "domain_suspected":
            what = "suspected"
        case "vote_contradicts":
            what, evidence = "contradicts", f"{evidence} at {data.get('sequence')}"
        case "membership_changed":
            left = data.get("left_server")
            subject, what = "cell", "a server joined" if left is None else f"server {left} left"
            live = ", ".join(map(str, data.get("live_servers", ())))
            evidence = f"live servers {live}; votes needed {data.get('threshold')}"
        case "request_resolved":
            subject, what = f"request {data.get('sequence')}", str(data.get("action"))
            evidence = str(data.get("objection") or "done")
        case _:
            subject, what, evidence = "cell", "restarted", f"settled through {data.get('settled_through')}"
    return Change(event["at_us"], event["kind"], subject, what, evidence, ())


def _read(path: Path) -> list[Mapping[str, Any]]:
    """Return the events of a server, from its older files too, oldest first."""
    older = sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=lambda one: -int(one.suffix[1:]))
    events: list[Mapping[str, Any]] = []
    for file in (*older, *([path] if path.exists() else [])):
        for line in file.read_bytes().splitlines():
            try:
                event = msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # cut by a crash
            if {"at_us", "kind", "data"} <= event.keys() and isinstance(event["data"], dict):
                events.append(event)
    return events
