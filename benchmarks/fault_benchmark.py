"""`spare bench faults`: how long clients wait when something fails, and what throughput is left meanwhile.

Three parts, each with a cell of its own, or one per point: the latency of fault handling in its worst case, throughput
after the crash of an active domain, time without service when a whole server fails.

Source: SPARE §4.11.5; design "Numbers to reach".
"""

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from benchmarks.cell_clients import CellClients
from benchmarks.environment import environment
from benchmarks.fault_cell import CellPlan, Driver, FaultCell, Report, fault_cell
from benchmarks.fault_latency import Fault, LatencyRun, worst_medians
from benchmarks.fault_outage import Outage, measure_outage
from benchmarks.fault_plots import can_plot, plot_report
from benchmarks.fault_service import SERVICES, ServiceName
from benchmarks.fault_throughput import SHARE_WANTED, ThroughputSettings, measure_throughput
from benchmarks.image_building import build_image

PassiveMode = Literal["suspended", "running"]
Part = Literal["latency", "throughput", "outage"]
PARTS: tuple[Part, ...] = ("latency", "throughput", "outage")
BAR_UPDATES = 100
LATENCY_BARS_MS = {"suspended": 60.0, "running": 40.0}
BAR_RECOVERED_MS = 1000


@dataclass(frozen=True)
class FaultSettings:
    """What to measure, and how often."""

    directory: Path
    images: Path
    driver: Driver = "libvirt"
    parts: tuple[Part, ...] = PARTS
    services: tuple[ServiceName, ...] = ("key-value", "rubis")
    """Of the first part; the others have the key-value service."""
    sizes: tuple[int, ...] = (100, 200, 500)
    """Values of `U_max`."""
    modes: tuple[PassiveMode, ...] = ("suspended", "running")
    faults: tuple[Fault, ...] = ("lie", "kill")
    samples: int = 5
    """Per point."""
    throughput: ThroughputSettings = field(default_factory=ThroughputSettings)
    outages: tuple[Outage, ...] = ("killed", "frozen", "cut")

    @property
    def points(self) -> list[tuple[ServiceName, PassiveMode, int]]:
        """The cells of the first part.  Child processes have the key-value service alone."""
        services = [one for one in self.services if one == "key-value" or self.driver == "libvirt"]
        points = [(service, mode, size) for service in services for mode in self.modes for size in self.sizes]
        return points if "latency" in self.parts else []


class FaultBenchmark:
    """One run of the command.  The report is written after every part: what is measured is not lost."""

    def __init__(self, settings: FaultSettings, report: Report) -> None:
        """Prepare."""
        self._settings = settings
        self._report = report
        self._began_s = time.monotonic()
        self._steps_done = 0
        others = [part for part in settings.parts if part != "latency"]
        self._steps = len(settings.points) * len(settings.faults) + len(others)
        self.document: dict[str, Any] = {**environment(), "settings": _plain(settings), "latency": []}

    def run(self) -> dict[str, Any]:
        """Measure everything; return the report, which is also written.

        Raises:
            ControlError, ImageError, NetworkError: a cell cannot be started; nothing is left behind.
            RequestFailed, LoadFailed: clients were not served.
        """
        settings = self._settings
        settings.directory.mkdir(parents=True, exist_ok=True)
        if settings.driver == "libvirt":
            self._build_images()
        for service, mode, size in settings.points:
            self._latency(service, mode, size)
        if "throughput" in settings.parts:
            with self._cell() as cell:
                self.document["throughput"] = measure_throughput(cell, settings.throughput, self._report)
            self._step_done()
        if "outage" in settings.parts:
            self._outages()
        self._plot()
        return self.document

    def _build_images(self) -> None:
        services = {service for service, _, _ in self._settings.points}
        services |= {"key-value"} if set(self._settings.parts) - {"latency"} else set()
        for service in sorted(services):
            build_image(SERVICES[service].image, self._settings.images, self._report)

    def _cell(
        self, mode: PassiveMode = "suspended", size: int = BAR_UPDATES, service: ServiceName = "key-value"
    ) -> AbstractContextManager[FaultCell]:
        settings = self._settings
        wanted = SERVICES[service]
        plan = CellPlan(
            settings.directory,
            settings.images,
            settings.driver,
            size,
            mode,
            image=wanted.image,
            settings=wanted.settings,
        )
        return fault_cell(plan, self._report)

    def _latency(self, service: ServiceName, mode: PassiveMode, size: int) -> None:
        with self._cell(mode, size, service) as cell, CellClients(cell) as clients:
            run = LatencyRun(cell, clients, service, size, mode)
            for fault in self._settings.faults:
                self.document["latency"].append(run.run(fault, self._settings.samples, self._report).row())
                self._step_done()

    def _outages(self) -> None:
        rows = self.document["outages"] = []
        for kind in _possible(self._settings):
            # A cell for each: no failure meets what the one before has left.
            with self._cell() as cell:
                rows.append(measure_outage(cell, kind, cell.leader(), self._report))
            self._write()
        self._step_done()

    def _step_done(self) -> None:
        self._steps_done += 1
        self._write()
        left_s = time_left_s(self._steps_done, self._steps, time.monotonic() - self._began_s)
        self._report(f"{self._steps_done}/{self._steps} done, about {left_s / 60:.0f} min left")

    def _write(self) -> None:
        after = environment()
        self.document |= {"load_average_after": after["load_average"], "steal_percent_after": after["steal_percent"]}
        self.document["bars"] = bars(self.document) if self._settings.driver == "libvirt" else []
        text = json.dumps(self.document, indent=2, default=str)
        (self._settings.directory / "report.json").write_text(text + "\n")

    def _plot(self) -> None:
        if not can_plot():
            self._report("no pictures: matplotlib is not installed (pip install 'spare[bench]')")
            return
        self.document["plots"] = [str(file) for file in plot_report(self.document, self._settings.directory)]
        self._write()


def _possible(settings: FaultSettings) -> tuple[Outage, ...]:
    """Child processes have no network of their own that could be cut."""
    return tuple(kind for kind in settings.outages if kind != "cut" or settings.driver == "libvirt")


def _plain(settings: FaultSettings) -> dict[str, Any]:
    values = asdict(settings)
    return {**values, "directory": str(settings.directory), "images": str(settings.images)}


# -- pure ------------------------------------------------------------------------------------------------------


def time_left_s(done: int, total: int, elapsed_s: float) -> float:
    """Return how long the rest takes if its steps take as long as those so far."""
    return elapsed_s / max(1, done) * (total - done)


def bars(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was to be reached, what was measured, and whether it is reached; of what was measured only."""
    found = []
    for (service, fault, size, mode), value in worst_medians(document["latency"]).items():
        if service == "key-value" and size == BAR_UPDATES and value is not None:
            bar = LATENCY_BARS_MS[mode]
            found.append(_bar(f"{fault}, batch {size}, {mode}: median ms", value, bar, is_met=value <= bar))
    half = [run for run in document.get("throughput", {}).get("runs", ()) if run["load"] == "half"]
    if half:
        late_ms = [BAR_RECOVERED_MS + 1 if run["recovered_ms"] is None else run["recovered_ms"] for run in half]
        value = median(late_ms)
        name = f"half load: {SHARE_WANTED:.0%} of the throughput after ms"
        found.append(_bar(name, value, BAR_RECOVERED_MS, is_met=value <= BAR_RECOVERED_MS))
    return found


def _bar(name: str, value: float, bar: float, *, is_met: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "bar": bar, "is_met": is_met}


def summary_lines(document: dict[str, Any]) -> Sequence[str]:
    """Return the tables that the command prints."""
    lines = []
    if document["latency"]:
        lines.append("fault handling, from detection to the reply (ms)")
        lines.append(
            f"  {'service':<11}{'fault':<6}{'passive':<11}{'U_max':>5} {'median':>8} {'p90':>8}   "
            "milestones after the detection"
        )
    for row in document["latency"]:
        steps = ", ".join(f"{step} {ms:.0f}" for step, ms in row["milestones_ms"].items())
        middle = "-" if row["median_ms"] is None else f"{row['median_ms']:.1f}"
        most = "-" if row["p90_ms"] is None else f"{row['p90_ms']:.1f}"
        lines.append(
            f"  {row['service']:<11}{row['fault']:<6}{row['passive_mode']:<11}{row['updates_max']:>5} "
            f"{middle:>8} {most:>8}   {steps}"
        )
    return [*lines, *_throughput_lines(document), *_outage_lines(document), *_bar_lines(document)]


def _throughput_lines(document: dict[str, Any]) -> list[str]:
    found = document.get("throughput")
    if not found:
        return []
    lines = [f"throughput after a crash; saturation {found['saturation_rps']:.0f}/s, load {found['load_rps']:.0f}/s"]
    for run in found["runs"]:
        lines.append(
            f"  {run['load']:<10} {run['before_rps']:>7.0f}/s before, first second {run['first_second_share']:.0%}, "
            f"80 % after {run['recovered_ms']} ms, {run['failed_requests']} failed"
        )
    return lines


def _outage_lines(document: dict[str, Any]) -> list[str]:
    lines = ["time without service when a server fails"] if document.get("outages") else []
    for row in document.get("outages", ()):
        if "without_service_ms" not in row:
            lines.append(f"  {row['outage']:<7} not measured: {row['void']}")
            continue
        lines.append(
            f"  {row['outage']:<7} server {row['server']}: {row['without_service_ms']:.0f} ms without any reply, "
            f"longest wait {row['longest_latency_ms']:.0f} ms, {row['failed_requests']} failed"
        )
    return lines


def _bar_lines(document: dict[str, Any]) -> list[str]:
    return [
        f"{'reached' if bar['is_met'] else 'MISSED'}: {bar['name']} {bar['value']:.0f}, bar {bar['bar']:.0f}"
        for bar in document.get("bars", ())
    ]
