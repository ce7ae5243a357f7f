"""Who fences whom, and when; the rules of a cell without witnesses."""

from replica_manager.faults.fencing import RETRY_MS_MIN, Fencing


def fencing(server: int) -> Fencing:
    """A server that waits 1 s per lower one; suspicions end after 5 s."""
    return Fencing(server, 1000, 5000)


def test_the_lowest_id_fences_at_once_and_the_others_in_their_turn() -> None:
    """S5: two that switch each other off at the same moment leave nobody."""
    first, second, third = fencing(0), fencing(1), fencing(2)
    for one, suspect in ((first, 1), (second, 0), (third, 0)):
        one.on_suspected(suspect, 0)
    assert first.take_due(0, (0, 1, 2), may_fence=True) == [1]
    assert second.take_due(999, (0, 1, 2), may_fence=True) == []
    assert second.take_due(1000, (0, 1, 2), may_fence=True) == [0]
    assert third.take_due(1999, (0, 1, 2), may_fence=True) == []
    assert third.take_due(2000, (0, 1, 2), may_fence=True) == [0]


def test_a_server_that_starts_fences_nobody() -> None:
    """It was fenced itself, perhaps, and finds its old configuration."""
    one = fencing(0)
    one.on_suspected(1, 0)
    assert one.take_due(10_000, (0, 1), may_fence=False) == []


def test_who_has_left_is_not_fenced() -> None:
    """Neither by who left, nor who left."""
    one = fencing(0)
    one.on_suspected(1, 0)
    assert one.take_due(10, (0,), may_fence=True) == []
    assert one.suspicions == []
    two = fencing(2)
    two.on_suspected(1, 0)
    assert two.take_due(10_000, (0, 1), may_fence=True) == []


def test_a_suspicion_ends_when_somebody_leads_or_nobody_renews_it() -> None:
    """The server has answered."""
    one = fencing(1)
    one.on_suspected(0, 0)
    one.on_leader()
    assert one.take_due(2000, (0, 1), may_fence=True) == []
    one.on_suspected(0, 2000)
    assert one.take_due(7001, (0, 1), may_fence=True) == []
    one.on_suspected(0, 8000)
    one.on_suspected(0, 12000)
    assert one.take_due(13000, (0, 1), may_fence=True) == [0]


def test_a_fencing_that_fails_is_tried_again_later_and_one_that_succeeds_never() -> None:
    """While it runs it is not begun a second time."""
    one = fencing(0)
    one.on_suspected(1, 0)
    assert one.take_due(0, (0, 1), may_fence=True) == [1]
    assert one.take_due(1, (0, 1), may_fence=True) == []
    one.on_result(1, "no power", 100)
    one.on_suspected(1, 1000)
    assert one.take_due(99 + RETRY_MS_MIN, (0, 1), may_fence=True) == []
    assert one.take_due(100 + RETRY_MS_MIN, (0, 1), may_fence=True) == [1]
    assert (one.suspicions[0].failures, one.suspicions[0].last_failure) == (1, "no power")
    one.on_result(1, "", 5000)
    one.on_suspected(1, 6000)
    one.on_leader()
    assert one.take_due(100_000, (0, 1), may_fence=True) == []
    assert one.suspicions[0].is_fenced
