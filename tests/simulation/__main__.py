"""Runs many seeds of the whole-cell simulation: `python -m tests.simulation --seeds 2000 [--first 0]`.

Prints the seed and the drawn options of every failure; `--seed N` runs one.
"""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.cell.run import draw_options, run_seed


def main() -> int:
    """Run; return 1 if a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    if options.seed is not None:
        print(f"seed {options.seed}: {draw_options(options.seed)}", flush=True)
        print(run_seed(options.seed))
        return 0
    return run_many(range(options.first, options.first + options.seeds))


def run_many(seeds: range) -> int:
    """Run all; print progress, failures and how many seeds each event occurred in."""
    cpu_ms: list[float] = []
    events: Counter[str] = Counter()
    failures = 0
    for seed in seeds:
        started = time.process_time()
        try:
            events.update(run_seed(seed)["events"].keys())
        except Exception as error:  # noqa: BLE001  # a supervisor: one failing seed must not hide the others
            failures += 1
            print(f"FAILED {error!r}\n  {' '.join(getattr(error, '__notes__', ()))}", flush=True)
        cpu_ms.append(1000 * (time.process_time() - started))
        if sys.stderr.isatty() and seed % 10 == 0:
            print(f"\rseed {seed}, {failures} failed", end="", file=sys.stderr, flush=True)
    cpu_ms.sort()
    print(f"{len(seeds)} seeds, {failures} failed; CPU per seed: median {cpu_ms[len(cpu_ms) // 2]:.0f} ms")
    for kind, count in sorted(events.items()):
        print(f"  {kind}: in {100 * count / len(seeds):.1f} % of the seeds")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
