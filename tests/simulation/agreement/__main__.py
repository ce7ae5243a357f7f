"""Run many seeds: `python -m tests.simulation.agreement --seeds 1000`.

Prints each seed with its options before it runs; stops at the first violation, whose seed reproduces it.
"""

import argparse
import random
import sys
import time
import traceback

from tests.simulation.agreement.cluster import Cluster
from tests.simulation.agreement.options import Options
from tests.simulation.agreement.planted import PLANTED
from tests.simulation.agreement.run import Report, run_seed


def main() -> int:
    """Run the seeds asked for; 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--faults", type=int, help="f, instead of drawing it")
    parser.add_argument("--without-witnesses", action="store_true", help="a cell with witnesses = 0")
    parser.add_argument("--plant", choices=sorted(PLANTED), help="leave out one rule, to see it found")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    parser.add_argument("--quiet", action="store_true", help="print only failures and the summary")
    arguments = parser.parse_args()
    cluster_type = PLANTED.get(arguments.plant, Cluster)
    failures = 0
    reports: list[Report] = []
    began = time.process_time()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        options = Options.draw(random.Random(seed), arguments.faults, not arguments.without_witnesses)
        if not arguments.quiet:
            print(f"seed {seed}: {options}", flush=True)
        try:
            reports.append(run_seed(seed, cluster_type, options))
        except Exception:  # noqa: BLE001 - whatever a schedule raises is the finding
            failures += 1
            print(f"FAILED seed {seed}: {options}\n{traceback.format_exc()}", flush=True)
            if not arguments.keep_going:
                break
    _summarize(reports, failures, time.process_time() - began)
    return 1 if failures else 0


def _summarize(reports: list[Report], failures: int, cpu_seconds: float) -> None:
    count = max(1, len(reports))
    print(f"{len(reports)} seeds passed, {failures} failed, {1000 * cpu_seconds / count:.0f} ms CPU per seed")
    for name in ("delivered", "configurations", "departures", "joins", "witness_replacements", "recovered_after_ms"):
        values = [getattr(report, name) for report in reports]
        print(f"  {name}: mean {sum(values) / count:.1f}, max {max(values, default=0)}")


if __name__ == "__main__":
    sys.exit(main())
