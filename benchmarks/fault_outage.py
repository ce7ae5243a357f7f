"""How long clients are without service when a whole server fails: it dies, it freezes, or it is cut off.

Clients with failover write at a modest rate through it.  What counts is what they see: the longest time without any
reply, and the longest that one of them waited.

Source: design "Server crash, leave, join".
"""

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, Literal

from benchmarks.fault_cell import FaultCell, NotInTime, Report, kill
from benchmarks.load_process import LoadProcess, LoadResult, longest_gap_ms
from replica_manager.control.processes import send
from replica_manager.network.address_plan import namespace_name

Outage = Literal["killed", "frozen", "cut"]
CLIENTS = 16
RATE_RPS = 50.0
BEFORE_S = 3.0
AFTER_S = 20.0
PRIVATE_LINK = "private"


def measure_outage(cell: FaultCell, kind: Outage, server: int, report: Report) -> dict[str, Any]:
    """Return what clients saw, or why it is not known; `server` fails, and is mended afterwards."""
    row: dict[str, Any] = {"outage": kind, "server": server}
    try:
        cell.wait_until_whole()
        row |= _strike(cell, kind, server, report)
        row["whole_again_s"] = round(cell.wait_until_whole(), 1)
    except NotInTime as error:
        row["void"] = str(error)
        report(f"{kind}: {error}")
    return row


def _strike(cell: FaultCell, kind: Outage, server: int, report: Report) -> dict[str, Any]:
    strike, mend = _means(cell, kind, server)
    was_leader = cell.leader() == server
    with LoadProcess(cell, CLIENTS, RATE_RPS, BEFORE_S + AFTER_S) as load:
        time.sleep(BEFORE_S)  # a length of time is what is measured here
        struck_us = time.time_ns() // 1000
        try:
            strike()
            result = load.result()
        finally:
            mend()
    row = {"was_leader": was_leader, **outage_figures(result, struck_us)}
    report(
        f"server {server} {kind}: {row['without_service_ms']:.0f} ms without any reply, "
        f"longest wait {row['longest_latency_ms']:.0f} ms, {row['failed_requests']} failed"
    )
    return row


def _means(cell: FaultCell, kind: Outage, server: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what hurts the server, and what ends that."""
    if kind == "killed":
        victims = cell.server_processes(server)
        return lambda: kill(victims), lambda: cell.restart_server(server)
    if kind == "frozen":
        manager = cell.manager_process(server)
        return lambda: send(manager, signal.SIGSTOP), lambda: send(manager, signal.SIGCONT)
    place = namespace_name(cell.config.cell.name, f"s{server}")
    return lambda: _set_link(place, "down"), lambda: _set_link(place, "up")


def _set_link(place: str, state: str) -> None:
    command = ["ip", "-netns", place, "link", "set", "dev", PRIVATE_LINK, state]
    subprocess.run(command, check=True, capture_output=True)


def outage_figures(result: LoadResult, struck_us: int) -> dict[str, Any]:
    """Return what clients saw from `struck_us` on.  Pure."""
    last_us = result.replied_us[-1] if result.replied_us else struck_us
    return {
        "without_service_ms": longest_gap_ms(result.replied_us, struck_us, max(struck_us, last_us)),
        "longest_latency_ms": max(result.latencies_ms, default=0.0),
        "failed_requests": len(result.failed),
        "failures": sorted(set(result.failed)),
    }
