"""Virtual time: a heap of things to do."""

import heapq
import random
from collections.abc import Callable
from itertools import count


class World:
    """The clock of a simulation, in microseconds; the only source of randomness besides `random`."""

    def __init__(self, seed: int) -> None:
        """Start at time 0."""
        self.random = random.Random(seed)
        self.now_us = 0
        self.event_count = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._ties = count()

    @property
    def now_ms(self) -> int:
        """Monotonic time in milliseconds."""
        return self.now_us // 1000

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Do `action` after `delay_us`."""
        heapq.heappush(self._heap, (self.now_us + max(0, delay_us), next(self._ties), action))

    def run_until(self, until_us: int, is_done: Callable[[], bool]) -> bool:
        """Run until `is_done` or the time is over; return whether it was done."""
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            self.now_us, _, action = heapq.heappop(heap)
            self.event_count += 1
            action()
            if self.event_count % 64 == 0 and is_done():
                return True
        self.now_us = max(self.now_us, until_us)
        return is_done()
