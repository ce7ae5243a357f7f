"""The report of `spare bench faults`: bars, tables, pictures."""

from pathlib import Path
from typing import Any

from benchmarks.fault_benchmark import bars, summary_lines, time_left_s
from benchmarks.fault_cell import CellPlan, Driver, cell_text
from benchmarks.fault_plots import latency_lines, plot_report
from benchmarks.fault_service import SERVICES
from replica_manager.config_check import load

DRIVERS: tuple[Driver, ...] = ("subprocess", "libvirt")


def row(
    median_ms: float | None, size: int = 100, mode: str = "suspended", service: str = "key-value"
) -> dict[str, Any]:
    """Return a point with one sample."""
    samples = [] if median_ms is None else [{"is_worst_case": True, "timeline": {"latency_ms": median_ms}}]
    return {
        "service": service,
        "fault": "lie",
        "updates_max": size,
        "passive_mode": mode,
        "median_ms": median_ms,
        "p90_ms": median_ms,
        "milestones_ms": {"round": 3.0},
        "all_samples": samples,
    }


def throughput(recovered_ms: int | None) -> dict[str, Any]:
    """Return a run at half load."""
    run = {"load": "half", "before_rps": 100.0, "first_second_share": 0.9, "recovered_ms": recovered_ms}
    run |= {"failed_requests": 0, "per_second": [(-1, 100), (0, 90), (1, 100)]}
    return {"saturation_rps": 200.0, "load_rps": 100.0, "runs": [run]}


def document() -> dict[str, Any]:
    """Return a report with everything in it."""
    outage = {"outage": "killed", "server": 0, "without_service_ms": 1.0, "longest_latency_ms": 2.0}
    return {
        "latency": [row(50.0), row(70.0, 200), row(500.0, service="rubis"), row(30.0, mode="running")],
        "throughput": throughput(0),
        "outages": [{**outage, "failed_requests": 0}, {"outage": "cut", "void": "not in time"}],
    }


def test_a_bar_is_met_by_the_median_at_batch_100_of_the_key_value_store_alone() -> None:
    found = bars({"latency": [row(60.0), row(900.0, 200), row(900.0, service="rubis"), row(41.0, mode="running")]})
    assert [(bar["bar"], bar["is_met"]) for bar in found] == [(60.0, True), (40.0, False)]


def test_a_point_without_samples_meets_no_bar_and_misses_none() -> None:
    assert bars({"latency": [row(None)]}) == []


def test_throughput_that_never_comes_back_misses_its_bar() -> None:
    assert [bar["is_met"] for bar in bars({"latency": [], "throughput": throughput(None)})] == [False]
    assert [bar["is_met"] for bar in bars({"latency": [], "throughput": throughput(900)})] == [True]


def test_time_left_follows_the_steps_so_far() -> None:
    assert time_left_s(1, 4, 10.0) == 30.0
    assert time_left_s(4, 4, 10.0) == 0.0


def test_the_summary_has_a_line_for_everything_that_was_measured() -> None:
    text = "\n".join(summary_lines({**document(), "bars": bars(document())}))
    for words in (
        "key-value  lie   suspended    100     50.0",
        "saturation 200/s",
        "killed  server 0",
        "not measured: not in time",
    ):
        assert words in text
    assert "reached: lie, batch 100, suspended" in text


def test_each_series_is_a_line_of_the_picture() -> None:
    lines = latency_lines(
        [*(row(ms, size) for ms, size in ((50.0, 100), (70.0, 200), (None, 300))), row(9.0, mode="running")]
    )
    title = "an active domain lies, passive domains suspended"
    assert [size for size, _, _ in lines[title]] == [100, 200]
    assert len(lines) == 2


def test_the_pictures_are_written_beside_the_report(tmp_path: Path) -> None:
    files = plot_report(document(), tmp_path)
    assert [file.name for file in files] == ["latency.png", "throughput.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def _rubis_plan(directory: Path) -> CellPlan:
    rubis = SERVICES["rubis"]
    return CellPlan(directory, directory, "libvirt", 300, "running", image=rubis.image, settings=rubis.settings)


def test_the_file_of_either_kind_of_cell_has_no_mistake(tmp_path: Path) -> None:
    plans = [CellPlan(tmp_path, tmp_path, driver, 300, "running") for driver in DRIVERS]
    for plan in (*plans, _rubis_plan(tmp_path)):
        (tmp_path / "cell.toml").write_text(cell_text(plan))
        config = load(tmp_path / "cell.toml")
        assert (config.updates.refresh_updates_max, config.cell.passive_mode) == (300, "running")
