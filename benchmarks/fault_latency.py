"""How long a reply is held up when an active domain lies or dies: the worst case, as in the thesis.

Before each sample the passive domain that will help is as far behind as it can be: `U_max - 1` updates wait for it and
the hypervisor has it suspended (or it idles, with `passive_mode = "running"`).  Then an active domain lies about the
next write, or is killed while it executes it.  After each sample the cell repairs itself completely.

Source: SPARE §4.11.5.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from benchmarks.cell_clients import Answer, CellClients
from benchmarks.fault_cell import FaultCell, NotInTime, Report, kill, wait_until
from benchmarks.fault_service import SERVICES, ServiceName
from benchmarks.fault_timeline import Request, Timeline, breakdown, percentile, timeline_of
from images.fault_orders import FaultKind, FaultOrder

Fault = Literal["lie", "kill"]
SUSPENDED_S = 1.5
"""So long the hypervisor must report a sleeper suspended before the fault; it is asked once a second."""
KILL_AFTER_S = 0.03
"""The victim is killed so long after the write was sent: it has it by then, and nobody suspects it yet."""
FILL_ATTEMPTS = 6
EXTRA_SAMPLES = 5
"""Faults beyond the wanted number that may turn out not to be the worst case."""
SETTLED_S = 30.0
"""For the events of a fault to come, once the reply is there."""


@dataclass(frozen=True)
class Sample:
    """One fault."""

    waiting_updates: int
    """For the domain that was activated, before the fault."""
    is_worst_case: bool
    """Whether that one was the sleeper that was made to lag."""
    whole_again_s: float
    """Until the cell had its full redundancy again."""
    timeline: Timeline


@dataclass
class Series:
    """All samples of one point."""

    service: ServiceName
    fault: Fault
    updates_max: int
    passive_mode: str
    samples: list[Sample] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    """Why faults gave no sample."""

    @property
    def worst(self) -> list[Sample]:
        """The samples that count."""
        return [sample for sample in self.samples if sample.is_worst_case]

    def row(self) -> dict[str, Any]:
        """Return figures and all samples as plain values."""
        timelines = [sample.timeline for sample in self.worst]
        latencies = [timeline.latency_ms for timeline in timelines]
        return {
            "service": self.service,
            "fault": self.fault,
            "updates_max": self.updates_max,
            "passive_mode": self.passive_mode,
            "samples": len(latencies),
            "median_ms": round(median(latencies), 2) if latencies else None,
            "p90_ms": percentile(latencies, 0.9) if latencies else None,
            "milestones_ms": breakdown(timelines),
            "all_samples": [asdict(sample) for sample in self.samples],
            "void": self.void,
        }


class LatencyRun:
    """Faults of one kind in one cell."""

    def __init__(
        self, cell: FaultCell, clients: CellClients, service: ServiceName, updates_max: int, passive_mode: str
    ) -> None:
        """Measure in `cell`, whose `U_max` is `updates_max`."""
        self._service = SERVICES[service]
        self._cell = cell
        self._clients = clients
        self._updates_max = updates_max
        self._passive_mode = passive_mode
        self._written = 0
        self._orders = int(time.time()) % 100_000_000

    def run(self, fault: Fault, wanted: int, report: Report) -> Series:
        """Take samples until `wanted` of them are the worst case, or too many were not."""
        series = Series(self._service.name, fault, self._updates_max, self._passive_mode)
        for _ in range(wanted + EXTRA_SAMPLES):
            if len(series.worst) >= wanted:
                break
            try:
                sample = self._sample(fault)
            except NotInTime as error:
                series.void.append(str(error))
                report(f"no sample: {error}")
                continue
            series.samples.append(sample)
            count = f"{len(series.worst)}/{wanted}"
            note = "" if sample.is_worst_case else f", not the worst case: {sample.waiting_updates} updates waited"
            report(
                f"{self._service.name}, {fault}, U_max {self._updates_max}, {self._passive_mode}, {count}: "
                f"{sample.timeline.latency_ms:.1f} ms{note}"
            )
        return series

    def _sample(self, fault: Fault) -> Sample:
        self._cell.wait_until_whole()
        server = self._cell.leader()  # its offers are ordered first, so that its sleeper is the one to help
        sleeper, victim = self._cell.domain(server, "passive"), self._cell.domain(server, "active")
        self._make_lag(server, sleeper)
        waiting = {name: row.get("waiting_updates", 0) for name, row in self._cell.rows().items()}
        newest = self._cell.newest_events()
        answer = self._lie(server, victim) if fault == "lie" else self._kill(server, victim)
        if not self._service.is_right(answer.reply):
            raise AssertionError(f"a client got a reply that is not right: {answer.reply!r}")
        found: list[Timeline] = []

        def has_timeline() -> bool:
            timeline = timeline_of(self._cell.events_since(newest), Request(answer.sent_us, answer.replied_us))
            found.extend([timeline] if timeline else [])
            return bool(found)

        wait_until(has_timeline, f"the events of the fault of {victim}", SETTLED_S)
        whole_s = self._cell.wait_until_whole()
        helper = found[0].activated
        lagged = waiting.get(helper, 0)
        return Sample(lagged, lagged == self._updates_max - 1, round(whole_s, 1), found[0])

    # -- before the fault --------------------------------------------------------------------------------------

    def _make_lag(self, server: int, sleeper: str) -> None:
        """Write until `U_max - 1` updates wait for `sleeper` and it sleeps."""
        for _ in range(FILL_ATTEMPTS):
            missing = self._updates_max - 1 - self._waiting(sleeper)
            self._clients.ask_all(server, [self._write() for _ in range(missing)])
            if self._is_lagging(sleeper) and self._passive_mode == "running":
                return
            if self._passive_mode == "suspended" and self._is_asleep_and_lagging(sleeper):
                return
        raise NotInTime(f"{sleeper} did not come to lag by {self._updates_max - 1} updates")

    def _is_asleep_and_lagging(self, sleeper: str) -> bool:
        """Whether the hypervisor reports it suspended all the time while we look."""
        wait_until(lambda: self._cell.rows()[sleeper].get("hypervisor_state") == "suspended", f"{sleeper} sleeps", 30)
        before = self._cell.rows()[sleeper]
        time.sleep(SUSPENDED_S)  # a length of time is what is measured here
        after = self._cell.rows()[sleeper]
        slept_s = after["suspended_seconds"] - before["suspended_seconds"]
        is_idle = after["cpu_seconds"] == before["cpu_seconds"] and after["hypervisor_state"] == "suspended"
        return bool(is_idle and slept_s >= SUSPENDED_S) and self._is_lagging(sleeper)

    def _is_lagging(self, sleeper: str) -> bool:
        return self._waiting(sleeper) == self._updates_max - 1

    def _waiting(self, domain: str) -> int:
        return int(self._cell.rows()[domain]["waiting_updates"])

    def _write(self) -> bytes:
        self._written += 1
        return self._service.write(self._written)

    # -- the fault ---------------------------------------------------------------------------------------------

    def _order(self, victim: str, kind: FaultKind) -> bytes:
        self._orders += 1
        return self._service.order(FaultOrder(self._orders, victim, kind, times=1))

    def _lie(self, server: int, victim: str) -> Answer:
        self._clients.ask(server, self._order(victim, FaultKind.WRONG_REPLY))
        return self._clients.ask(server, self._write())

    def _kill(self, server: int, victim: str) -> Answer:
        process = self._cell.domain_process(victim)
        # It holds the write until it is killed.
        self._clients.ask(server, self._order(victim, FaultKind.HANG))
        pending = self._clients.begin(server, self._write())
        time.sleep(KILL_AFTER_S)
        kill([process])
        return pending.result()


def worst_medians(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, int, str], float | None]:
    """Return the median of each point by `(service, fault, U_max, passive mode)`."""
    points = ((row["service"], row["fault"], row["updates_max"], row["passive_mode"]) for row in rows)
    return dict(zip(points, (row["median_ms"] for row in rows), strict=True))
