"""`spare bench recovery`: what clients notice of proactive recoveries, and how long those take.

Two parts, each with a cell of its own: recoveries in a row under the bidding mix, and one with a large state.

Source: SPARE §4.5; design "Proactive recovery".
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.environment import environment
from benchmarks.fault_cell import KEY_VALUE, CellPlan, Driver, FaultCell, Report, fault_cell, running_cell
from benchmarks.fault_plots import can_plot
from benchmarks.image_building import build_image
from benchmarks.live_recording import machine_cell, native_cell
from benchmarks.native_rubis import native_rubis
from benchmarks.null_cell import directory_mark
from benchmarks.recovery_bars import bars
from benchmarks.recovery_plots import plot_report
from benchmarks.recovery_session import RecoverySession, SessionSettings
from benchmarks.recovery_state import StateSettings, measure_large_state
from rubis_adapter.tiers.service_processes import DatabaseKind

Part = Literal["load", "large-state"]
PARTS: tuple[Part, ...] = ("load", "large-state")
RUBIS_IMAGE = "rubis-mariadb"
LARGE_IMAGE = "key-value+large"
NAME = "recovery"
SNAPSHOT_MS = 60_000
"""The store pauses when it writes all values as a snapshot, which is no fault: who is suspected while the cell is
filled gets replaced, and what is left of the cell then is another one."""


@dataclass(frozen=True)
class RecoverySettings:
    """What to measure."""

    directory: Path
    images: Path
    driver: Driver = "libvirt"
    parts: tuple[Part, ...] = PARTS
    session: SessionSettings = field(default_factory=SessionSettings)
    state: StateSettings = field(default_factory=StateSettings)


class RecoveryBenchmark:
    """One run of the command.  The report is written after every recovery: what is measured is not lost."""

    def __init__(self, settings: RecoverySettings, report: Report) -> None:
        """Prepare."""
        self._settings = settings
        self._report = report
        self.document: dict[str, Any] = {**environment(), "settings": _plain(settings)}

    def run(self) -> dict[str, Any]:
        """Measure everything; return the report, which is also written.

        Raises:
            ControlError, ImageError, NetworkError: a cell cannot be started; nothing is left behind.
            NotInTime: a cell does not become whole again.
            LoadFailed: clients ended.
        """
        self._settings.directory.mkdir(parents=True, exist_ok=True)
        if "load" in self._settings.parts:
            with self._rubis_cell() as cell:
                session = RecoverySession(cell, self._settings.session, self._report, self._write)
                self.document["load"] = session.document
                session.run()
        if "large-state" in self._settings.parts:
            with self._large_cell() as cell:
                self.document["large_state"] = measure_large_state(cell, self._settings.state, self._report)
        self._write()
        self._plot()
        return self.document

    @contextmanager
    def _rubis_cell(self) -> Iterator[FaultCell]:
        settings, name = self._settings, f"{NAME}-{directory_mark(self._settings.directory)}"
        if settings.driver == "libvirt":
            image = build_image(RUBIS_IMAGE, settings.images, self._report)
            config = machine_cell(settings.directory, [image] * 2, settings.images, name, record="")
            with running_cell(config, self._report) as cell:
                yield cell
            return
        self._report("making the data set")
        with native_rubis(DatabaseKind.MARIADB) as rubis:
            config = native_cell(settings.directory, rubis, name, record="")
            with running_cell(config, self._report) as cell:
                yield cell

    @contextmanager
    def _large_cell(self) -> Iterator[FaultCell]:
        settings = self._settings
        image = LARGE_IMAGE
        if settings.driver == "libvirt":
            image = build_image(LARGE_IMAGE, settings.images, self._report)
        command = (sys.executable, "-P", "-m", *KEY_VALUE, "--directory", "{disk}/data")
        plan = CellPlan(
            settings.directory,
            settings.images,
            settings.driver,
            stall_start_ms=SNAPSHOT_MS,
            name=NAME,
            image=image,
            command=command,
        )
        with fault_cell(plan, self._report) as cell:
            yield cell

    def _write(self) -> None:
        after = environment()
        self.document |= {"load_average_after": after["load_average"], "steal_percent_after": after["steal_percent"]}
        self.document["bars"] = bars(self.document, self._settings.driver)
        text = json.dumps(self.document, indent=2, default=str)
        (self._settings.directory / "report.json").write_text(text + "\n")

    def _plot(self) -> None:
        if not can_plot():
            self._report("no pictures: matplotlib is not installed (pip install 'spare[bench]')")
            return
        self.document["plots"] = [str(file) for file in plot_report(self.document, self._settings.directory)]
        self._write()


def _plain(settings: RecoverySettings) -> dict[str, Any]:
    values = asdict(settings)
    return {**values, "directory": str(settings.directory), "images": str(settings.images)}


# -- pure ------------------------------------------------------------------------------------------------------


def summary_lines(document: dict[str, Any]) -> Sequence[str]:
    """Return the tables that the command prints."""
    lines: list[str] = []
    load = document.get("load", {})
    if "load_rps" in load:
        lines.append(f"recoveries under load; saturation {load['saturation_rps']:.1f}/s, load {load['load_rps']:.1f}/s")
    for name in ("half", "saturated"):
        lines += [_load_line(name, row) for row in load.get(name, {}).get("recoveries", ())]
    state = document.get("large_state")
    if state:
        peak_mib = max(state["manager_peak_bytes"].values()) >> 20
        lines.append(
            f"a state of {state['state_bytes'] >> 20} MiB: {_phases_text(state)}; managers up to {peak_mib} MiB"
        )
    words = {True: "reached", False: "MISSED"}
    return [*lines, *(f"{words[bar['is_met']]}: {bar['sentence']}" for bar in document["bars"])]


def _load_line(name: str, row: dict[str, Any]) -> str:
    return (
        f"  {name:<10} {row['throughput_before_rps']:>6.1f}/s before, {row['throughput_rps']:>6.1f}/s during "
        f"({row['throughput_ratio']:.0%}), slowest {row['slowest_reply_ms']:>6.0f} ms; {_phases_text(row)}"
    )


def _phases_text(row: dict[str, Any]) -> str:
    parts = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in row["phases_s"].items())
    return f"{row['duration_s']:.1f} s ({parts})"
