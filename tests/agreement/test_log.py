"""The fold of decided batches, and what the log keeps of them."""

import itertools
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from agreement.changes import Batch, Entry, ServerJoined, ServerLeft, WitnessReplaced, encode_batch
from agreement.identifiers import first_number
from agreement.log import Log, LogState, fold
from agreement.output import Delivery
from tests.agreement.test_quorum import cell

START = LogState(cell(1), 0, 0, {})


def batch(*numbers: int, server: int = 0, incarnation: int = 1) -> Batch:
    """Entries of one origin."""
    return Batch(tuple(Entry(server, incarnation, number, b"%d" % number) for number in numbers))


def append(log: Log, value: Batch) -> list[Delivery]:
    """Decide the next slot."""
    return log.append(encode_batch(value), value)


def numbers(deliveries: list[Delivery]) -> list[tuple[int, int]]:
    """`(sequence, entry number)`."""
    return [(delivery.sequence, getattr(delivery.entry, "number", 0)) for delivery in deliveries]


def test_sequence_numbers_are_dense_across_batches() -> None:
    """1-based; a batch without entries takes none."""
    log = Log(START, 10_000)
    assert numbers(append(log, batch(1, 2))) == [(1, 1), (2, 2)]
    assert append(log, Batch()) == []
    assert numbers(append(log, batch(3))) == [(3, 3)]
    assert (log.decided, log.delivered) == (2, 3)


def test_a_duplicate_takes_no_sequence_number() -> None:
    """An origin forwards again after a change of leader; both copies may be decided."""
    state, _ = fold(START, batch(1, 2, 3))
    assert numbers(fold(state, batch(2, 3, 4))[1]) == [(4, 4)]


def test_an_entry_without_its_predecessor_is_dropped() -> None:
    """Its predecessor was lost with an old leader; the origin forwards both again."""
    state, deliveries = fold(START, batch(1, 3))
    assert numbers(deliveries) == [(1, 1)]
    assert numbers(fold(state, batch(2, 3))[1]) == [(2, 2), (3, 3)]


def test_a_new_life_of_an_origin_begins_anew_and_ends_the_former() -> None:
    """What the former life had under way may come late, and must not be mistaken for the new one's."""
    state, _ = fold(START, batch(1, 2))
    state, deliveries = fold(state, batch(first_number(1), first_number(1) + 1))
    assert len(deliveries) == 2
    assert fold(state, batch(3))[1] == []
    assert len(fold(state, batch(first_number(5)))[1]) == 1
    assert fold(state, batch(first_number(5) + 1))[1] == []


def test_only_members_of_the_configuration_are_origins() -> None:
    """Neither a server that is gone nor another incarnation of one that is here."""
    assert fold(START, batch(1, server=9))[1] == []
    assert fold(START, batch(1, incarnation=2))[1] == []


def test_a_change_ends_the_log_of_its_configuration() -> None:
    """It takes a sequence number, and the next log begins with slot 0."""
    state, deliveries = fold(START, Batch(batch(1).entries, ServerLeft(1, fenced=True)))
    assert [delivery.sequence for delivery in deliveries] == [1, 2]
    assert (state.position, state.sequence, state.origins) == ((2, 0), 2, {0: 1})


def test_a_returned_server_numbers_from_the_start() -> None:
    """Its former incarnation's numbers are forgotten with its departure."""
    state, _ = fold(START, batch(1, 2, server=1))
    state, _ = fold(state, Batch((), ServerLeft(1, fenced=True)))
    assert state.origins == {}
    state, _ = fold(state, Batch((), ServerJoined(1, 5, b"")))
    assert fold(state, batch(1, server=1))[1] == []
    assert numbers(fold(state, batch(1, server=1, incarnation=5))[1]) == [(5, 1)]


def test_a_replaced_witness_changes_nothing_for_origins() -> None:
    """It is no origin."""
    state, _ = fold(START, batch(1, 2))
    state, _ = fold(state, Batch((), WitnessReplaced(0, 2)))
    assert numbers(fold(state, batch(3))[1]) == [(4, 3)]


@given(st.lists(st.lists(st.integers(1, 12), max_size=6), max_size=12))
def test_whatever_is_decided_each_number_is_delivered_once_in_order(slots: list[list[int]]) -> None:
    """A2, for any batches that any leaders put together."""
    state, delivered = START, []
    for slot in slots:
        state, deliveries = fold(state, batch(*slot))
        delivered += deliveries
    assert numbers(delivered) == [(count, count) for count in range(1, len(delivered) + 1)]


def test_compaction_stops_at_the_last_boundary_that_is_covered() -> None:
    """The application's state may end within a batch; the batch is then kept."""
    log = Log(START, 10_000)
    for value in (batch(1, 2), batch(3, 4), batch(5, 6)):
        append(log, value)
    assert not log.compact(1)
    assert log.compact(5)
    assert (log.base.position, log.base.sequence, log.base.origins) == ((1, 2), 4, {0: 4})
    assert not log.compact(5)
    assert log.compact(100)
    assert log.base == log.state


def test_history_is_kept_for_others_after_compaction_up_to_its_limit() -> None:
    """A server that was away for a moment needs no snapshot."""
    log = Log(START, 10_000)
    values = [batch(number) for number in range(1, 6)]
    for value in values:
        append(log, value)
    log.compact(5)
    assert log.read_from((1, 0), 10_000) == [encode_batch(value) for value in values]
    assert log.read_from((1, 3), 1) == [encode_batch(values[3])]
    assert log.read_from((1, 5), 10_000) == []
    assert log.read_from((2, 0), 10_000) == []


def test_beyond_the_limit_of_history_the_oldest_is_dropped() -> None:
    """Memory stays bounded whatever the application compacts; a lagging server then gets a snapshot."""
    log = Log(START, 3_000)
    for number in range(1, 101):
        append(log, batch(number))
    assert log.read_from((1, 0), 10_000) is None
    assert log.read_from((1, 99), 10_000) is not None
    assert 90 < log.sequence_min < 100
    assert log.compact(50)
    assert log.base.sequence == 50


def test_what_somebody_lacks_is_kept_when_the_rest_is_released() -> None:
    """A server that lags finds the log, although the others have long had it."""
    log = Log(START, 1_000_000)
    for number in range(1, 101):
        append(log, batch(number))
    log.release((1, 90), 0)
    assert log.read_from((1, 89), 10_000) is None
    assert len(log.read_from((1, 90), 10_000) or []) == 10
    assert log.sequence_min == 90


def test_a_share_of_the_log_is_kept_although_nobody_is_known_to_lack_it() -> None:
    """Whoever leads next may find a server that does."""
    log = Log(START, 1_000_000)
    for number in range(1, 101):
        append(log, batch(number))
    log.release(log.state.position, 5_000)
    assert 90 < log.sequence_min < 100
    log.release(log.state.position, 0)
    assert log.sequence_min == 100
    append(log, batch(101))
    assert log.read_from((1, 100), 10_000) == [encode_batch(batch(101))]


def test_an_encoded_batch_occupies_no_more_than_its_bytes() -> None:
    """It stays in memory for long; an encoder's buffer is larger than what it holds."""
    value = Batch(tuple(Entry(0, 1, number, b"x" * 500) for number in range(1, 40)))
    tracemalloc.start()
    try:
        raws = [encode_batch(value) for _ in range(10)]
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 1.05 * sum(map(len, raws))


def test_reading_ends_with_the_configuration() -> None:
    """A position is within one log."""
    log = Log(START, 10_000)
    for value in (batch(1), Batch((), ServerLeft(1, fenced=True)), batch(2)):
        append(log, value)
    assert len(log.read_from((1, 0), 10_000) or []) == 2
    assert len(log.read_from((2, 0), 10_000) or []) == 1


def test_a_snapshot_s_state_is_the_boundary_at_or_before_it() -> None:
    """The receiver skips what the application's state covers beyond."""
    log = Log(START, 10_000)
    for value in (batch(1, 2), batch(3, 4), Batch(), batch(5)):
        append(log, value)
    found = log.state_at(3)
    assert found is not None
    assert found.position == (1, 1)
    covered = log.state_at(4)
    assert covered is not None
    assert covered.position == (1, 3)
    assert log.state_at(6) is None


def test_after_a_snapshot_only_what_it_does_not_cover_is_delivered() -> None:
    """And the base waits until the application's copy is durable."""
    giver, taker = Log(START, 10_000), Log(START, 10_000)
    values = [batch(1, 2), batch(3, 4), batch(5)]
    for value in values:
        append(giver, value)
    state = giver.state_at(3)
    assert state is not None
    taker.install(state, 3)
    assert (taker.delivered, taker.base) == (3, START)
    assert numbers(append(taker, values[1])) == [(4, 4)]
    assert numbers(append(taker, values[2])) == [(5, 5)]
    assert taker.compact(3)
    assert taker.base.position == (1, 1)
    assert taker.entries_after((1, 1)) == 1
    assert taker.entries_after((1, 0)) is None


def test_records_of_a_state_give_the_state_back() -> None:
    """As stored, and as sent with a snapshot."""
    state, _ = fold(START, Batch(batch(1, 2).entries, ServerLeft(1, fenced=False)))
    assert LogState.of_record(state.record()) == state
    assert list(itertools.chain(state.record().origins)) == [(0, 2)]
