"""What every `Clock` promises: the wall clock in microseconds, as wrong as it was told to be."""

import time
from collections.abc import Callable

import pytest

from replica_manager.clock import Clock, OffsetClock, SystemClock

HOUR_US = 3_600_000_000
TOLERANCE_US = 60_000_000


@pytest.mark.parametrize("make", [SystemClock, lambda: OffsetClock(SystemClock())], ids=["system", "offset"])
def test_a_clock_shows_the_machine_s_time(make: Callable[[], Clock]) -> None:
    assert abs(make().wall_us() - time.time_ns() // 1000) < TOLERANCE_US


@pytest.mark.parametrize("offset_us", [HOUR_US, -HOUR_US])
def test_an_offset_clock_is_wrong_until_it_is_set_right(offset_us: int) -> None:
    clock = OffsetClock(SystemClock())
    clock.offset_us = offset_us
    assert abs(clock.wall_us() - offset_us - time.time_ns() // 1000) < TOLERANCE_US
    clock.offset_us = 0
    assert abs(clock.wall_us() - time.time_ns() // 1000) < TOLERANCE_US
