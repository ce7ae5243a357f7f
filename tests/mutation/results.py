"""What became of every mutant: kept line by line, so that a run can end at any moment and go on later."""

import contextlib
import json
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from tests.mutation.mutants import Mutant

SCORE_MIN = 0.85


class Fate(StrEnum):
    """How a mutant ended."""

    TESTS = "killed by tests"
    SIMULATION = "killed by simulation"
    SURVIVED = "survived"


@dataclass(frozen=True)
class Result:
    """One line of `results.jsonl`."""

    name: str
    fingerprint: str
    """Of the mutant's text: a result is true of this module as it was."""
    tests: str
    """Of the tests: a survivor is tried again when they have changed."""
    fate: Fate
    killed_by: str
    """The test or seed that noticed."""
    seconds: float
    is_called: bool
    """Whether a fast test calls the mutant's function; code outside functions is called by nobody and counts as so."""


class ResultLog:
    """Results in a file."""

    def __init__(self, path: Path) -> None:
        """Read what earlier runs left; a last line without an end is forgotten."""
        self._path = path
        self._results: dict[str, Result] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            path.write_bytes(whole)
        for line in whole.splitlines():
            with contextlib.suppress(KeyError, TypeError, ValueError):  # of another version: tried again
                row = json.loads(line)
                self._results[row["name"]] = Result(**(row | {"fate": Fate(row["fate"])}))

    def find(self, mutant: Mutant, tests: str) -> Result | None:
        """Return what is known of a mutant, if it still holds."""
        result = self._results.get(mutant.name)
        if result is None or result.fingerprint != mutant.fingerprint:
            return None
        return None if result.fate is Fate.SURVIVED and result.tests != tests else result

    def add(self, result: Result) -> None:
        """Keep a result."""
        self._results[result.name] = result
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def read_accepted(path: Path) -> dict[str, str]:
    """Return the reason of every accepted survivor.

    Raises:
        ValueError: an entry without a name or a reason, or twice.
    """
    accepted: dict[str, str] = {}
    for entry in tomllib.loads(path.read_text()).get("accepted", []):
        name, reason = entry.get("mutant", ""), entry.get("reason", "").strip()
        if not name or not reason or name in accepted:
            raise ValueError(f"{path}: an accepted mutant needs a name, once, and a reason: {name or entry}")
        accepted[name] = reason
    return accepted


@dataclass(frozen=True)
class Score:
    """Counts of one module, or of all."""

    mutants: int = 0
    by_tests: int = 0
    by_simulation: int = 0
    accepted: int = 0
    survived: int = 0
    """Without a reason."""

    @property
    def tried(self) -> int:
        """Mutants with a result."""
        return self.by_tests + self.by_simulation + self.accepted + self.survived

    @property
    def share(self) -> float:
        """Killed among those that were tried and are not accepted."""
        counted = self.tried - self.accepted
        return (self.by_tests + self.by_simulation) / counted if counted else 1.0

    def __add__(self, other: "Score") -> "Score":
        """Add up."""
        mine, theirs = asdict(self), asdict(other)
        return Score(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class Summary:
    """Where all mutants stand."""

    scores: Mapping[str, Score]
    """By module."""
    survivors: Sequence[Mutant]
    """Without a reason."""
    uncalled: Collection[str]
    """Names of survivors in functions that no fast test calls: perhaps nothing does."""
    stale: Sequence[str]
    """Accepted names that are no survivors: killed now, or no mutant at all."""

    @property
    def total(self) -> Score:
        """All modules together."""
        return sum(self.scores.values(), Score())

    @property
    def is_complete(self) -> bool:
        """Whether every mutant has a result."""
        return self.total.tried == self.total.mutants

    def text(self) -> str:
        """Return a page for people, in Markdown."""
        lines = [
            "# Mutants",
            "",
            "| module | mutants | tests | simulation | accepted | survived | not tried | killed |",
        ]
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        lines += [_row(name, score) for name, score in [*self.scores.items(), ("all", self.total)]]
        lines += ["", "*Killed*: of those that were tried, accepted ones apart.", "", "## Survivors", ""]
        lines += [self._survivor(mutant) for mutant in self.survivors]
        if self.stale:
            lines += ["", "## Accepted, but killed now or gone", "", *(f"- `{name}`" for name in self.stale)]
        return "\n".join(lines) + "\n"

    def _survivor(self, mutant: Mutant) -> str:
        remark = "; no fast test calls it" if mutant.name in self.uncalled else ""
        return f"- {mutant.module}:{mutant.line} ({mutant.operator}{remark})\n  `{mutant.name}`"


def _row(name: str, score: Score) -> str:
    counts = [score.mutants, score.by_tests, score.by_simulation, score.accepted, score.survived]
    cells = [name, *map(str, counts), str(score.mutants - score.tried), f"{100 * score.share:.1f} %"]
    return f"| {' | '.join(cells)} |"


def summarise(mutants: Iterable[Mutant], log: ResultLog, tests: str, accepted: Mapping[str, str]) -> Summary:
    """Return where all mutants stand."""
    scores: dict[str, Score] = {}
    survivors: list[Mutant] = []
    excused: set[str] = set()
    unknown: set[str] = set()
    uncalled: set[str] = set()
    for mutant in mutants:
        result = log.find(mutant, tests)
        score = Score(mutants=1)
        if result is None:
            unknown.add(mutant.name)
        elif result.fate is Fate.TESTS:
            score = Score(mutants=1, by_tests=1)
        elif result.fate is Fate.SIMULATION:
            score = Score(mutants=1, by_simulation=1)
        elif mutant.name in accepted:
            excused.add(mutant.name)
            score = Score(mutants=1, accepted=1)
        else:
            survivors.append(mutant)
            if not result.is_called:
                uncalled.add(mutant.name)
            score = Score(mutants=1, survived=1)
        scores[mutant.module] = scores.get(mutant.module, Score()) + score
    stale = sorted(set(accepted) - excused - unknown)
    return Summary(scores, survivors, uncalled, stale)
