"""The wall clock, as far as a server asks it: a border, so that a clock can be wrong on order.

Order and time-outs never depend on it: they use the monotonic clock, which nobody sets.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is."""

    def wall_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC; may jump in either direction."""
        ...


class SystemClock:
    """The machine's clock.  Implements `Clock`."""

    def wall_us(self) -> int:
        """See `Clock.wall_us`."""
        return time.time_ns() // 1000


class OffsetClock:
    """Another clock, wrong by as much as it is told.  Implements `Clock`; only with `fault_injection`."""

    def __init__(self, clock: Clock) -> None:
        """Begin with the right time."""
        self._clock = clock
        self.offset_us = 0

    def wall_us(self) -> int:
        """See `Clock.wall_us`."""
        return self._clock.wall_us() + self.offset_us
