"""The command: goes on where it ended, says where all stand, and leaves nothing running."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mutation.mutants import ROOT, mutants_of
from tests.mutation.run import alone, digest_of_tests

pytestmark = pytest.mark.slow

MODULE = "agreement/quorum.py"
PATIENCE_S = 300.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory in which is known already what the tests of quorums call."""
    mutants = mutants_of(MODULE, (ROOT / MODULE).read_text())
    functions = sorted({f"{MODULE}:{mutant.scope}" for mutant in mutants})
    reach = {"failed": [], "tests": {"tests/agreement/test_quorum.py": {"seconds": 0.5, "functions": functions}}}
    (tmp_path / f"reach-{digest_of_tests(ROOT)}.json").write_text(json.dumps(reach))
    return tmp_path


def command(directory: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "tests.mutation", MODULE, "--directory", str(directory), *options]


def results(directory: Path) -> list[str]:
    path = directory / "results.jsonl"
    return [json.loads(line)["name"] for line in path.read_text().splitlines()] if path.exists() else []


def test_a_second_run_tries_what_the_first_one_did_not(directory: Path) -> None:
    """Exit code 2: some are left to try."""
    for count in (3, 6):
        run = subprocess.run(command(directory, "--sample", "3"), capture_output=True, text=True, timeout=PATIENCE_S)
        assert run.returncode in (1, 2), run.stderr
        assert len(set(results(directory))) == count
        assert "more take about" in run.stdout
    assert f"| {MODULE} |" in (directory / "summary.md").read_text()


def test_an_interrupted_run_keeps_its_results_and_leaves_no_process(directory: Path) -> None:
    child = subprocess.Popen(command(directory), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE_S
    while not results(directory):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130, said
    assert b"goes on from here" in said
    assert b"Traceback" not in said
    assert results(directory)
    assert not processes_in(directory)


def processes_in(directory: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd").startswith(str(directory)):
                found.append(int(process.name))
        except OSError:
            continue  # it has just ended
    return found


def test_two_runs_do_not_share_a_directory(directory: Path) -> None:
    with alone(directory):
        run = subprocess.run(command(directory), capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 1
    assert "another run is at work" in run.stderr
