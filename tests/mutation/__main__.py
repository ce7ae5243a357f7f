"""Mutation testing of the cores: `python -m tests.mutation [--hours 2] [--sample 60]`, or `make mutants`.

Goes on where the last run ended.  Results are in var/mutants/results.jsonl, a summary in var/mutants/summary.md.
Exit code 1 if fewer than 85 % of the mutants were killed, 2 if some were not tried yet, 130 after Ctrl-C.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.mutation.mutants import ROOT
from tests.mutation.results import SCORE_MIN, ResultLog, Summary, read_accepted, summarise
from tests.mutation.run import Run, RunSettings, all_mutants, alone, digest_of_tests
from tests.mutation.sandbox import TrialBroken

DIRECTORY = ROOT / "var" / "mutants"
ACCEPTED = Path(__file__).with_name("accepted.toml")


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help="only these files")
    parser.add_argument("--hours", type=float, default=2.0, help="start nothing later than that (default: 2)")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time (default: 2)")
    parser.add_argument("--sample", type=int, default=0, help="try only so many, drawn at random")
    parser.add_argument("--list", action="store_true", help="name all mutants and try none")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where results are (default: var/mutants)")
    options = parser.parse_args()
    settings = RunSettings(options.hours, max(1, options.jobs), options.sample, options.modules)
    if options.list:
        print(*(f"{mutant.line}\t{mutant.name}" for mutant in all_mutants(ROOT, settings.modules)), sep="\n")
        return 0
    try:
        with alone(options.directory):
            return run(settings, options.directory)
    except BlockingIOError:
        print(f"error: another run is at work in {options.directory}; wait for it, or end it", file=sys.stderr)
    except (TrialBroken, AssertionError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 1


def run(settings: RunSettings, directory: Path) -> int:
    """Try what has no result yet; write and print where all stand."""
    accepted = read_accepted(ACCEPTED)
    mutants = all_mutants(ROOT, settings.modules)
    tests = digest_of_tests(ROOT)
    log = ResultLog(directory / "results.jsonl")
    todo = [mutant for mutant in mutants if log.find(mutant, tests) is None]
    chosen = todo[: settings.sample] if settings.sample else todo
    print(f"{len(mutants)} mutants, {len(todo)} without a result", file=sys.stderr, flush=True)
    started = time.monotonic()
    if chosen:
        trial_run = Run(directory, settings, log, tests)
        try:
            trial_run.go(chosen)
        finally:
            _report(summarise(mutants, log, tests, accepted), directory)
            _estimate(trial_run.tried, time.monotonic() - started, len(todo))
    else:
        _report(summarise(mutants, log, tests, accepted), directory)
    return _exit_code(summarise(mutants, log, tests, accepted))


def _report(summary: Summary, directory: Path) -> None:
    (directory / "summary.md").write_text(summary.text())
    print(summary.text())


def _estimate(tried: int, seconds: float, todo: int) -> None:
    if tried:
        rest_s = (todo - tried) * seconds / tried
        print(f"{tried} mutants in {seconds:.0f} s; {todo - tried} more take about {rest_s / 60:.0f} minutes")


def _exit_code(summary: Summary) -> int:
    if summary.total.share < SCORE_MIN:
        return 1
    return 0 if summary.is_complete else 2


if __name__ == "__main__":
    sys.exit(main())
