"""Power cuts of whole cells: `python -m tests.power_loss [--driver subprocess]`, or `make power-loss`.

Goes on where the last run ended: rounds that are in the report are not played again.  Needs root.
Exit code 1 if anything that was acknowledged is lost, or anything else went wrong; 130 after Ctrl-C.
With `--durability none` every round has a cell of its own, and the exit code is 1 if none of them lost anything: then
this test would find nothing.
"""

import argparse
import json
import random
import shutil
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.environment import PROJECT, environment
from replica_manager.control.errors import ControlError
from tests.power_loss.cell import PowerCell, write_cell_file
from tests.power_loss.rounds import MACHINE_PACE, SUBPROCESS_PACE, PowerLoss, moment_of

DIRECTORY = PROJECT / "var" / "power-loss"


def main() -> int:
    """Play; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.power_loss", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--driver", choices=("libvirt", "subprocess"), default="libvirt", help="default: libvirt")
    parser.add_argument("--durability", choices=("sync", "async", "none"), default="sync", help="default: sync")
    parser.add_argument("--rounds", type=int, default=20, help="power cuts (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="default: drawn")
    parser.add_argument("--log-entries", type=int, default=500, help="entries between checkpoints (default: 500)")
    parser.add_argument("--images", type=Path, default=PROJECT / "var" / "images", help="default: var/images")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="default: var/power-loss")
    parser.add_argument("--fresh", action="store_true", help="forget the report of an earlier run")
    options = parser.parse_args()
    run = Run(options)
    try:
        return run.go()
    except ControlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


class Run:
    """The rounds that one report is about."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Read what an earlier run has written."""
        self._options = options
        options.directory.mkdir(parents=True, exist_ok=True)
        self._settings: dict[str, Any] = {
            "driver": options.driver, "durability": options.durability, "log_entries_max": options.log_entries
        }  # fmt: skip
        self._report = options.directory / "report.json"
        self._document = self._former() or {
            "settings": self._settings,
            "seed": options.seed or random.SystemRandom().randrange(1, 1 << 31),
            "runs": [],
            "rounds": [],
        }

    def _former(self) -> dict[str, Any] | None:
        """Return the report that is there, if it is about the same."""
        if self._options.fresh:
            return None
        with suppress(FileNotFoundError, ValueError):
            document: dict[str, Any] = json.loads(self._report.read_text())
            is_same_seed = self._options.seed in (0, document["seed"])
            if document["settings"] == self._settings and is_same_seed:
                return document
        return None

    def go(self) -> int:
        """Play what is missing."""
        options, rounds = self._options, self._document["rounds"]
        _tell(f"seed {self._document['seed']}, {self._settings}; {len(rounds)} of {options.rounds} rounds are there")
        if len(rounds) < options.rounds:
            self._document["runs"].append(environment())
            self._play()
        return 0 if self._is_as_promised(rounds) else 1

    def _is_as_promised(self, rounds: list[dict[str, Any]]) -> bool:
        match self._options.durability:
            case "sync":
                return all(row["is_right"] for row in rounds)
            case "none":
                return any(row["lost"] for row in rounds)
            case _:
                return True  # what it loses is what is measured

    def _play(self) -> None:
        """Play one cell after another; a cell that may lose something has one round."""
        rounds = self._document["rounds"]
        while len(rounds) < self._options.rounds:
            cell = self._new_cell()
            try:
                self._play_cell(cell)
                if self._is_sync and not rounds[-1]["is_right"]:
                    _tell(f"round {len(rounds)} is wrong; what is on the disks stays in {cell.file.parent}")
                    return
                cell.down(purge=True)
            finally:
                cell.down()

    @property
    def _is_sync(self) -> bool:
        return bool(self._options.durability == "sync")

    def _play_cell(self, cell: PowerCell) -> None:
        pace = SUBPROCESS_PACE if self._options.driver == "subprocess" else MACHINE_PACE
        game, rounds = PowerLoss(cell, pace, self._document["seed"], _tell), self._document["rounds"]
        _tell(f"the cell serves after {game.go_up():.1f} s")
        while len(rounds) < self._options.rounds:
            number = len(rounds) + 1
            row = game.play(number, moment_of(number) if self._is_sync else "load")
            rounds.append({**row.row(), "is_right": row.is_right})
            self._write()
            _tell(f"{number}/{self._options.rounds} {json.dumps(row.row())}")
            if not (row.is_right and self._is_sync):
                return

    def _new_cell(self) -> PowerCell:
        options = self._options
        directory = options.directory / "cell"
        file = directory / "cell.toml"
        if file.exists():
            PowerCell(file).down(purge=True)  # of a run that was killed
            shutil.rmtree(directory)
        directory.mkdir(mode=0o700)
        name = f"power-{zlib.crc32(bytes(options.directory.resolve())):08x}"
        write_cell_file(file, name, options.driver, options.durability, options.log_entries, options.images, 20)
        return PowerCell(file)

    def _write(self) -> None:
        unfinished = self._report.with_suffix(".new")
        unfinished.write_text(json.dumps(self._document, indent=2) + "\n")
        unfinished.replace(self._report)


def _tell(line: str) -> None:
    print(f"[power-loss] {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
