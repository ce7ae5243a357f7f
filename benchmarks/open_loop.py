"""When requests are due: at a given rate, whether or not earlier ones are answered, or as soon as somebody is free."""

import asyncio
import time
from collections import deque


class Pace:
    """Hands out the moments at which requests are due, to whoever asks next; for one event loop."""

    def __init__(self, rate_rps: float) -> None:
        """Nothing is due before `run`.

        Args:
            rate_rps: requests per second of all together; 0: one is due whenever somebody asks.
        """
        self._rate_rps = rate_rps
        self._due: deque[float] = deque()
        self._came_due = asyncio.Event()
        self._is_over = False

    @property
    def unsent(self) -> int:
        """Requests that are due and that nobody has asked for."""
        return len(self._due)

    async def run(self) -> None:
        """Let requests become due until this is cancelled, or over."""
        next_s = time.monotonic()
        while self._rate_rps and not self._is_over:
            now_s = time.monotonic()
            while next_s <= now_s:
                self._due.append(next_s)
                next_s += 1 / self._rate_rps
            self._came_due.set()
            await asyncio.sleep(max(0.0, next_s - now_s))

    async def next_due(self) -> float | None:
        """Return when the next request is due, on the monotonic clock; None: no more.

        A latency counts from that moment: who is held up must not hide how long its user waited.
        """
        while not self._is_over:
            if not self._rate_rps:
                return time.monotonic()
            if self._due:
                return self._due.popleft()
            self._came_due.clear()
            await self._came_due.wait()
        return None

    def end(self) -> None:
        """Nothing is due any more."""
        self._is_over = True
        self._came_due.set()
