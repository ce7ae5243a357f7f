"""How long a vote may stay out.  Source: design "Noticing"; `M1` of its list of traps."""

from hypothesis import given
from hypothesis import strategies as st

from replica_manager.faults.stall_clock import HALVING_MS, StallClock

START_MS, MAX_MS = 250, 5_000


def clock_of(sequence: int, now_ms: int, *, has_vote: bool) -> StallClock:
    clock = StallClock(START_MS, MAX_MS)
    clock.watch(sequence, now_ms, has_vote=has_vote)
    return clock


def test_nothing_open_uses_no_time() -> None:
    """The clock runs for a number."""
    assert clock_of(0, 100, has_vote=False).share(1_000_000) == 0.0


def test_the_clock_runs_from_the_first_vote_on() -> None:
    """M1: counted from another domain's vote."""
    clock = clock_of(7, 1_000, has_vote=False)
    clock.watch(7, 1_400, has_vote=True)
    assert clock.share(1_400 + START_MS - 1) < 1
    assert clock.share(1_400 + START_MS) >= 1


def test_a_later_look_at_the_same_vote_does_not_begin_anew() -> None:
    """Looked at every tick, it would never stall else."""
    clock = clock_of(7, 1_000, has_vote=True)
    clock.watch(7, 1_200, has_vote=True)
    assert clock.share(1_250) >= 1


def test_without_any_vote_it_does_not_stall() -> None:
    """L13: the request may hang whoever executes it; more domains would hang too, and all state would be lost."""
    clock = clock_of(7, 1_000, has_vote=False)
    assert clock.share(1_000 + 100 * MAX_MS) == 0.0


def test_the_next_number_has_its_own_time() -> None:
    """The clock of a number runs when it is the oldest unanswered one."""
    clock = clock_of(7, 1_000, has_vote=True)
    clock.watch(8, 1_240, has_vote=True)
    assert clock.share(1_480) < 1
    assert clock.share(1_490) >= 1


def test_a_pause_of_the_manager_restarts_the_clock() -> None:
    """What came meanwhile was not late."""
    clock = clock_of(7, 1_000, has_vote=True)
    clock.restart(9_000)
    assert clock.share(9_000) == 0.0
    assert clock.share(9_000 + START_MS) >= 1


def test_slow_domains_are_given_twice_the_lag_that_was_seen() -> None:
    """The limit adapts to observed execution times."""
    clock = StallClock(START_MS, MAX_MS)
    clock.note_lag(400, 1_000)
    assert clock.limit_ms == 800


def test_a_lag_is_forgotten_by_and_by_also_while_nobody_votes() -> None:
    """A service that was slow for a while is not waited for for ever; a domain may fall silent meanwhile."""
    clock = StallClock(START_MS, MAX_MS)
    clock.note_lag(800, 1_000)
    clock.watch(7, 1_000 + HALVING_MS, has_vote=True)
    assert clock.limit_ms == 800
    clock.watch(8, 1_000 + 10 * HALVING_MS, has_vote=True)
    assert clock.limit_ms == START_MS


@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 10_000)), max_size=30))
def test_the_limit_stays_within_its_bounds(lags: list[tuple[int, int]]) -> None:
    """Whatever is observed, also over long times."""
    clock, now_ms = StallClock(START_MS, MAX_MS), 0
    for lag_ms, passed_ms in lags:
        now_ms += passed_ms
        clock.note_lag(lag_ms, now_ms)
        assert START_MS <= clock.limit_ms <= MAX_MS
