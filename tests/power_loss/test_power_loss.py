"""The short form of `make power-loss`: a cell of child processes loses its power."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.environment import PROJECT
from tests.power_loss.rounds import moment_of

pytestmark = [pytest.mark.disk, pytest.mark.slow, pytest.mark.timeout(600)]

LONGEST_S = 500.0
LOST_ROUNDS = 2
"""One lost token is enough; the kernel may have written everything just before the cut, once."""


def _play(directory: Path, *words: str) -> tuple[int, list[dict[str, object]]]:
    """Run the command; return its exit code and the rows of its report."""
    command = [
        sys.executable,
        "-m",
        "tests.power_loss",
        "--driver",
        "subprocess",
        "--directory",
        str(directory),
        *words,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONGEST_S, cwd=PROJECT)
    assert (directory / "report.json").exists(), done.stderr
    rows: list[dict[str, object]] = json.loads((directory / "report.json").read_text())["rounds"]
    assert rows, done.stderr
    return done.returncode, rows


def test_nothing_acknowledged_is_lost_in_power_cuts(tmp_path: Path) -> None:
    """Once under load, once more while the cell comes back."""
    assert [moment_of(number) for number in (1, 2)] == ["load", "twice"]
    code, rows = _play(tmp_path, "--rounds", "2", "--seed", "5")
    assert (code, len(rows)) == (0, 2), rows
    assert all(row["is_right"] for row in rows)


def test_a_log_that_is_never_synced_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """Which shows that losses would be found."""
    code, rows = _play(tmp_path, "--rounds", str(LOST_ROUNDS), "--seed", "5", "--durability", "none")
    assert code == 0
    assert any(row["lost"] for row in rows)
