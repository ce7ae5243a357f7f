"""`spare demo`, short: all of it runs, its report is whole, and whatever ends it leaves nothing on the machine."""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine_traces import left_behind, machine_traces
from benchmarks.rubis_demo import DemoSettings, run_demo
from images.catalog import Catalog, Image
from rubis_adapter.client_emulator.interactions import Interaction
from tests.vm.cell_traces import Traces, require_nothing_left, traces_of
from tests.vm.vm_cell import OperatedCell, press_ctrl_c, start_spare
from tests.vm.waiting import BOOT_PATIENCE_S, until

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3600)]

ACTIVE, PASSIVE = {"s0.g1", "s1.g1"}, {"s0.g2", "s1.g2"}
PASSIVE_CPU_SHARE_MAX = 0.05
"""CPU time of the passive domains over that of the active ones."""
SORRY_SHARE_MAX = 0.2
"""Pages that found nothing: more of them, and the load is none."""
CELL_NAME = "t-demo"

Report = dict[str, Any]


def test_a_short_demo_reports_what_a_cell_shows(directory: Path, catalog: Catalog, rubis_image: Image) -> None:
    """No request fails, the databases change and are equal, sleepers are refreshed and use next to no CPU time."""
    settings = DemoSettings(
        directory / "report",
        catalog.directory,
        clients=20,
        session_s=40.0,
        up_ramp_s=5.0,
        think_time_scale=0.2,
        refresh_updates_max=12,
        cell_name=CELL_NAME,
    )
    before = machine_traces(str(directory), CELL_NAME)
    lines: list[str] = []
    document = run_demo(settings, lines.append)
    assert not left_behind(before, machine_traces(str(directory), CELL_NAME))

    report = json.loads((settings.directory / "report.json").read_text())
    assert (report["problems"], report["left_behind"]) == ([], {})
    _require_load(report)
    _require_latencies(report)
    _require_equal_databases(report)
    _require_sleepers(report)
    _require_provenance(report)
    assert (settings.directory / "summary.txt").read_text() == document["summary"]
    assert any("runtime session" in line for line in lines), "progress is shown"
    assert lines.index(f"image {rubis_image.image_id}") < lines.index("stopping the cell")


def _require_load(report: Report) -> None:
    """The users were served, found something, and changed the databases."""
    assert report["requests"] > 0
    assert (report["failed_requests"], report["failures"]) == (0, {})
    assert report["sorry_share"] <= SORRY_SHARE_MAX
    assert 0 < report["modifying_requests"] < report["requests"]
    interactions = report["interactions"]
    assert set(interactions) <= {interaction.value for interaction in Interaction}
    assert sum(interactions.values()) == report["requests"]
    assert all(count > 0 for count in interactions.values())
    completed = sum(report["completed_per_second"])
    assert completed > 0
    assert report["throughput_rps"] == pytest.approx(completed / report["settings"]["session_s"], abs=0.001)


def _require_latencies(report: Report) -> None:
    latency = report["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]


def _require_equal_databases(report: Report) -> None:
    """One digest per domain at the agreed position before the load, and one after it."""
    start, end = report["replica_state_digests_at_start"], report["replica_state_digests"]
    assert set(start) == set(end) == ACTIVE | PASSIVE
    (digest_at_start,), (digest,) = set(start.values()), set(end.values())
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest != digest_at_start
    first, last = report["checkpoints"]
    assert last - first > report["modifying_requests"]


def _require_sleepers(report: Report) -> None:
    """Passive domains were woken for refreshes, and slept otherwise."""
    assert {name for name, role in report["roles"].items() if role == "active"} == ACTIVE
    assert {name for name, role in report["roles"].items() if role == "passive"} == PASSIVE
    assert set(report["refreshes"]) == {"s0", "s1"}
    assert all(count >= 1 for count in report["refreshes"].values())
    cpu_s = report["cpu_seconds"]
    assert set(cpu_s) == ACTIVE | PASSIVE | {"manager 0", "manager 1"}
    assert all(seconds > 0 for seconds in cpu_s.values())
    share = sum(cpu_s[name] for name in PASSIVE) / sum(cpu_s[name] for name in ACTIVE)
    assert share < PASSIVE_CPU_SHARE_MAX
    assert report["passive_cpu_share"] == pytest.approx(share, abs=0.001)
    assert report["window_s"] >= report["settings"]["session_s"] / 2
    assert set(report["suspended_seconds"]) == PASSIVE
    for name, seconds in report["suspended_seconds"].items():
        assert report["window_s"] / 2 < seconds <= report["window_s"] + 1, name


def _require_provenance(report: Report) -> None:
    assert re.fullmatch(r"[0-9a-f]{12}\+?|unknown", report["commit"])
    assert report["command"]
    for loads in (report["load_average"], report["load_average_after"]):
        assert len(loads) == 3
        assert all(load >= 0 for load in loads)


def _traces_without_demo(directory: Path) -> Traces:
    return machine_traces(str(directory), CELL_NAME)


def _demo_that_boots(directory: Path, log: Path, command: "subprocess.Popen[str]") -> OperatedCell:
    """Wait until the first machine of each server of a demo boots; return its cell."""
    file = directory / "cell.toml"
    until(lambda: file.exists() or command.poll() is not None, "the demo writes its cell's file", BOOT_PATIENCE_S)
    assert command.poll() is None, log.read_text()
    cell = OperatedCell(file)
    until(lambda: len(cell.machines()) >= 2 or command.poll() is not None, "the machines run", BOOT_PATIENCE_S)
    assert command.poll() is None, log.read_text()
    assert len(cell.members()) == 3
    return cell


def _words(directory: Path, catalog: Catalog) -> tuple[str, ...]:
    return ("demo", "--directory", str(directory), "--images", str(catalog.directory), "--cell-name", CELL_NAME)


def test_ctrl_c_in_a_demo_leaves_nothing(directory: Path, catalog: Catalog, rubis_image: Image) -> None:
    """The command ends what it started and says so; nothing of its cell is on the machine."""
    place, log = directory / "interrupted", directory / "interrupted.log"
    before = _traces_without_demo(place)
    with start_spare(log, *_words(place, catalog)) as command:
        cell = _demo_that_boots(place, log, command)
        assert rubis_image.image_id in log.read_text()
        press_ctrl_c(command)
        assert command.wait(BOOT_PATIENCE_S) == 130, log.read_text()
    assert "ending what was started" in log.read_text()
    assert "Traceback" not in log.read_text()
    require_nothing_left(cell, before)


def test_after_kill_9_of_a_whole_demo_down_leaves_nothing(
    directory: Path, catalog: Catalog, rubis_image: Image
) -> None:
    """Nobody is left to tidy up: `spare cell down` with the demo's file finds all of it."""
    place, log = directory / "killed", directory / "killed.log"
    before = _traces_without_demo(place)
    with start_spare(log, *_words(place, catalog)) as command:
        cell = _demo_that_boots(place, log, command)
        assert rubis_image.image_id in log.read_text()
        command.send_signal(signal.SIGKILL)
        assert command.wait(BOOT_PATIENCE_S) == -signal.SIGKILL
        assert len(cell.kill_everything()) >= 5
    assert {"namespaces", "mounts"} <= set(left_behind(before, traces_of(cell)))
    cell.spare("cell", "down")
    require_nothing_left(cell, before)
