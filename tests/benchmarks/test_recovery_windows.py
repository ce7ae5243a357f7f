"""What the times of replies say about a recovery."""

from benchmarks.load_process import LoadResult
from benchmarks.recovery_windows import Window, by_second, latencies_ms, rate_rps, recovery_figures, window_before

SECOND = 1_000_000
DURING = Window(100 * SECOND, 110 * SECOND)


def load(*spans: tuple[float, float, int, float]) -> LoadResult:
    """Return replies from `begin` to `end` (seconds), so many per second, with a latency in ms."""
    replies = [
        (round(begin * SECOND) + n * SECOND // rate, latency)
        for begin, end, rate, latency in spans
        for n in range(round((end - begin) * rate))
    ]
    return LoadResult.of(replies, [])


def test_the_time_to_compare_with_is_as_long_and_ends_where_the_recovery_begins() -> None:
    assert window_before(DURING, 0) == Window(90 * SECOND, 100 * SECOND)


def test_the_time_to_compare_with_begins_after_what_was_before() -> None:
    """An earlier recovery, or the warming up, is not compared with."""
    assert window_before(DURING, 97 * SECOND) == Window(97 * SECOND, 100 * SECOND)


def test_a_rate_counts_the_replies_of_a_window_and_not_those_at_its_end() -> None:
    assert rate_rps(load((95, 115, 20, 1.0)), DURING) == 20.0
    assert rate_rps(load(), Window(5, 5)) == 0.0


def test_the_ratio_is_that_of_rates_also_if_the_windows_differ_in_length() -> None:
    """Half of the requests are answered during a recovery of ten seconds, after five quiet ones."""
    figures = recovery_figures(load((90, 100, 20, 50.0), (100, 110, 10, 80.0)), DURING, 95 * SECOND)
    assert (figures["before_s"], figures["throughput_before_rps"], figures["throughput_rps"]) == (5.0, 20.0, 10.0)
    assert figures["throughput_ratio"] == 0.5
    assert (figures["latency_before_ms"]["p50"], figures["latency_ms"]["p50"]) == (50.0, 80.0)


def test_a_request_that_is_answered_after_the_recovery_but_waited_during_it_counts() -> None:
    """Its latency does, its reply does not: a backlog at the end must not be hidden."""
    late = load((90, 110, 10, 20.0), (112, 113, 1, 2_500.0), (114, 115, 1, 3_000.0))
    figures = recovery_figures(late, DURING, 0)
    assert figures["slowest_reply_ms"] == 2_500.0
    assert figures["throughput_ratio"] == 1.0
    assert len(latencies_ms(late, DURING)) == 101


def test_a_load_without_replies_divides_by_nothing() -> None:
    figures = recovery_figures(load(), DURING, 0)
    assert (figures["throughput_ratio"], figures["slowest_reply_ms"], figures["latency_ms"]) == (0.0, 0.0, {})


def test_every_whole_second_has_its_replies_and_latencies() -> None:
    rows = by_second(load((0, 1, 4, 10.0), (2, 3, 1, 30.0)), Window(0, 3 * SECOND + 1))
    assert rows == [(4, 10.0, 10.0), (0, 0.0, 0.0), (1, 30.0, 30.0)]


def test_results_are_in_the_order_of_time() -> None:
    result = LoadResult.of([(2, 20.0), (1, 10.0)], [(3, "undecided")])
    assert result == LoadResult([1, 2], [10.0, 20.0], ["undecided"])
