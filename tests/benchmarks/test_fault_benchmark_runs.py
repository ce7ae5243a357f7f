"""`spare bench faults` on a cell of child processes: what it measures, and that nothing is left."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from replica_manager.cell_paths import CellPaths
from replica_manager.config_check import load
from replica_manager.control.cell_network import LoopbackNetwork
from replica_manager.control.cli.root import spare
from replica_manager.control.leftovers import has_leftovers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_short_run_measures_a_lie_and_a_crash_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Every sample is the worst case: the helper lagged by `U_max - 1` updates, and applied them first."""
    words = ["bench", "faults", "--driver", "subprocess", "--quick", "--size", "10", "--directory", str(tmp_path)]
    done = CliRunner().invoke(spare, [*words, "--fault", "lie", "--part", "latency", "--part", "throughput"])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"commit", "command", "load_average", "load_average_after", "steal_percent"} <= report.keys()
    assert [row["fault"] for row in report["latency"]] == ["lie"]
    for row in report["latency"]:
        worst = [sample for sample in row["all_samples"] if sample["is_worst_case"]]
        assert row["samples"] == len(worst) >= 1, row
        assert all(sample["waiting_updates"] == 9 for sample in worst)
        assert all(sample["timeline"]["applied_updates"] == 9 for sample in worst)
        assert row["median_ms"] == pytest.approx(row["milestones_ms"]["answered"])
    assert report["throughput"]["load_rps"] == pytest.approx(report["throughput"]["saturation_rps"] / 2, abs=0.1)
    assert all(run["failed_requests"] == 0 for run in report["throughput"]["runs"])
    assert {file.name for file in tmp_path.glob("*.png")} == {"latency.png", "throughput.png"}
    assert not has_leftovers(CellPaths.of(load(tmp_path / "cell.toml")), LoopbackNetwork())
