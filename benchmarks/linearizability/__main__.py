"""Judges a recorded history of the key-value service: `python -m benchmarks.linearizability FILE`.

Exit code 0 if it is linearizable, 1 if it is not or if that stays unknown, 2 if the file is no history.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.linearizability.checker import POSITIONS_MAX, check
from benchmarks.linearizability.model import KeyValueModel
from benchmarks.linearizability.recorded import HistoryError, read_history


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.linearizability", description=__doc__)
    parser.add_argument("history", type=Path)
    parser.add_argument("--positions-max", type=int, default=POSITIONS_MAX, help="bound of the search, per key")
    options = parser.parse_args()
    try:
        verdict = check(read_history(options.history), KeyValueModel(), options.positions_max)
    except (HistoryError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{verdict.explain()}\n")
    return 0 if verdict.is_proven else 1


if __name__ == "__main__":
    sys.exit(main())
