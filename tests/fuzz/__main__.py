"""`python -m tests.fuzz [--mutations 1000000] [--live 10000] [--seed N] [--only PARSER …]`.

First every parser in this process, then every port of a real cell.  Exit code 0: nothing was found.
"""

import argparse
import signal
import sys
from contextlib import ExitStack

from tests.fuzz.in_process import Outcome, fuzz
from tests.fuzz.live import fuzz_live
from tests.fuzz.parsers import make_parsers


def main() -> int:
    """Run; return the exit code."""
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also where the parent had it ignored: what was started is ended before this process goes.
        signal.signal(number, signal.default_int_handler)
    print(f"seed {options.seed}", flush=True)
    is_good = fuzz_parsers(options.mutations, options.seed, options.only)
    if options.live and not options.only:
        is_good &= fuzz_ports(options.live, options.seed)
    print("nothing was found" if is_good else "FOUND SOMETHING, see above")
    return 0 if is_good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=1_000_000, help="per parser, in process")
    parser.add_argument("--live", type=int, default=10_000, help="per live port; 0: none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="names of parsers; then no ports")
    return parser.parse_args()


def fuzz_parsers(mutant_count: int, seed: int, only: list[str]) -> bool:
    """Give every parser its mutants; print what became of them; return whether all is well."""
    is_good = True
    with ExitStack() as stack:
        for parser in make_parsers(stack):
            if mutant_count and (not only or parser.name in only):
                outcome = fuzz(parser, mutant_count, seed, _show_progress)
                is_good &= outcome.is_good
                _show(outcome)
    return is_good


def fuzz_ports(count: int, seed: int) -> bool:
    """Attack real cells; print what was found; return whether all is well."""
    findings = fuzz_live(count, seed, lambda line: print(line, flush=True))
    for finding in findings:
        print(f"FINDING {finding}", flush=True)
    return not findings


def _show_progress(outcome: Outcome) -> None:
    if sys.stderr.isatty():
        print(f"\r{outcome}", end="", file=sys.stderr, flush=True)


def _show(outcome: Outcome) -> None:
    print(f"\r{outcome}" if sys.stderr.isatty() else str(outcome), flush=True)
    for finding in outcome.findings:
        print(
            f"  mutant {finding.index} of seed {outcome.seed}: {finding.what}\n    {finding.mutant[:2000].hex()}",
            flush=True,
        )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; what was started has ended")
