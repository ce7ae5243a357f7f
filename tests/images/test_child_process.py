"""Programs of a build: their output becomes progress and errors, and nothing of them outlives the builder."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from images.child_process import run
from images.errors import BuildFailed, DiskFull
from images.progress import BuildProgress, open_progress

pytestmark = pytest.mark.slow
TIMEOUT_S = 60.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def _run(script: str, log: Path) -> list[BuildProgress]:
    reports: list[BuildProgress] = []
    progress = open_progress("shop", 1, reports.append)
    with progress.step("work"):
        run(["sh", "-c", script], progress, log, ENVIRONMENT)
    return reports


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def _is_running(mark: str) -> bool:
    """Whether any process of this machine has `mark` in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


def test_a_programs_lines_are_the_details_of_its_step(tmp_path: Path) -> None:
    """And the log has all of them."""
    reports = _run("echo 'I: unpacking'; sleep 1.2; echo 'I: packing'", tmp_path / "log")

    assert "unpacking" in {report.detail for report in reports} | {""}
    assert any(report.phase == "running" for report in reports)
    assert (tmp_path / "log").read_text().endswith("I: unpacking\nI: packing\n")


def test_a_failure_tells_the_reason_that_the_program_gave(tmp_path: Path) -> None:
    """Not just that something went wrong: its own words, the exit code, where all output is."""
    with pytest.raises(BuildFailed, match="sh failed with exit code 3: E: no such package") as caught:
        _run("echo I: looking; echo E: no such package >&2; echo I: cleaning up; exit 3", tmp_path / "log")

    assert str(tmp_path / "log") in caught.value.hint
    assert caught.value.output[-1] == "I: cleaning up"


def test_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    """It is not the recipe's fault."""
    with pytest.raises(DiskFull, match="disk space"):
        _run("echo 'tar: ./x: Cannot write: No space left on device' >&2; exit 2", tmp_path / "log")


def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """A database that a step forgot to stop, for instance."""
    mark = f"sleep 86{time.monotonic_ns() % 10**9}.5"
    _run(f"setsid {mark} > /dev/null 2>&1 & sleep 0.2", tmp_path / "log")

    _wait_for(lambda: not _is_running(mark.replace(" ", "\0")))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_programs_end_with_the_builder(tmp_path: Path, ending: signal.Signals) -> None:
    """However the builder ends: by Ctrl-C, by a service manager, or at once."""
    seconds = f"87{time.monotonic_ns() % 10**9}.5"
    mark = f"sleep\0{seconds}"
    builder_code = (
        "import sys; from pathlib import Path; from images.child_process import run;"
        " from images.progress import open_progress;"
        " run(['sh', '-c', sys.argv[1]], open_progress('shop', 1, print), Path(sys.argv[2]), {'PATH': '/usr/bin:/bin'})"
    )
    script = f"setsid sleep {seconds} & sleep {seconds}"
    builder = subprocess.Popen(
        [sys.executable, "-c", builder_code, script, str(tmp_path / "log")], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(lambda: _is_running(mark))
        builder.send_signal(ending)
        builder.wait(TIMEOUT_S)
        _wait_for(lambda: not _is_running(mark))
    finally:
        builder.kill()
        builder.wait()
