"""Throughput, second by second, while an active domain is killed.

At half of what the cell can do, measured first in the same run, and beside it with as many requests as it can take.

Source: SPARE §4.11.5 (45 % right after the crash, 5 s until it is as before).
"""

import time
from dataclasses import dataclass
from typing import Any

from benchmarks.fault_cell import FaultCell, Report, kill
from benchmarks.load_process import LoadProcess, LoadResult, count_between, per_second, recovered_ms

SHARE_WANTED = 0.8
EDGE_S = 1
"""Left out at the beginning: connections and caches warm up."""


@dataclass(frozen=True)
class ThroughputSettings:
    """How long and how often."""

    clients: int = 64
    saturation_s: float = 6.0
    before_s: int = 5
    after_s: int = 8
    rounds: int = 3


def measure_throughput(cell: FaultCell, settings: ThroughputSettings, report: Report) -> dict[str, Any]:
    """Return `saturation_rps`, `load_rps` and all runs as plain values.

    Raises:
        NotInTime: the cell does not become whole between two crashes.
        LoadFailed: the clients ended early.
    """
    cell.wait_until_whole()
    saturation_rps = _saturation_rps(cell, settings)
    load_rps = round(saturation_rps / 2, 1)
    report(f"saturation {saturation_rps:.0f}/s, load {load_rps:.0f}/s")
    runs = []
    for number in range(settings.rounds):
        for name, rate_rps in (("half", load_rps), ("saturated", 0.0)):
            run = _crash_run(cell, settings, rate_rps, number % len(cell.addresses))
            runs.append({"load": name, **run})
            report(
                f"{name} load, round {number + 1}: {run['before_rps']:.0f}/s before, "
                f"{100 * run['first_second_share']:.0f} % in the first second, at 80 % after {run['recovered_ms']} ms"
            )
    return {"saturation_rps": saturation_rps, "load_rps": load_rps, "runs": runs}


def _saturation_rps(cell: FaultCell, settings: ThroughputSettings) -> float:
    with LoadProcess(cell, settings.clients, 0, settings.saturation_s + EDGE_S) as load:
        replied_us = load.result().replied_us
    if not replied_us:
        return 0.0
    counted = count_between(replied_us, replied_us[0] + EDGE_S * 1_000_000, replied_us[-1])
    return round(counted / max(0.001, (replied_us[-1] - replied_us[0]) / 1e6 - EDGE_S), 1)


def _crash_run(cell: FaultCell, settings: ThroughputSettings, rate_rps: float, server: int) -> dict[str, Any]:
    cell.wait_until_whole()
    victim = cell.domain(server, "active")
    process = cell.domain_process(victim)
    before_s = settings.before_s + EDGE_S
    with LoadProcess(cell, settings.clients, rate_rps, before_s + settings.after_s) as load:
        time.sleep(before_s)  # a length of time is what is measured here
        crash_us = time.time_ns() // 1000
        kill([process])
        result = load.result()
    return {"victim": victim, **crash_figures(result, crash_us, settings.before_s, settings.after_s)}


def crash_figures(result: LoadResult, crash_us: int, before_s: int, after_s: int) -> dict[str, Any]:
    """Return rates before and after the crash.  Pure."""
    replied_us = result.replied_us
    before_rps = count_between(replied_us, crash_us - before_s * 1_000_000, crash_us) / before_s
    first_second = count_between(replied_us, crash_us, crash_us + 1_000_000)
    return {
        "before_rps": round(before_rps, 1),
        "first_second_share": round(first_second / before_rps, 3) if before_rps else 0.0,
        "recovered_ms": recovered_ms(replied_us, crash_us, SHARE_WANTED * before_rps),
        "failed_requests": len(result.failed),
        "longest_latency_ms": max(result.latencies_ms, default=0.0),
        "per_second": per_second(replied_us, crash_us, -before_s, after_s),
    }
