"""What clients saw during a recovery and in an equal time before it.  Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.fault_timeline import percentile
from benchmarks.load_process import SECOND_US, LoadResult, count_between


class Window(NamedTuple):
    """A time, microseconds since 1970; its end does not belong to it."""

    begin_us: int
    end_us: int

    @property
    def length_s(self) -> float:
        """Seconds."""
        return (self.end_us - self.begin_us) / SECOND_US


def window_before(during: Window, quiet_since_us: int) -> Window:
    """Return the time before a recovery to compare it with: as long, unless something else ended in it.

    Args:
        during: the recovery.
        quiet_since_us: when the load had begun, or the recovery before had ended.
    """
    return Window(max(during.begin_us - (during.end_us - during.begin_us), quiet_since_us), during.begin_us)


def rate_rps(load: LoadResult, window: Window) -> float:
    """Return the replies per second that came in a window."""
    return count_between(load.replied_us, *window) / window.length_s if window.length_s > 0 else 0.0


def latencies_ms(load: LoadResult, window: Window) -> list[float]:
    """Return the latencies of all requests that were under way at any time of a window."""
    first = bisect_left(load.replied_us, window.begin_us)
    found = []
    for replied_us, latency_ms in zip(load.replied_us[first:], load.latencies_ms[first:], strict=True):
        if replied_us - latency_ms * 1000 < window.end_us:
            found.append(latency_ms)
    return found


def recovery_figures(load: LoadResult, during: Window, quiet_since_us: int) -> dict[str, Any]:
    """Return throughput and latencies of a recovery beside those before it."""
    before = window_before(during, quiet_since_us)
    before_rps, during_rps = rate_rps(load, before), rate_rps(load, during)
    return {
        "before_s": round(before.length_s, 1),
        "throughput_before_rps": round(before_rps, 2),
        "throughput_rps": round(during_rps, 2),
        "throughput_ratio": round(during_rps / before_rps, 3) if before_rps else 0.0,
        "latency_before_ms": latency_summary(latencies_ms(load, before)),
        "latency_ms": latency_summary(latencies_ms(load, during)),
        "slowest_reply_ms": max(latencies_ms(load, during), default=0.0),
    }


def latency_summary(latencies: Sequence[float]) -> dict[str, float]:
    """Return the usual percentiles; empty: there were no replies."""
    if not latencies:
        return {}
    quantiles = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(latencies, quantile), 1) for name, quantile in quantiles.items()}


def by_second(load: LoadResult, window: Window) -> list[tuple[int, float, float]]:
    """Return `(replies, median, slowest)` for every whole second of a window; latencies in ms, 0 without a reply."""
    rows = []
    for begin_us in range(window.begin_us, window.end_us - SECOND_US + 1, SECOND_US):
        first = bisect_left(load.replied_us, begin_us)
        last = bisect_left(load.replied_us, begin_us + SECOND_US)
        latencies = load.latencies_ms[first:last]
        middle = percentile(latencies, 0.5) if latencies else 0.0
        rows.append((last - first, round(middle, 1), round(max(latencies, default=0.0), 1)))
    return rows
