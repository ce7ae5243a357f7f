"""A running `benchmarks.fault_load`, and what its replies say.  The second half is pure."""

import json
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.fault_cell import FaultCell

READY_TIMEOUT_S = 120.0
SECOND_US = 1_000_000
WINDOW_STEP_US = 100_000
PROJECT = Path(__file__).resolve().parent.parent


class LoadFailed(Exception):
    """Raised when the clients ended without a result; their own words say why."""


class LoadResult(NamedTuple):
    """What the clients saw."""

    replied_us: list[int]
    """When replies came, ascending; wall clock, microseconds since 1970."""
    latencies_ms: list[float]
    """In the same order."""
    failed: list[str]
    """What became of requests that were not answered."""

    @classmethod
    def of(cls, replies: Iterable[Sequence[Any]], failed: Iterable[Sequence[Any]]) -> Self:
        """Return what `benchmarks.load_record.Record` holds, in the order of time."""
        ordered = sorted(map(tuple, replies))
        return cls([int(at) for at, _ in ordered], [ms for _, ms in ordered], [str(reason) for _, reason in failed])


class LoadProcess:
    """Clients at work; a context manager that leaves nothing behind."""

    def __init__(self, cell: FaultCell, clients: int, rate_rps: float, session_s: float) -> None:
        """See `benchmarks.fault_load`."""
        self._command = [sys.executable, "-m", "benchmarks.fault_load", *cell.addresses]
        self._command += ["--clients", str(clients), "--rate-rps", str(rate_rps), "--session-s", str(session_s)]
        self._cell = cell

    def __enter__(self) -> Self:
        self._process = self._cell.among_clients(
            lambda: subprocess.Popen(self._command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.__exit__()
            raise LoadFailed("the clients did not get ready")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def result(self) -> LoadResult:
        """Wait for the end.

        Raises:
            LoadFailed: there is no result.
        """
        output, complaints = self._process.communicate()
        if self._process.returncode:
            raise LoadFailed(complaints.decode(errors="replace").strip().rpartition("\n")[2])
        document = json.loads(output)
        return LoadResult.of(document["replies"], document["failed"])


# -- what the replies say --------------------------------------------------------------------------------------


def count_between(ascending_us: Sequence[int], begin_us: int, end_us: int) -> int:
    """Return how many of the moments are in `[begin_us, end_us)`."""
    return bisect_left(ascending_us, end_us) - bisect_left(ascending_us, begin_us)


def per_second(ascending_us: Sequence[int], origin_us: int, first_s: int, last_s: int) -> list[tuple[int, int]]:
    """Return `(second, replies)` for whole seconds from `first_s` (negative: before) to `last_s`, without the last."""
    return [
        (second, count_between(ascending_us, origin_us + second * SECOND_US, origin_us + (second + 1) * SECOND_US))
        for second in range(first_s, last_s)
    ]


def recovered_ms(ascending_us: Sequence[int], crash_us: int, wanted: float) -> int | None:
    """Return when the first second begins in which there are `wanted` replies, in ms after the crash; None: never."""
    last_us = ascending_us[-1] if ascending_us else crash_us
    for begin_us in range(crash_us, last_us - SECOND_US + 1, WINDOW_STEP_US):
        if count_between(ascending_us, begin_us, begin_us + SECOND_US) >= wanted:
            return (begin_us - crash_us) // 1000
    return None


def longest_gap_ms(ascending_us: Sequence[int], from_us: int, to_us: int) -> float:
    """Return the longest time without any reply between two moments."""
    inside = [moment for moment in ascending_us if from_us <= moment <= to_us]
    edges = [from_us, *inside, to_us]
    return max(later - earlier for earlier, later in pairwise(edges)) / 1000
