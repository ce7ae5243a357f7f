"""Replicas on different databases cannot be told apart: same replies, same updates, same state.

Source: SPARE §4.6.2 (heterogeneous replicas), §4.10.2 (merged batches).
"""

import pytest

from tests.rubis.random_requests import REQUESTS, walk
from tests.rubis.running_replica import RunningReplica

pytestmark = pytest.mark.db


def test_replies_updates_and_states_are_equal(both: tuple[RunningReplica, RunningReplica]) -> None:
    first, second = both
    changed = 0
    for request in walk(1):
        one, other = first.execute(request), second.execute(request)
        assert one == other, request
        changed += bool(one.update)
    assert changed > REQUESTS // 4
    assert first.state() == second.state() != first.pristine


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize("turn", [0, 1])
def test_updates_lead_the_other_database_to_the_same_state(
    both: tuple[RunningReplica, RunningReplica], turn: int, batch_size: int
) -> None:
    active, passive = both[turn], both[1 - turn]
    updates = []
    for request in walk(2):
        sequence = active.adapter.cursor()
        updates.append((sequence, active.execute(request).update))
    shift = passive.adapter.cursor() - updates[0][0]
    moved = [(sequence + shift, update) for sequence, update in updates]
    for start in range(0, len(moved), batch_size):
        batch = moved[start : start + batch_size]
        passive.apply(batch, batch[-1][0])
        assert passive.adapter.cursor() == batch[-1][0] + 1
    assert passive.state() == active.state()


def test_a_state_moves_to_the_other_database(both: tuple[RunningReplica, RunningReplica]) -> None:
    """And a replica that got its state goes on like the one that gave it."""
    first, second = both
    requests = list(walk(3))
    for request in requests[:60]:
        first.execute(request)
    second.apply([], second.adapter.cursor() + 60 - 1)
    second.expect_changes()
    second.adapter.set_state(second.adapter.cursor(), 1, iter(first.state()))
    for request in requests[60:100]:
        assert first.execute(request) == second.execute(request)
    assert first.state() == second.state()
