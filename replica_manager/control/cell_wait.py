"""Waits until a cell that was started serves, and tells what it is waiting for."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.cell_network import Reporter
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlError, ControlTimeout, ProcessError
from replica_manager.control.member_process import ending, tail_of
from replica_manager.control.process_records import ProcessRecord
from replica_manager.control.processes import reap

POLL_S = 0.1
ASK_TIMEOUT_S = 5.0
SERVES = ("serving", "degraded")
_HINTS = {
    "returning": "every server of the last configuration has to start; without witnesses `spare cell up --without N`"
    " goes on without one that has stopped for ever",
    "restarting": "a domain does not come back from its disk: see state_dir/log/DOMAIN.console and `spare events`",
    "learning": "no server serves from which it could learn: `spare cell down`, `spare cell up --accept-loss`",
}
"""What may be wrong with a server that stays in a state."""


def wait_until_serving(
    config: Config,
    records: Sequence[ProcessRecord],
    report: Reporter,
    limit_s: float,
    *,
    may_be_degraded: bool = False,
) -> str:
    """Return `serving` when every server says so.

    After a restart the redundancy may take longer to come back than the service: when time is up and every server
    serves or learns from one that does, that is `degraded`, and the repair goes on.

    Args:
        config: complete configuration.
        records: the processes of all members.
        report: takes a line for every change.
        limit_s: patience; it begins anew whenever a domain has taken in more of a state that is imported.
        may_be_degraded: do not wait for what is known to be missing.

    Raises:
        ProcessError: a member ended.
        ControlTimeout: the cell does not serve in time; the hint says what it waits for.
    """
    paths = CellPaths.of(config)
    servers = [record for record in records if record.kind == "server"]
    shown: dict[int, str] = {}
    imports: dict[int, Any] = {}
    started_s = time.monotonic()
    while True:
        for record in records:
            _require_alive(record)
        answers = {server.member: _ask(paths.control_socket(server.member)) for server in servers}
        for server in servers:
            progress = progress_of(server.member, answers[server.member])
            if progress != shown.get(server.member):
                report(f"{server.name}: {progress}")
                shown[server.member] = progress
            if answers[server.member].get("import") != imports.get(server.member):
                # A state has no largest size: as long as it goes in, time is not up.
                imports[server.member], started_s = answers[server.member].get("import"), time.monotonic()
        states = {str(answer.get("state", "starting")) for answer in answers.values()}
        if states == {"serving"} or (may_be_degraded and states <= set(SERVES)):
            return "serving" if states == {"serving"} else "degraded"
        if time.monotonic() - started_s > limit_s:
            if states & set(SERVES) and states <= {*SERVES, "learning"}:
                return "degraded"
            raise _late(servers, answers, shown, limit_s)
        time.sleep(POLL_S)


def _late(
    servers: Sequence[ProcessRecord], answers: Mapping[int, Mapping[str, Any]], shown: Mapping[int, str], limit_s: float
) -> ControlTimeout:
    late = next(server for server in servers if shown[server.member] != "serving")
    message = f"{late.name} does not serve after {limit_s:g} s: {shown[late.member]}"
    state = str(answers[late.member].get("state", "starting"))
    return ControlTimeout(message, _HINTS.get(state) or tail_of(Path(late.log), late.log_offset))


def _require_alive(record: ProcessRecord) -> None:
    if not record.is_alive:
        how = ending(reap(record.identity.pid))
        raise ProcessError(f"{record.name} ended{how}", tail_of(Path(record.log), record.log_offset))


def _ask(socket: Path) -> Mapping[str, Any]:
    """Return what a server says of itself; nothing before it listens."""
    if not socket.exists():
        return {}
    try:
        with ControlClient(socket, ASK_TIMEOUT_S) as client:
            answer = client.call("status")
    except ControlError:
        return {}
    return answer if isinstance(answer, dict) else {}


def progress_of(server: int, answer: Mapping[str, Any]) -> str:
    """Return in words how far a server is: its state, and what it waits for."""
    state = str(answer.get("state", "starting"))
    own = [row for row in answer.get("domains", ()) if row.get("server") == server]
    repair, imported = answer.get("repair"), answer.get("import")
    if imported:
        share = 100 * imported["parts"] // imported["parts_total"]
        return f"{state}; {imported['domain']} takes the imported state in, {share} %"
    if state == "returning" and answer.get("waits_for"):
        return f"{state}; waits for " + ", ".join(f"server {number}" for number in answer["waits_for"])
    if state in ("learning", "degraded") and repair:
        parts = f" {repair['parts']} of {repair['parts_total']}" if repair.get("parts_total") else ""
        return f"{state}; {repair['domain']} {repair['step']}{parts}"
    if state not in ("starting", "restarting") or not own:
        return state
    there = [row for row in own if row.get("role") != "retired"]
    return f"{state}; " + ", ".join(f"{row['domain']} {_readiness(row)}" for row in there)


def _readiness(row: Mapping[str, Any]) -> str:
    return "boots" if row.get("role") == "starting" else "is ready"
