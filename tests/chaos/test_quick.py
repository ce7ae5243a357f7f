"""`spare chaos quick` on a real cell of child processes: every kind of fault that needs no machine, under load.

The whole schedule runs in the suite, as an operator runs it.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.processes import find_processes
from replica_manager.network import namespaces

pytestmark = [pytest.mark.netns, pytest.mark.disk, pytest.mark.slow, pytest.mark.timeout(900)]

KINDS = 17
PATIENCE_S = 120.0


def chaos(directory: Path, file: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    command = [sys.executable, "-P", "-m", "replica_manager", "chaos", file, "--directory", str(directory), *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def report_in(directory: Path) -> dict[str, Any]:
    """Return the report of the last run."""
    document: dict[str, Any] = json.loads((directory / "report.json").read_text())
    return document


def test_every_kind_of_fault_is_borne_and_proven_by_events(tmp_path: Path) -> None:
    """Nothing fails, nothing is lost or doubled, nobody is convicted wrongly, states are equal."""
    done = chaos(tmp_path, "quick", "-o", "json")
    assert done.returncode == 0, done.stderr[-8000:]
    document = report_in(tmp_path)
    assert json.loads(done.stdout)["problems"] == document["problems"] == []
    assert len({fault["kind"] for fault in document["faults"]}) == KINDS
    assert document["linearizable"] is True
    assert sum(document["throughput_rps"]) == document["requests"] - document["failed_requests"]
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    events = {json.loads(line)["name"] for line in lines}
    assert all(set(fault["evidence"]) <= events for fault in document["faults"])
    assert not [name for name in namespaces.names() if "chaos-quick" in name]


def test_a_schedule_with_mistakes_starts_nothing(tmp_path: Path) -> None:
    """Exit code 2, a line per mistake, nothing written."""
    file = tmp_path / "wrong.toml"
    file.write_text('[cell]\nservice = "key-value"\n[load]\nclients = 2\n[[step]]\nfault = [{ kind = "hang" }]\n')
    done = chaos(tmp_path / "out", str(file))
    assert done.returncode == 2
    assert f"{file}:6: error: step[0].fault[0].target" in done.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """No process, no namespace, no mount; the exit code says why."""
    command = [sys.executable, "-P", "-m", "replica_manager", "chaos", "quick", "--directory", str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert any("shown by" in line for line in lines)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == ExitCode.INTERRUPTED, rest
    assert not [name for name in namespaces.names() if "chaos-quick" in name]
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not list(find_processes(lambda proc: str(tmp_path).encode() in (proc / "cmdline").read_bytes()))
