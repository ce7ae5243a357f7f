"""The status of a cell as tables, trees and documents."""

import time
from typing import Any

from replica_manager.control.cell_view import CellView
from replica_manager.control.cli.output import bytes_text, seconds_text, state_text, table
from replica_manager.control.recovery_wait import merged_recovery, recovery_text

SERVER_COLUMNS = (
    *("SERVER", "STATE", "LEADER", "DELIVERED", "STABLE", "BUFFERED", "REFRESHES", "LAST REFRESH"),
    *("CLIENTS", "CPU", "MEMORY"),
)
DOMAIN_COLUMNS = ("DOMAIN", "SERVER", "ROLE", "POWER", "CURSOR", "WAITING", "CPU", "MEMORY", "SUSPENDED")
NUMBERS = frozenset(
    ("DELIVERED", "STABLE", "BUFFERED", "REFRESHES", "CLIENTS", "CPU", "MEMORY", "CURSOR", "WAITING", "SUSPENDED")
)


def status_document(view: CellView) -> dict[str, Any]:
    """Return the status as JSON values: the cell, every server's own words, every domain once."""
    return {
        "cell": view.config.cell.name,
        "state": view.state,
        "f": view.config.cell.f,
        "threshold": view.newest.get("threshold"),
        "leader": view.newest.get("leader"),
        "configuration": view.newest.get("configuration"),
        "servers": [
            {"server": server.id, "state": "no answer", "reason": str(view.silent[server.id])}
            if server.id in view.silent
            else {**view.answers[server.id], "domains": None}
            for server in view.config.server
        ],
        "witnesses": [{"witness": number, "process": state} for number, state in view.witnesses.items()],
        "keeper": view.keeper,
        "trouble": trouble_lines(view),
        "domains": view.domains(),
    }


def status_tables(view: CellView) -> Any:
    """Return the status for a terminal."""
    from rich.console import Group
    from rich.text import Text

    newest = view.newest
    head = Text.assemble((f"cell {view.config.cell.name}", "bold"), "  ", state_text(view.state))
    head.append(f"   f = {view.config.cell.f}")
    if newest:
        head.append(f"   votes needed {newest.get('threshold')}   leader {newest.get('leader') or 'none'}")
        head.append(f"   configuration {newest.get('configuration')}   {time.strftime('%H:%M:%S')}")
    parts = [head, Text(), server_table(view)]
    if view.witnesses:
        parts += [Text(), Text("   ").join(_witness_text(*item) for item in view.witnesses.items())]
    if view.answers:
        parts += [Text(), domain_table(view)]
    notes = [Text(f"  {line}") for line in trouble_lines(view)]
    if notes:
        parts += [Text(), *notes]
    return Group(*parts)


def trouble_lines(view: CellView) -> list[str]:
    """Return a sentence for everything that an operator should know of now."""
    newest = view.newest
    lines = [f"{row['domain']} is suspected: {row['reason']}" for row in newest.get("suspected", ())]
    lines += [f"{row['domain']} was {row['reason']}" for row in newest.get("convicted", ())]
    for server, answer in sorted(view.answers.items()):
        if answer.get("waits_for"):
            missed = ", ".join(f"server {number}" for number in answer["waits_for"])
            lines.append(f"server {server} has started again and waits for {missed}")
        lines += [_silence_line(server, row) for row in answer.get("silent_servers", ())]
        if answer.get("repair"):
            lines.append(f"server {server} repairs: {repair_text(answer['repair'])}")
        if answer.get("export"):
            lines.append(f"server {server} exports: {export_text(answer['export'])}")
    recovery = merged_recovery(view)
    if recovery is not None:
        lines.append(f"recovery {recovery['number']} ({recovery['kind']}) is {recovery_text(recovery)}")
    if newest.get("stuck_request"):
        lines += _stuck_lines(newest["stuck_request"])
    return lines


def repair_text(repair: Any) -> str:
    """Return how far a repair is."""
    parts = f", {repair['parts']} of {repair['parts_total']} parts" if repair.get("parts_total") else ""
    return f"{repair['domain']} {repair['step']}{parts}"


def export_text(export: Any) -> str:
    """Return how far an export is."""
    if not export["parts_agreed"]:
        return "waits for agreed state"
    return f"{export['parts']} parts, {bytes_text(export['bytes'])}, of {export['parts_agreed']} that are agreed on"


def _silence_line(server: int, row: Any) -> str:
    if row.get("fenced"):
        what = "is fenced"
    elif row.get("failures"):
        what = f"cannot be fenced ({row['failures']} attempts): {row['last_failure']}"
    else:
        what = "is silent and is about to be fenced"
    return f"server {server} says that server {row['server']} {what}"


def _stuck_lines(stuck: Any) -> list[str]:
    sequence = stuck["sequence"]
    how = "stopped too many domains and is held" if stuck.get("held") else "is not stable"
    votes = [f"{', '.join(domains)}: {digest[:12]}" for digest, domains in stuck.get("votes", {}).items()]
    silent = [f"{', '.join(stuck['silent'])}: no vote"] if stuck.get("silent") else []
    return [f"request {sequence} {how}; {'; '.join((*votes, *silent))} (spare explain {sequence})"]


def server_table(view: CellView) -> Any:
    """Return one row per server."""
    rows = []
    for server in view.config.server:
        answer = view.answers.get(server.id)
        if answer is None:
            rows.append([f"s{server.id}", state_text("no answer"), *[None] * (len(SERVER_COLUMNS) - 2)])
            continue
        buffered = answer.get("buffer") or {}
        rows.append(
            [
                f"s{server.id}",
                state_text(str(answer.get("state"))),
                "leader" if answer.get("is_leader") else "",
                answer.get("delivered"),
                answer.get("stable"),
                f"{buffered.get('updates', 0)} / {bytes_text(buffered.get('bytes', 0))}",
                answer.get("refreshes"),
                _refresh(answer.get("last_refresh")),
                answer.get("clients"),
                seconds_text(answer.get("cpu_seconds")),
                bytes_text(answer.get("rss_bytes")),
            ]
        )
    return table(SERVER_COLUMNS, rows, right=sorted(NUMBERS))


def domain_table(view: CellView) -> Any:
    """Return one row per domain."""
    rows = [
        [
            row["domain"],
            f"s{row.get('server')}",
            state_text(str(row.get("role"))),
            state_text(str(row.get("hypervisor_state") or row.get("power") or "-")),
            row.get("cursor"),
            row.get("waiting_updates"),
            seconds_text(row.get("cpu_seconds")),
            bytes_text(row.get("memory_bytes")),
            seconds_text(row.get("suspended_seconds")),
        ]
        for row in view.domains()
    ]
    return table(DOMAIN_COLUMNS, rows, right=sorted(NUMBERS))


def topology_document(view: CellView) -> dict[str, Any]:
    """Return what runs where as JSON values."""
    domains = view.domains()
    return {
        "cell": view.config.cell.name,
        "kind": view.config.cell.kind,
        "servers": [
            {
                "server": server.id,
                "host": server.host or None,
                "public_address": server.public_address,
                "framed_address": server.framed_address or None,
                "private_address": server.private_address,
                "publish": server.publish or None,
                "admin_address": server.admin_address or None,
                "storage": server.storage,
                "image": server.image or None,
                "state": (view.answers.get(server.id) or {}).get("state", "no answer"),
                "domains": [row["domain"] for row in domains if row.get("server") == server.id],
            }
            for server in view.config.server
        ],
        "witnesses": [
            {"witness": one.id, "host": one.host or None, "private_address": one.private_address}
            for one in view.config.witness
        ],
    }


def topology_tree(view: CellView) -> Any:
    """Return what runs where for a terminal."""
    from rich.text import Text
    from rich.tree import Tree

    cell = view.config.cell
    tree = Tree(Text.assemble((f"cell {cell.name}", "bold"), f"  {cell.kind}, f = {cell.f}  ", state_text(view.state)))
    for document in topology_document(view)["servers"]:
        title = Text.assemble((f"server {document['server']}", "bold"), "  ", state_text(str(document["state"])))
        branch = tree.add(title)
        for key in ("host", "public_address", "framed_address", "publish", "private_address", "admin_address", "image"):
            if document[key]:
                branch.add(Text(f"{key.replace('_', ' ')}: {document[key]}"))
        branch.add(Text(f"storage: {', '.join(document['storage'])}"))
        for row in view.domains():
            if row.get("server") == document["server"]:
                branch.add(Text.assemble(f"domain {row['domain']}  ", state_text(str(row.get("role")))))
    for witness in view.config.witness:
        host = f" on {witness.host}" if witness.host else ""
        title = Text.assemble(_witness_text(witness.id, view.witnesses.get(witness.id, "elsewhere")), host)
        tree.add(title.append(f"  {witness.private_address}"))
    return tree


def _witness_text(number: int, state: str) -> Any:
    from rich.text import Text

    return Text.assemble((f"witness {number}", "bold"), "  ", state_text(state))


def _refresh(last: Any) -> str | None:
    if not isinstance(last, dict):
        return None
    duration_ms = last.get("duration_ms")
    took = "" if duration_ms is None else f" in {duration_ms:.0f} ms"
    age_s = time.time() - float(last.get("at_us") or 0) / 1e6
    return f"{last.get('updates')} updates{took}, {seconds_text(max(0.0, age_s))} ago"
