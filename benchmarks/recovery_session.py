"""Proactive recoveries, one after the other, while users shop, bid and sell; and what they saw of them.

At half of what the cell can do, measured first in the same run; and one more with as many requests as it can take.

Source: design "Proactive recovery", "Numbers to reach".
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.chaos.load_thread import LoadFailed
from benchmarks.fault_cell import FaultCell, Report
from benchmarks.load_process import LoadResult
from benchmarks.mix_load import MixLoad
from benchmarks.recovery_phases import RecoverySteps
from benchmarks.recovery_run import remains_of, run_recovery, serving_domains, wait_until_at_rest
from benchmarks.recovery_windows import Window, by_second, rate_rps, recovery_figures
from replica_manager.control.checkpoint import take_checkpoint

CHECKPOINT_TIMEOUT_S = 600.0
AFTER_S = 10.0
"""Load behind the last recovery, for the picture."""
POLL_S = 0.2
FAILURES_MAX = 20
"""Failed requests that the report has in words."""


@dataclass(frozen=True)
class SessionSettings:
    """How often, and under which load."""

    recoveries: int = 10
    interval_s: float = 90.0
    """At least so long after the end of one begins the next."""
    users: int = 64
    saturation_s: float = 60.0
    """How long saturation is measured; every load warms up for half of it first."""


class _Recovered(NamedTuple):
    steps: RecoverySteps
    quiet_since_us: int
    """When the load had warmed up, or the recovery before had ended."""

    def row(self, load: LoadResult) -> dict[str, Any]:
        window = Window(self.steps.began_us, self.steps.ended_us)
        return {**self.steps.row(), **recovery_figures(load, window, self.quiet_since_us)}


class RecoverySession:
    """One cell under load."""

    def __init__(self, cell: FaultCell, settings: SessionSettings, report: Report, save: Callable[[], None]) -> None:
        """Prepare; `save` is called whenever there is something new in `document`."""
        self._cell = cell
        self._settings = settings
        self._report = report
        self._save = save
        self._seed = 0
        self._pause_s = settings.interval_s
        self.document: dict[str, Any] = {}

    def run(self) -> None:
        """Measure everything.

        Raises:
            NotInTime: the cell does not become whole between two recoveries.
            LoadFailed: the users ended, or got no reply.
            ControlError: a recovery or the checkpoint cannot be ordered, or does not end in time.
        """
        wait_until_at_rest(self._cell)
        veterans = serving_domains(self._cell)
        saturation_rps = self._saturation_rps()
        if not saturation_rps:
            raise LoadFailed("no user got a reply while saturation was measured")
        load_rps = round(saturation_rps / 2, 1)
        self._report(f"saturation {saturation_rps:.1f}/s, load {load_rps:.1f}/s")
        self.document |= {"saturation_rps": saturation_rps, "load_rps": load_rps, "served_at_start": veterans}
        self._measure("half", load_rps, self._settings.recoveries)
        checkpoint = take_checkpoint(self._cell.config, CHECKPOINT_TIMEOUT_S)
        self._report(
            f"checkpoint at {checkpoint.point}: {'all states equal' if checkpoint.is_equal else 'THEY DIFFER'}"
        )
        self.document["checkpoint"] = {"point": checkpoint.point, "digests": dict(checkpoint.digests)}
        self.document["left_of_them"] = remains_of(self._cell, veterans)
        self._save()
        self._measure("saturated", 0.0, 1)

    def _load(self, rate_rps: float) -> MixLoad:
        self._seed += 1
        cell = self._cell
        return MixLoad(cell.client_addresses, cell.clients_namespace, self._settings.users, rate_rps, self._seed)

    def _saturation_rps(self) -> float:
        settings = self._settings
        with self._load(0.0) as load:
            _go_on(load, settings.saturation_s / 2)
            begin_us = _now_us()
            _go_on(load, settings.saturation_s)
            window = Window(begin_us, _now_us())
            return round(rate_rps(load.result(), window), 1)

    def _measure(self, name: str, rate: float, count: int) -> None:
        done: list[_Recovered] = []
        with self._load(rate) as load:
            began_us = _now_us()
            _go_on(load, self._settings.saturation_s / 2)
            quiet_since_us = _now_us()
            for number in range(1, count + 1):
                # As long as the longest so far, so that there is an equal time before it to compare it with.
                self._report(f"{name} load, recovery {number} of {count}: begins in {self._pause_s:.0f} s")
                _go_on(load, self._pause_s)
                done.append(_Recovered(run_recovery(self._cell, self._report), quiet_since_us))
                quiet_since_us = _now_us()
                self._pause_s = max(self._pause_s, done[-1].steps.duration_s)
                self._tell(name, done, load.result())
            _go_on(load, AFTER_S)
            ended_us = _now_us()
        self.document[name] = series(
            load.result(), Window(began_us, ended_us), [one.row(load.result()) for one in done]
        )
        self._save()

    def _tell(self, name: str, done: Sequence[_Recovered], load: LoadResult) -> None:
        row = done[-1].row(load)
        self._report(
            f"{name} load: {row['duration_s']:.1f} s, {row['throughput_rps']:.1f}/s after "
            f"{row['throughput_before_rps']:.1f}/s, slowest reply {row['slowest_reply_ms']:.0f} ms, "
            f"{len(load.failed)} failed"
        )
        window = Window(done[0].quiet_since_us, done[-1].steps.ended_us)
        self.document[name] = series(load, window, [one.row(load) for one in done])
        self._save()


def _go_on(load: MixLoad, duration_s: float) -> None:
    """Let users go on for a time: a length of time is what is measured here."""
    end_s = time.monotonic() + duration_s
    while (left_s := end_s - time.monotonic()) > 0:
        load.require_running()
        time.sleep(min(POLL_S, left_s))


def _now_us() -> int:
    return time.time_ns() // 1000


def series(load: LoadResult, window: Window, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what one load says of its recoveries.  Pure."""
    return {
        "began_us": window.begin_us,
        "requests": len(load.replied_us) + len(load.failed),
        "failed_requests": len(load.failed),
        "failures": load.failed[:FAILURES_MAX],
        "recoveries": rows,
        "throughput_ratio": min((row["throughput_ratio"] for row in rows), default=0.0),
        "slowest_reply_ms": max((row["slowest_reply_ms"] for row in rows), default=0.0),
        "by_second": by_second(load, window),
    }
