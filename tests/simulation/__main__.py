"""Runs many seeds of the whole-cell simulation: `python -m tests.simulation --seeds 2000 [--first 0]`.

The same command goes on where it was interrupted; `--seed N` runs one seed and prints what was drawn and happened.
"""

import argparse
import sys
from pathlib import Path

from tests.simulation import campaign
from tests.simulation.cell.named_events import LEAST_SHARE, NAMED_EVENTS
from tests.simulation.cell.run import draw_options, run_seed

LINE_EVERY = 100
"""Seeds between two lines of progress where no terminal is."""


def main() -> int:
    """Run; return 1 if a seed failed or a named event was too rare, 130 if interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default 0)")
    parser.add_argument("--seed", type=int, help="run this one alone, and print it")
    parser.add_argument("--progress", type=Path, default=campaign.ROOT / "var" / "simulation.json")
    options = parser.parse_args()
    if options.seed is not None:
        print(f"seed {options.seed}: {draw_options(options.seed)}", flush=True)
        print(run_seed(options.seed))
        return 0
    shown = _Shown(options.seeds)
    try:
        progress = campaign.run(options.progress, options.first, options.seeds, shown)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130
    return report(progress)


class _Shown:
    """Shows how far a campaign is: each new failure at once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._failures_shown = 0
        self._done_before = -1

    def __call__(self, progress: campaign.Progress, left_s: float) -> None:
        if self._done_before < 0:
            self._done_before = progress.done - 1
            if self._done_before:
                print(f"{self._done_before} seeds were run before; going on", flush=True)
        for failure in progress.failures[self._failures_shown :]:
            print(f"FAILED {failure}", flush=True)
        self._failures_shown = len(progress.failures)
        line = f"{progress.done} of {self._count} seeds, {progress.failure_count} failed, {left_s / 60:.1f} min left"
        if sys.stderr.isatty():
            print(f"\r{line} ", end="", file=sys.stderr, flush=True)
        elif progress.done % LINE_EVERY == 0:
            print(line, flush=True)


def report(progress: campaign.Progress) -> int:
    """Print what came of it; return the exit code."""
    print(f"\n{progress.done} seeds, {progress.failure_count} failed; CPU per seed: median {progress.median_cpu_ms} ms")
    for kind, count in sorted(progress.events.items(), key=lambda row: (row[0] not in NAMED_EVENTS, row[0])):
        print(f"  {kind}: in {100 * count / progress.done:.1f} % of the seeds")
    rare = progress.rare_events()
    if rare:
        print(f"occurred in fewer than {100 * LEAST_SHARE:.0f} % of the seeds: {', '.join(rare)}")
    return 1 if progress.failure_count or rare else 0


if __name__ == "__main__":
    sys.exit(main())
