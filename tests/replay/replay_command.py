"""`python -m benchmarks.replay` in a process of its own, as an operator runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PATIENCE_S = 900.0
"""For what takes a minute on an idle machine."""


class ReplayCommand:
    """A replay under way."""

    def __init__(self, recording: Path, report: Path, *options: str) -> None:
        """Start it; it writes `report`."""
        self._report = report
        command = [sys.executable, "-m", "benchmarks.replay", str(recording), "--report", str(report), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def result(self) -> dict[str, Any]:
        """Wait for its end; return its report, which is one of equality."""
        output, _ = self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0, output
        report: dict[str, Any] = json.loads(self._report.read_text())
        assert report["is_equal"], output
        return report

    def close(self) -> None:
        """End it, if a test gave up."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.communicate()
