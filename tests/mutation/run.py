"""A run: every mutant without a result is tried by the fast tests that reach it, and then by the simulator."""

import fcntl
import hashlib
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import ROOT, Mutant, mutants_of, target_modules
from tests.mutation.reach import Reach
from tests.mutation.results import Fate, Result, ResultLog
from tests.mutation.sandbox import Interrupted, Sandbox

SEEDS = 50
START_S = 10
"""CPU time that a trial may take beyond its tests, for start-up."""
PATIENCE = 5
"""How many times longer than without a mutant tests may take."""
SEED_S = 0.2
"""One seed without a mutant, generously."""


@dataclass(frozen=True)
class RunSettings:
    """How far to go."""

    hours: float
    jobs: int
    sample: int
    """Try so many mutants, drawn at random, the same ones every time; 0: all."""
    modules: Sequence[str]
    """Only these; empty: all."""


def all_mutants(root: Path, modules: Sequence[str]) -> list[Mutant]:
    """Return the mutants of the modules (default: all targets), in an order that any part of represents the whole."""
    chosen = modules or target_modules(root)
    mutants = [mutant for module in chosen for mutant in mutants_of(module, (root / module).read_text())]
    random.Random(0).shuffle(mutants)
    return mutants


def digest_of_tests(root: Path) -> str:
    """Return a digest of all tests and of the code that is mutated."""
    found = hashlib.sha256()
    for path in sorted([*root.glob("tests/**/*.py"), *(root / module for module in target_modules(root))]):
        found.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()[:16]


class Run:
    """One run with its sandboxes."""

    def __init__(self, directory: Path, settings: RunSettings, log: ResultLog, tests: str) -> None:
        """Make the copies."""
        self._directory = directory
        self._settings = settings
        self._log = log
        self._tests = tests
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + 3600 * settings.hours
        self._sandboxes = [Sandbox(ROOT, directory / f"tree-{number}") for number in range(settings.jobs)]
        self._failure: BaseException | None = None
        self.tried = 0

    def reach(self) -> Reach:
        """Return which test calls what, measured once per state of the tests."""
        path = self._directory / f"reach-{self._tests}.json"
        if not path.exists():
            _say("running the fast tests once to see what each of them calls …")
            self._sandboxes[0].measure_reach(target_modules(ROOT), path)
        reach = Reach.read(path)
        for name in reach.failed:
            _say(f"left out, since it fails without any mutant: {name}")
        return reach

    def go(self, mutants: Sequence[Mutant]) -> None:
        """Try mutants until none is left or the time is over.

        Raises:
            KeyboardInterrupt: what was found so far is kept.
            TrialBroken: a trial could not be held.
        """
        reach = self.reach()
        todo = iter(mutants)
        workers = [threading.Thread(target=self._work, args=(box, todo, reach)) for box in self._sandboxes]
        for worker in workers:
            worker.start()
        try:
            self._watch(workers, len(mutants))
        finally:
            for sandbox in self._sandboxes:
                sandbox.end()
            for worker in workers:
                worker.join()
        if self._failure is not None:
            raise self._failure

    def _watch(self, workers: Sequence[threading.Thread], count: int) -> None:
        said = 0
        while any(worker.is_alive() for worker in workers) and self._failure is None:
            workers[0].join(0.5)
            workers[-1].join(0.5)
            if self.tried >= said + 10:
                said = self.tried
                _say(f"{said} of {count} mutants tried")

    def _work(self, sandbox: Sandbox, todo: Iterator[Mutant], reach: Reach) -> None:
        try:
            while time.monotonic() < self._deadline:
                with self._lock:
                    mutant = next(todo, None)
                if mutant is None:
                    return
                result = self._try(sandbox, mutant, reach)
                with self._lock:
                    self._log.add(result)
                    self.tried += 1
        except Interrupted:
            return
        except BaseException as failure:  # noqa: BLE001  # handed to the thread that waits
            self._failure = failure

    def _try(self, sandbox: Sandbox, mutant: Mutant, reach: Reach) -> Result:
        sandbox.plant(mutant)
        try:
            return self._tried(sandbox, mutant, reach)
        finally:
            sandbox.heal(mutant.module)

    def _tried(self, sandbox: Sandbox, mutant: Mutant, reach: Reach) -> Result:
        """Try the planted mutant: tests, then the simulator."""
        seconds, killed_by, fate = 0.0, None, Fate.TESTS
        tests = reach.tests_for(mutant)
        if tests:
            limit_s = START_S + round(PATIENCE * sum(test.seconds for test in tests))
            trial = sandbox.try_tests(mutant, [test.name for test in tests], limit_s)
            seconds, killed_by = trial.seconds, trial.killed_by
        if killed_by is None:
            trial = sandbox.try_simulation(mutant, SEEDS, START_S + round(PATIENCE * SEEDS * SEED_S))
            seconds, killed_by = seconds + trial.seconds, trial.killed_by
            fate = Fate.SURVIVED if killed_by is None else Fate.SIMULATION
        return Result(
            name=mutant.name,
            fingerprint=mutant.fingerprint,
            tests=self._tests,
            fate=fate,
            killed_by=killed_by or "",
            seconds=round(seconds, 2),
            is_called=reach.is_called(mutant),
        )


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep a second run out of the directory.

    Raises:
        BlockingIOError: there is one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
