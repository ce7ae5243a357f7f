"""When requests are due."""

import asyncio
import time
from itertools import pairwise

from benchmarks.open_loop import Pace

PATIENCE_S = 30


async def _until_unsent(pace: Pace, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while pace.unsent < count:
            await asyncio.sleep(0)


async def _take(pace: Pace, count: int) -> list[float]:
    async with asyncio.timeout(PATIENCE_S):
        due = [await pace.next_due() for _ in range(count)]
    return [moment for moment in due if moment is not None]


def test_at_a_rate_requests_are_due_at_equal_distances_however_late_they_are_asked_for() -> None:
    """Whoever asks late sees how late that is."""

    async def run() -> list[float]:
        pace = Pace(100.0)
        running = asyncio.create_task(pace.run())
        due = await _take(pace, 2)
        await _until_unsent(pace, 3)
        due += await _take(pace, 4)
        pace.end()
        await running
        return due

    due = asyncio.run(run())
    assert [round(later - former, 6) for former, later in pairwise(due)] == [0.01] * 5


def test_without_a_rate_a_request_is_due_whenever_somebody_asks() -> None:
    before_s = time.monotonic()
    (due_s,) = asyncio.run(_take(Pace(0.0), 1))
    assert before_s <= due_s <= time.monotonic()


def test_at_the_end_nothing_is_due_for_whoever_waits_or_asks() -> None:
    async def run() -> list[float | None]:
        pace = Pace(0.001)
        waiting = [asyncio.create_task(pace.next_due()) for _ in range(3)]
        running = asyncio.create_task(pace.run())
        await waiting[0]
        pace.end()
        running.cancel()
        return [*[await task for task in waiting[1:]], await pace.next_due()]

    assert asyncio.run(run()) == [None, None, None]


def test_requests_that_nobody_asked_for_are_counted_and_not_due_after_the_end() -> None:
    async def run() -> tuple[int, float | None]:
        pace = Pace(1000.0)
        running = asyncio.create_task(pace.run())
        await _until_unsent(pace, 3)
        pace.end()
        await running
        return pace.unsent, await pace.next_due()

    unsent, due_s = asyncio.run(run())
    assert unsent >= 3
    assert due_s is None
