"""Has one server of a one-machine cell leave, or brings it back."""

import time
from collections.abc import Callable
from typing import Any

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.cell_network import CellNetwork, Reporter
from replica_manager.control.cell_view import CellView, look
from replica_manager.control.cell_wait import progress_of
from replica_manager.control.errors import ControlTimeout, ControlUnavailable, ProcessError
from replica_manager.control.member_process import ending, member_command, start_member, tail_of
from replica_manager.control.orders import order_of
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from replica_manager.control.processes import end_all, reap

POLL_S = 0.2
LEAVE_S = 60.0
"""For the departure to be ordered and the process to end by itself."""
PATIENCE_S = 30.0


def leave(config: Config, server: int, report: Reporter) -> None:
    """Have `server` leave the cell and its process end; the keeper lets it be until `join`.

    Raises:
        ControlError: it cannot leave now.
    """
    paths = CellPaths.of(config)
    records = ProcessRecords(paths.processes)
    record = _record(records, server)
    records.hold("server", server)
    try:
        _ask_to_leave(config, server)
    except BaseException:
        records.release("server", server)
        raise
    report(f"server {server} leaves")
    if record is not None and not _await(lambda: not record.is_alive, LEAVE_S):
        # Its departure may be ordered or not; without the process the others will order it.
        report(f"server {server} did not end by itself")
        end_all([record.identity], PATIENCE_S, lambda pid: report(f"process {pid} was killed"))


def _ask_to_leave(config: Config, server: int) -> None:
    try:
        order_of(config, server, "leave")
    except ControlTimeout:
        raise
    except ControlUnavailable:
        if server in _live_servers(look(config)):
            raise  # it runs no more, and the others have not noticed yet


def join(config: Config, server: int, network: CellNetwork, report: Reporter, limit_s: float) -> None:
    """Start `server` if it does not run, and return once it serves.

    Raises:
        ProcessError: it cannot be started, or ends.
        ControlTimeout: it does not come to serve in time.
        ControlUnavailable: the cell does not run.
    """
    paths = CellPaths.of(config)
    records = ProcessRecords(paths.processes)
    if not any(record.is_alive for record in records.read()):
        raise ControlUnavailable(f"cell {config.cell.name} does not run", "start it: spare cell up")
    records.release("server", server)
    record = _record(records, server)
    if record is None or not record.is_alive:
        publish = next(one.publish for one in config.server if one.id == server)
        command = member_command("server", server, config.path)
        record = start_member(paths, network, "server", server, command, publish)
        report(f"server {server}: process {record.identity.pid}, log {record.log}")
    _await_service(config, record, report, limit_s)


def _await_service(config: Config, record: ProcessRecord, report: Reporter, limit_s: float) -> None:
    shown = ""

    def serves() -> bool:
        nonlocal shown
        if not record.is_alive:
            how = ending(reap(record.identity.pid))
            raise ProcessError(f"{record.name} ended{how}", tail_of(record.log_path, record.log_offset))
        view = look(config)
        progress = progress_of(record.member, view.answers.get(record.member, {}))
        if progress != shown:
            report(f"{record.name}: {progress}")
            shown = progress
        return progress == "serving" or (progress == "degraded" and record.member in _live_servers(view))

    if not _await(serves, limit_s):
        raise ControlTimeout(f"{record.name} does not serve after {limit_s:g} s: {shown}", "see spare events")


def _record(records: ProcessRecords, server: int) -> ProcessRecord | None:
    found = (record for record in records.read() if (record.kind, record.member) == ("server", server))
    return next(found, None)


def _live_servers(view: CellView) -> list[Any]:
    return [row["server"] for row in view.newest.get("servers", ()) if row.get("live")]


def _await(is_so: Callable[[], bool], limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True
