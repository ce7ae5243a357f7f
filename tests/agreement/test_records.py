"""What is stored is read back, and what cannot be read is no memory."""

import pytest

from agreement.changes import EMPTY_BATCH_RAW
from agreement.errors import AmnesiaError
from agreement.identifiers import NO_BALLOT, Ballot, Identity
from agreement.log import LogState
from agreement.records import (
    PREFIX,
    PREFIX_END,
    StoredState,
    delete_configurations,
    delete_everything,
    delete_gap,
    delete_slots,
    put_base,
    put_end,
    put_floor,
    put_gap,
    put_identity,
    put_lowest,
    put_promise,
    put_slot,
    read_storage,
)
from agreement.storage import Write
from tests.agreement.local_cell import S0, S1
from tests.agreement.test_quorum import cell
from tests.simulation.fake_storage import FakeStableStorage

BALLOT = Ballot(3, S1)


def stored(*writes: Write) -> StoredState:
    """What a member reads back after `writes`."""
    storage = FakeStableStorage()
    storage.write(writes)
    return read_storage(storage.scan(PREFIX, PREFIX_END))


def test_everything_is_read_back() -> None:
    """One record of each kind."""
    base = LogState(cell(1), 7, 42, {0: 9}).record()
    state = stored(
        put_identity(Identity(S0, 4), 2),
        put_base(base),
        put_promise(3, BALLOT),
        put_slot(3, 8, BALLOT, 6, EMPTY_BATCH_RAW),
        put_slot(3, 9, None, 9, EMPTY_BATCH_RAW),
        put_end(2, 70),
        put_floor(3, 5),
        put_lowest(cell(2)),
        put_gap((2, 3)),
    )
    assert (state.identity, state.life, state.base) == (Identity(S0, 4), 2, base)
    assert (state.lowest, state.gap) == (cell(2), (2, 3))
    third = state.of(3)
    assert (third.promised, third.floor, sorted(third.slots), third.decided) == (BALLOT, 5, [8, 9], 9)
    assert (state.of(2).end, state.of(2).decided) == (70, 70)
    assert state.of(4).promised == NO_BALLOT


def test_slots_and_configurations_are_forgotten_by_range() -> None:
    """Compaction and release are a few writes, however much they forget."""
    slots = [put_slot(number, slot, BALLOT, -1, EMPTY_BATCH_RAW) for number in (1, 2) for slot in range(300)]
    state = stored(*slots, put_promise(1, BALLOT), put_end(1, 299), *delete_configurations(2), *delete_slots(2, 298))
    assert sorted(state.configurations) == [2]
    assert sorted(state.of(2).slots) == [298, 299]


def test_a_gap_can_be_closed_and_everything_erased() -> None:
    """The former when a snapshot is durable, the latter when a memory is not to be trusted."""
    assert stored(put_gap((1, 2)), delete_gap()).gap is None
    assert stored(put_gap((1, 2)), put_promise(1, BALLOT), delete_everything()) == StoredState()


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"a/i", b"\xc1"), (b"a/v123", b"\x90"), (b"a/p\0\0\0\0\0\0\0\1", b"x"), (b"a/?", b"")],
)
def test_a_record_that_cannot_be_read_is_amnesia(key: bytes, value: bytes) -> None:
    """A damaged memory must not be taken for a complete one."""
    with pytest.raises(AmnesiaError):
        read_storage([(key, value)])
