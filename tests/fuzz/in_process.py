"""Gives a parser many mutants, and notes what it did with them."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutations import Mutator
from tests.fuzz.parsers import Parser

MEMORY_GROWTH_BYTES_MAX = 50 * 1024 * 1024
CPU_SECONDS_MAX = 0.25
"""For one mutant of at most 64 KiB; the slowest parser needs a millisecond or two."""
FINDINGS_MAX = 5
"""Per parser; then it is given up."""
PROGRESS_EVERY = 50_000


@dataclass(slots=True)
class Finding:
    """A mutant that a parser did not take well."""

    index: int
    """Which mutant of the run it was."""
    mutant: bytes
    what: str


@dataclass(slots=True)
class Outcome:
    """What became of one parser's mutants."""

    parser: str
    seed: int
    taken: int = 0
    refused: int = 0
    seconds: float = 0.0
    memory_growth_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing was found."""
        return not self.findings and self.memory_growth_bytes < MEMORY_GROWTH_BYTES_MAX

    def __str__(self) -> str:
        """Return one line."""
        count = self.taken + self.refused
        rate = count / self.seconds if self.seconds else 0.0
        verdict = "ok" if self.is_good else f"{len(self.findings)} FINDINGS"
        return (
            f"{self.parser:20} {count:9,} mutants, {self.refused:9,} refused, {rate:9,.0f}/s, "
            f"memory {self.memory_growth_bytes / 1e6:+6.1f} MB: {verdict}"
        )


def fuzz(parser: Parser, mutant_count: int, seed: int, progress: Callable[[Outcome], None]) -> Outcome:
    """Give `parser` that many mutants, drawn by `seed`; `progress` hears of it now and then."""
    mutator, outcome = Mutator(parser.corpus, seed), Outcome(parser.name, seed)
    for sample in parser.corpus:
        _try(parser, sample, -1, outcome)
    outcome.taken = outcome.refused = 0
    before_bytes, started = memory_bytes(), time.perf_counter()
    for index in range(mutant_count):
        _try(parser, mutator.mutant(), index, outcome)
        if index % PROGRESS_EVERY == 0:
            outcome.seconds = time.perf_counter() - started
            progress(outcome)
        if len(outcome.findings) >= FINDINGS_MAX:
            break
    outcome.seconds = time.perf_counter() - started
    outcome.memory_growth_bytes = memory_bytes() - before_bytes
    return outcome


def _try(parser: Parser, mutant: bytes, index: int, outcome: Outcome) -> None:
    started = time.perf_counter()
    try:
        parser.parse(mutant)
        outcome.taken += 1
    except parser.refusals:
        outcome.refused += 1
    except Exception as error:  # noqa: BLE001  # a supervisor: whatever comes out is the finding
        outcome.findings.append(Finding(index, mutant, f"{type(error).__name__}: {error}"))
    if time.perf_counter() - started > CPU_SECONDS_MAX and (cpu_s := _cpu_seconds(parser, mutant)) > CPU_SECONDS_MAX:
        outcome.findings.append(Finding(index, mutant, f"{cpu_s:.2f} s of CPU"))


def _cpu_seconds(parser: Parser, mutant: bytes) -> float:
    """Return the CPU time of a second attempt: the first one may have waited for other processes."""
    started = time.process_time()
    with contextlib.suppress(Exception):  # noted at the first attempt
        parser.parse(mutant)
    return time.process_time() - started


def memory_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
