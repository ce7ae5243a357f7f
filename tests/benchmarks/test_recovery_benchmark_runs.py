"""`spare bench recovery` on cells of child processes: what it measures, and that nothing is left."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.recovery_phases import PHASES
from replica_manager.cell_paths import CellPaths
from replica_manager.config_check import load
from replica_manager.control.cell_network import LoopbackNetwork
from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.root import spare
from replica_manager.control.leftovers import has_leftovers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
WORDS = ["bench", "recovery", "--driver", "subprocess"]


def bench(directory: Path, *words: str) -> dict[str, Any]:
    """Run the command; return its report."""
    done = CliRunner().invoke(spare, [*WORDS, "--directory", str(directory), *words])
    assert done.exit_code == 0, done.output
    assert not has_leftovers(CellPaths.of(load(directory / "cell.toml")), LoopbackNetwork())
    report: dict[str, Any] = json.loads((directory / "report.json").read_text())
    assert {"commit", "command", "load_average", "load_average_after", "steal_percent"} <= report.keys()
    assert all(bar["is_met"] for bar in report["bars"])
    assert all(f"reached: {bar['sentence']}" in done.output for bar in report["bars"])
    return report


@pytest.mark.db
def test_two_recoveries_under_load_renew_every_domain_and_no_request_fails(tmp_path: Path) -> None:
    """At half of the saturation throughput, and then one more at saturation."""
    found = bench(
        tmp_path, "--part", "load", "--recoveries", "2", "--interval-s", "3", "--saturation-s", "3", "--users", "8"
    )["load"]
    assert found["load_rps"] == pytest.approx(found["saturation_rps"] / 2, abs=0.1)
    assert found["half"]["failed_requests"] == 0 < found["half"]["requests"]
    first, second = found["half"]["recoveries"]
    assert second["began_us"] - first["ended_us"] >= 3_000_000
    for row in (first, second, *found["saturated"]["recoveries"]):
        assert tuple(row["phases_s"]) == PHASES
        assert sum(row["phases_s"].values()) == pytest.approx(row["duration_s"], abs=0.01)
        assert row["throughput_ratio"] > 0
        assert row["slowest_reply_ms"] >= row["latency_ms"]["p50"] > 0
        assert [one["server"] for one in row["servers"]] == [0, 1]
    assert found["served_at_start"] == ["s0.g1", "s0.g2", "s1.g1", "s1.g2"]
    assert not set(found["checkpoint"]["digests"]) & set(found["served_at_start"])
    assert {file.name for file in tmp_path.glob("*.png")} == {"recoveries.png", "recovery.png", "saturated.png"}


def test_a_recovery_with_many_values_tells_its_phases_and_the_managers_memory(tmp_path: Path) -> None:
    found = bench(tmp_path, "--part", "large-state", "--values", "1000")["large_state"]
    assert found["state_bytes"] == 1000 * 4096
    assert tuple(found["phases_s"]) == PHASES
    for server in ("manager 0", "manager 1"):
        assert found["manager_peak_bytes"][server] >= found["manager_peak_bytes_when_filled"][server] > 10_000_000


def test_after_ctrl_c_nothing_is_left(tmp_path: Path) -> None:
    """In the middle of writing more values than anybody has time for."""
    words = [sys.executable, "-P", "-m", "replica_manager", *WORDS, "--directory", str(tmp_path)]
    with subprocess.Popen(
        [*words, "--part", "large-state", "--values", "1000000"], stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        assert any("of 1000000 values" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.INTERRUPTED, complaints
    config = load(tmp_path / "cell.toml")
    assert not has_leftovers(CellPaths.of(config), LoopbackNetwork())
    assert not Path(config.cell.state_dir).exists()
