"""Which fast test calls which function: measured by running them all once, never written down by hand.

As a pytest plugin (`-p tests.mutation.reach`) it writes what it saw to the file that `REACH_FILE` names.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from tests.mutation.mutants import MODULE_LEVEL, ROOT, Mutant

FILE_VARIABLE = "REACH_FILE"
TESTS_SECONDS_MAX = 20.0
"""Tests that are tried on one mutant, cheapest first: what these do not notice the simulator may."""


class Recorder:
    """Notes every function that is called during a test, in every thread of this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: set[CodeType] = set()
        self._tests: dict[str, dict[str, Any]] = {}
        self._failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Watch one test with its fixtures."""
        self._seen = set()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            self._tests.setdefault(item.nodeid, {"seconds": 0.0})["functions"] = sorted(self._functions())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up set-up, call and tear-down."""
        self._tests.setdefault(report.nodeid, {"seconds": 0.0})["seconds"] += report.duration
        if report.failed:
            self._failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write what was seen."""
        self._path.write_text(json.dumps({"failed": self._failed, "tests": self._tests}))

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self._seen.add(frame.f_code)

    def _functions(self) -> Iterator[str]:
        prefix = f"{ROOT}/"
        for code in self._seen:
            if code.co_filename.startswith(prefix) and "/tests/" not in code.co_filename:
                yield f"{code.co_filename.removeprefix(prefix)}:{code.co_qualname.partition('.<locals>')[0]}"


def pytest_configure(config: pytest.Config) -> None:
    """Register."""
    path = os.environ.get(FILE_VARIABLE)
    if path:
        config.pluginmanager.register(Recorder(Path(path)), "reach-recorder")


@dataclass(frozen=True)
class ReachedTest:
    """A test of which is known what it calls."""

    name: str
    """pytest's node id."""
    seconds: float
    functions: frozenset[str]


class Reach:
    """What all fast tests call."""

    def __init__(self, tests: list[ReachedTest], failed: Sequence[str] = ()) -> None:
        self.failed = failed
        """Tests that fail without any mutant."""
        self._tests = sorted(tests, key=lambda test: (test.seconds, test.name))

    @classmethod
    def read(cls, path: Path) -> "Reach":
        """Read what a recorder wrote.  A test that fails without any mutant tells nothing and is left out."""
        document = json.loads(path.read_text())
        failed = set(document["failed"])
        tests = [
            ReachedTest(name, test["seconds"], frozenset(test["functions"]))
            for name, test in document["tests"].items()
            if test.get("functions") and name not in failed
        ]
        return cls(tests, sorted(failed))

    def tests_for(self, mutant: Mutant) -> list[ReachedTest]:
        """Return the tests that call the mutant's function, cheapest first, up to `TESTS_SECONDS_MAX`.

        What stands outside functions, or in one that nobody calls, is tried with whatever calls the module, and
        else its room.
        """
        found = [test for test in self._tests if _function(mutant) in test.functions]
        for prefix in (f"{mutant.module}:", mutant.module.rpartition("/")[0] + "/"):
            found = found or [test for test in self._tests if any(one.startswith(prefix) for one in test.functions)]
        return _within(found, TESTS_SECONDS_MAX)

    def is_called(self, mutant: Mutant) -> bool:
        """Whether a test calls the mutant's function; what stands outside functions counts as called."""
        is_outside = mutant.scope.startswith(MODULE_LEVEL)
        return is_outside or any(_function(mutant) in test.functions for test in self._tests)


def _function(mutant: Mutant) -> str:
    return f"{mutant.module}:{mutant.scope}"


def _within(tests: list[ReachedTest], seconds_max: float) -> list[ReachedTest]:
    chosen: list[ReachedTest] = []
    seconds = 0.0
    for test in tests:
        seconds += test.seconds
        if chosen and seconds > seconds_max:
            break
        chosen.append(test)
    return chosen
