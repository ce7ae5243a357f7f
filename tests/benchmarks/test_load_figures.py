"""What the times of replies say about a crash."""

from benchmarks.fault_outage import outage_figures
from benchmarks.fault_throughput import crash_figures
from benchmarks.load_process import LoadResult, count_between, longest_gap_ms, per_second, recovered_ms

CRASH_US = 10_000_000


def steady(begin_us: int, end_us: int, step_us: int = 10_000) -> list[int]:
    """Return a reply every `step_us`."""
    return list(range(begin_us, end_us, step_us))


def with_pause(pause_us: int) -> list[int]:
    """Return 100 replies a second, with a pause from the crash on."""
    return steady(0, CRASH_US) + steady(CRASH_US + pause_us, 2 * CRASH_US)


def test_the_end_of_a_span_does_not_belong_to_it() -> None:
    assert count_between([1, 2, 3], 1, 3) == 2


def test_seconds_are_counted_from_the_crash() -> None:
    assert per_second(with_pause(500_000), CRASH_US, -1, 2) == [(-1, 100), (0, 50), (1, 100)]


def test_without_a_pause_the_throughput_is_there_at_once() -> None:
    assert recovered_ms(with_pause(0), CRASH_US, 80) == 0


def test_recovery_is_when_the_first_good_second_begins() -> None:
    """After a pause of 0.5 s the second that begins 0.3 s after the crash has 80 replies."""
    assert recovered_ms(with_pause(500_000), CRASH_US, 80) == 300


def test_what_never_recovers_has_no_time() -> None:
    assert recovered_ms(steady(0, CRASH_US), CRASH_US, 80) is None
    assert recovered_ms([], CRASH_US, 80) is None


def test_a_gap_counts_from_the_crash_and_to_the_end() -> None:
    assert longest_gap_ms(with_pause(700_000), CRASH_US, 2 * CRASH_US) == 700.0
    assert longest_gap_ms([], 0, 5_000) == 5.0


def test_a_crash_run_says_what_was_left_in_the_first_second() -> None:
    replied_us = with_pause(400_000)
    figures = crash_figures(LoadResult(replied_us, [1.0] * len(replied_us), ["undecided"]), CRASH_US, 5, 3)
    assert (figures["before_rps"], figures["first_second_share"]) == (100.0, 0.6)
    assert figures["failed_requests"] == 1
    assert len(figures["per_second"]) == 8


def test_a_run_without_any_reply_divides_by_nothing() -> None:
    assert crash_figures(LoadResult([], [], []), CRASH_US, 5, 3)["first_second_share"] == 0.0


def test_an_outage_is_the_longest_silence_after_the_strike() -> None:
    """What was silent before it does not count."""
    replied_us = [0, *steady(8_000_000, CRASH_US), *steady(CRASH_US + 2_000_000, 2 * CRASH_US)]
    figures = outage_figures(LoadResult(replied_us, [1.0, 2_003.0], []), CRASH_US)
    assert (figures["without_service_ms"], figures["longest_latency_ms"]) == (2000.0, 2003.0)
