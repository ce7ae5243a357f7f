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


def wait_until_serving(config: Config, records: Sequence[ProcessRecord], report: Reporter, limit_s: float) -> None:
    """Return when every server says that it serves.

    Args:
        config: complete configuration.
        records: the processes of all members.
        report: takes a line for every change.
        limit_s: patience.

    Raises:
        ProcessError: a member ended.
        ControlTimeout: a server does not serve in time.
    """
    paths = CellPaths.of(config)
    servers = [record for record in records if record.kind == "server"]
    shown: dict[int, str] = {}
    started_s = time.monotonic()
    while True:
        for record in records:
            _require_alive(record)
        for server in servers:
            progress = _progress(server.member, _ask(paths.control_socket(server.member)))
            if progress != shown.get(server.member):
                report(f"{server.name}: {progress}")
                shown[server.member] = progress
        waiting = [server for server in servers if shown[server.member] != "serving"]
        if not waiting:
            return
        if time.monotonic() - started_s > limit_s:
            late = waiting[0]
            message = f"{late.name} does not serve after {limit_s:g} s: {shown[late.member]}"
            raise ControlTimeout(message, tail_of(Path(late.log), late.log_offset))
        time.sleep(POLL_S)


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


def _progress(server: int, answer: Mapping[str, Any]) -> str:
    """Return in words how far a server is: its state, and while it starts, its domains."""
    state = str(answer.get("state", "starting"))
    own = [row for row in answer.get("domains", ()) if row.get("server") == server]
    if state != "starting" or not own:
        return state
    return f"{state}; " + ", ".join(f"{row['domain']} {_readiness(row)}" for row in own)


def _readiness(row: Mapping[str, Any]) -> str:
    return "boots" if row.get("role") == "starting" else "is ready"
