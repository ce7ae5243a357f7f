"""Stable updates that wait for sleepers.  Source: design "Passive replicas"."""

from hypothesis import given
from hypothesis import strategies as st

from replica_manager.updates.update_buffer import UpdateBuffer

updates = st.lists(st.binary(max_size=5), max_size=30)


@given(updates, st.lists(st.integers(1, 40), max_size=4), st.integers(1, 40))
def test_counts_and_bytes_are_those_of_what_is_held(taken: list[bytes], drops: list[int], cursor: int) -> None:
    """Against the plain definition, whatever was dropped in between."""
    buffer = UpdateBuffer()
    dropped_below = 0
    for sequence, update in enumerate(taken, 1):
        buffer.take_in(sequence, update)
        if drops and sequence % 7 == 0:
            below = min(drops.pop(), sequence + 1)
            dropped_below = max(dropped_below, below)
            buffer.drop_below(below)
    held = [(s, u) for s, u in enumerate(taken, 1) if u and s >= dropped_below]
    waiting = [(s, u) for s, u in held if s >= cursor]
    assert buffer.entry_count == len(held)
    assert buffer.byte_count == sum(len(u) for _, u in held)
    assert buffer.waiting_count(cursor) == len(waiting)
    assert buffer.waiting_bytes(cursor) == sum(len(u) for _, u in waiting)
    assert buffer.next_update(cursor) == (waiting[0][0] if waiting else len(taken) + 1)


@given(updates, st.integers(1, 30), st.integers(16, 80))
def test_batches_cover_every_update_once_and_in_order(taken: list[bytes], cursor: int, bytes_max: int) -> None:
    """Read-only requests and commands leave gaps; a batch says up to where it reaches."""
    buffer = UpdateBuffer()
    for sequence, update in enumerate(taken, 1):
        buffer.take_in(sequence, update)
    given_out: list[tuple[int, bytes]] = []
    position = cursor
    while position <= buffer.prefix:
        batch = buffer.batch(position, buffer.prefix, bytes_max)
        assert batch.up_to >= position
        given_out += batch.updates
        position = batch.up_to + 1
    assert given_out == [(s, u) for s, u in enumerate(taken, 1) if u and s >= cursor]
