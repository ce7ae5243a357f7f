"""Many seeds on several processors, resumable: what was done is in a file, and the same command goes on there.

A changed tree starts anew, for its seeds are other runs.
"""

import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tests.simulation.cell.named_events import LEAST_SHARE, NAMED_EVENTS
from tests.simulation.cell.run import run_seed

ROOT = Path(__file__).parents[2]
SOURCES = ("agreement", "exec_wrapper", "replica_manager", "tests/simulation")
"""What a run depends on."""
SAVE_S = 2.0
FAILURES_KEPT = 100
CHUNK = 5
"""Seeds handed to a process at a time."""


class SeedResult(NamedTuple):
    """What became of one seed."""

    seed: int
    events: list[str]
    cpu_ms: float
    failure: str
    """Empty: none."""


@dataclass(slots=True)
class Progress:
    """What was done so far."""

    tree: str
    first: int
    done: int = 0
    """Seeds from `first` on that were run."""
    events: dict[str, int] = field(default_factory=dict)
    """Event → number of seeds in which it occurred."""
    cpu_ms: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    failure_count: int = 0

    def add(self, result: SeedResult) -> None:
        """Take in the next seed."""
        assert result.seed == self.first + self.done, "seeds are counted in order"
        self.done += 1
        counted = Counter(self.events)
        counted.update(result.events)
        self.events = dict(counted)
        self.cpu_ms.append(round(result.cpu_ms))
        if result.failure:
            self.failure_count += 1
            self.failures = [*self.failures, result.failure][:FAILURES_KEPT]

    @property
    def median_cpu_ms(self) -> int:
        """CPU time of a seed in the middle."""
        return sorted(self.cpu_ms)[len(self.cpu_ms) // 2] if self.cpu_ms else 0

    def rare_events(self) -> list[str]:
        """Return the named events that occurred in too few seeds."""
        least = LEAST_SHARE * self.done
        return [name for name in NAMED_EVENTS if self.events.get(name, 0) < least]


def tree_digest(root: Path = ROOT) -> str:
    """Return a digest of all sources that a run depends on."""
    digest = sha256()
    for source in SOURCES:
        for path in sorted((root / source).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def load(path: Path, tree: str, first: int) -> Progress:
    """Return what was done for this tree from this seed on; nothing, if that was another one."""
    try:
        progress = Progress(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return Progress(tree, first)
    return progress if (progress.tree, progress.first) == (tree, first) else Progress(tree, first)


def save(path: Path, progress: Progress) -> None:
    """Write it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(progress)))
    unfinished.replace(path)


def run_one(seed: int) -> SeedResult:
    """Run one seed; a failure is part of the result, so that it does not hide the others'."""
    started_s = time.process_time()
    events: list[str] = []
    failure = ""
    try:
        events = list(run_seed(seed)["events"])
    except Exception as error:  # noqa: BLE001  # a supervisor of seeds
        failure = f"{error!r}\n  {' '.join(getattr(error, '__notes__', ()))}"
    return SeedResult(seed, events, 1000 * (time.process_time() - started_s), failure)


def run(path: Path, first: int, count: int, on_progress: Callable[[Progress, float], None]) -> Progress:
    """Run what is missing of the seeds `first` to `first + count`.

    Args:
        path: file that keeps what was done.
        first: the first seed.
        count: how many.
        on_progress: called after each seed with what is done and the seconds that are left, as far as can be seen.
    """
    progress = load(path, tree_digest(), first)
    started_s, done_before = time.monotonic(), progress.done
    saved_s = started_s
    try:
        for result in _results(range(first + progress.done, first + count)):
            progress.add(result)
            now_s = time.monotonic()
            left_s = (now_s - started_s) / (progress.done - done_before) * (count - progress.done)
            on_progress(progress, left_s)
            if now_s - saved_s >= SAVE_S:
                saved_s = now_s
                save(path, progress)
    finally:
        save(path, progress)
    return progress


def _results(seeds: range) -> Iterator[SeedResult]:
    processes = min(2, os.cpu_count() or 1)
    if not seeds:
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(run_one, seeds, CHUNK)
