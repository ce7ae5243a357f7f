"""Copies of the tree, and trials in them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.imports import reaching_files
from tests.mutation.mutants import Mutant
from tests.mutation.reach import FILE_VARIABLE

_LEFT_OUT = (".git", ".venv", "var", "*_cache", ".hypothesis", "__pycache__", "*.egg-info")
_NOT_TRIED = ("tests/simulation/", "tests/mutation/", "tests/fuzz/")
"""The simulator has a turn of its own; random bytes hardly reach a core."""
WAITING_MAX = 10
"""A trial that takes so many times its CPU time is waiting for something that does not come."""
FAST_MARKERS = "not vm and not netns and not db and not browser and not slow"


class Interrupted(Exception):
    """Raised in a worker when the run was told to end; the trial under way has no result."""


class TrialBroken(Exception):
    """Raised when a trial ended without a result: a mistake of ours, not of a mutant's tests."""


@dataclass(frozen=True)
class TrialResult:
    """What came of one trial."""

    killed_by: str | None
    """The test or seed that noticed; `None`: nobody."""
    seconds: float


class Sandbox:
    """One copy of the tree, in which one mutant at a time lives."""

    def __init__(self, root: Path, directory: Path) -> None:
        """Copy `root` to `directory`, whatever was there before."""
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(root, directory, ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=True)
        self._root = root
        self._directory = directory
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_ended = False

    def plant(self, mutant: Mutant) -> None:
        """Put a mutant in the place of its module."""
        self._write(mutant.module, mutant.source)

    def heal(self, module: str) -> None:
        """Put the original back."""
        self._write(module, (self._root / module).read_text())

    def _write(self, module: str, source: str) -> None:
        path = self._directory / module
        path.write_text(source)
        # Python compares a compiled module with its source by size and second: two mutants may agree in both.
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    # -- trials ------------------------------------------------------------------------------------------------

    def measure_reach(self, modules: Sequence[str], path: Path) -> None:
        """Run once the fast tests that import a module, and write to `path` what they call.

        Raises:
            TrialBroken: they did not even run.
        """
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
        command += ["-p", "tests.mutation.reach", "-m", FAST_MARKERS]
        command += [file for file in reaching_files(self._directory, modules) if not file.startswith(_NOT_TRIED)]
        measured = self._directory / "reach.json"
        log, _ = self._run(command, 1800.0, {FILE_VARIABLE: str(measured)}, is_compiling=True)
        if not measured.exists():
            raise TrialBroken(f"the fast tests did not run; see {log}")
        for module in modules:
            self.heal(module)
        shutil.move(measured, path)

    def try_tests(self, mutant: Mutant, tests: Sequence[str], cpu_s: int) -> TrialResult:
        """Run tests on the planted mutant, for at most `cpu_s` of CPU time: a busy machine kills no mutants."""
        names = self._directory / "trial-tests"
        names.write_text("\n".join(tests))
        return self._trial(mutant, ["tests", str(names)], cpu_s)

    def try_simulation(self, mutant: Mutant, seeds: int, cpu_s: int) -> TrialResult:
        """Run seeds of the cell simulator on the planted mutant."""
        return self._trial(mutant, ["simulation", str(seeds)], cpu_s)

    def _trial(self, mutant: Mutant, arguments: list[str], cpu_s: int) -> TrialResult:
        result = self._directory / "trial-result"
        result.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.mutation.trial", mutant.module, str(result), str(cpu_s), *arguments]
        started = time.monotonic()
        try:
            log, code = self._run(command, float(WAITING_MAX * cpu_s), {})
        except subprocess.TimeoutExpired:
            return TrialResult(f"waits for more than {WAITING_MAX * cpu_s} s", time.monotonic() - started)
        seconds = time.monotonic() - started
        if code == -signal.SIGXCPU:
            return TrialResult(f"no end within {cpu_s} s of CPU time", seconds)
        try:
            return TrialResult(json.loads(result.read_text())["killed_by"], seconds)
        except (OSError, ValueError) as error:
            if "MemoryError" in log.read_text(errors="replace"):
                return TrialResult("memory without end", seconds)
            raise TrialBroken(f"{mutant.name}: no result; see {log}") from error

    def _run(
        self, command: list[str], timeout_s: float, variables: dict[str, str], is_compiling: bool = False
    ) -> tuple[Path, int]:
        """Run a child to its end; return the file with its output, and its exit code."""
        log = self._directory.with_suffix(".log")
        # Hypothesis draws the same examples for every mutant, and sets have the same order.
        environment = os.environ | {"CI": "1", "PYTHONHASHSEED": "0"} | variables
        if not is_compiling:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        with log.open("wb") as output, self._lock:
            if self._is_ended:
                raise Interrupted
            child = subprocess.Popen(
                command,
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._child = child
        try:
            code = child.wait(timeout_s)
        finally:
            _end(child)
        if self._is_ended:
            raise Interrupted
        return log, code

    def end(self) -> None:
        """End whatever runs, from another thread; nothing starts here any more."""
        with self._lock:
            self._is_ended = True
            if self._child is not None:
                _end(self._child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a child and everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
