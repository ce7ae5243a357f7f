"""How a build shows that it is alive."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

REPORT_INTERVAL_S: Final = 1.0
"""A running step reports at least this often, so that nothing over two seconds looks like a hang."""


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """One report: where a build stands."""

    image_name: str
    phase: Literal["started", "running", "finished"]
    """Of the step.  The last report of a build is `finished` with `step_index == step_count`."""
    step_index: int
    """1-based."""
    step_count: int
    title: str
    detail: str
    """What the step does right now, or what came of it; may be empty."""
    step_elapsed_ms: int
    elapsed_ms: int
    """Since the build began."""


Report = Callable[[BuildProgress], None]


class ProgressLog:
    """The steps of one build; reports come in the thread that builds."""

    def __init__(self, image_name: str, step_count: int, report: Report, now_s: Callable[[], float]) -> None:
        """Start counting.

        Args:
            image_name: repeated in every report.
            step_count: how many times `step` will be entered.
            report: called with every report.
            now_s: a monotonic clock, in seconds.
        """
        self._image_name = image_name
        self._step_count = step_count
        self._report = report
        self._now_s = now_s
        self._started_s = now_s()
        self._step_started_s = self._started_s
        self._reported_s = self._started_s
        self._step_index = 0
        self._title = ""
        self._detail = ""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Report the begin and the end of a step; an exception is not an end."""
        self._step_index += 1
        self._title, self._detail = title, ""
        self._step_started_s = self._now_s()
        self._emit("started")
        yield
        self._emit("finished")

    def tick(self, detail: str | None = None) -> None:
        """Say that the step is at work; passed on at most once a `REPORT_INTERVAL_S`.

        Args:
            detail: what it does; `None`: still the same.
        """
        if detail is not None:
            self._detail = detail
        if self._now_s() - self._reported_s >= REPORT_INTERVAL_S:
            self._emit("running")

    def note(self, detail: str) -> None:
        """Replace the detail; it is part of the next report."""
        self._detail = detail

    def _emit(self, phase: Literal["started", "running", "finished"]) -> None:
        now_s = self._now_s()
        self._reported_s = now_s
        self._report(
            BuildProgress(
                image_name=self._image_name,
                phase=phase,
                step_index=self._step_index,
                step_count=self._step_count,
                title=self._title,
                detail=self._detail,
                step_elapsed_ms=round((now_s - self._step_started_s) * 1000),
                elapsed_ms=round((now_s - self._started_s) * 1000),
            )
        )


def open_progress(image_name: str, step_count: int, report: Report) -> ProgressLog:
    """Return a log on this machine's monotonic clock."""
    return ProgressLog(image_name, step_count, report, time.monotonic)
