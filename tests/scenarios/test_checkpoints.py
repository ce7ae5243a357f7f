"""A domain that does not give its state as it should holds up neither checkpoints nor repairs."""

from collections.abc import Iterator

import pytest

from exec_wrapper.wire import StatePart
from replica_manager.identifiers import DomainId
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink
from tests.simulation.fake_domain import FakeDomain

TICKS, TICK_MS = 200, 100


@pytest.fixture
def cell() -> LockstepCell:
    cell, sink = LockstepCell(), RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, 6):
        cell.submit(0, sink, client, number, b"set k%d v" % number)
    return cell


def pass_time(cell: LockstepCell) -> None:
    for _ in range(TICKS):
        cell.tick(TICK_MS)


@pytest.mark.parametrize("silent", ["s1.g1", "s1.g2"])
def test_a_domain_that_gives_no_state_at_a_checkpoint_is_suspected_and_replaced(
    cell: LockstepCell, silent: str
) -> None:
    """The repair does not wait for the checkpoint: that would wait for the very domain that is to be replaced."""
    cell.muted.add(DomainId(silent))
    cell.cores[0].order_checkpoint(7)
    cell.settle()
    pass_time(cell)
    assert {data["domain"] for _, kind, data in cell.events if kind == "domain_suspected"} == {silent}
    assert any(kind == "repaired" for _, kind, _ in cell.events)
    assert [core.cell.open_point for core in cell.cores] == [0, 0]
    assert all(DomainId(silent) not in core.feeds for core in cell.cores)


class Endless(FakeDomain):
    """Its state has no end."""

    def _state(self, point: int) -> Iterator[StatePart]:
        index = 0
        while True:
            yield StatePart(point, index, False, b"k v")
            index += 1


def test_a_state_that_is_longer_than_the_agreed_one_ends_its_domain(cell: LockstepCell) -> None:
    """Every part comes in time, so only its length gives it away."""
    liar = DomainId("s1.g2")
    cell.domains[liar].__class__ = Endless
    cell.cores[0].order_checkpoint(7)
    pass_time(cell)
    assert [data["domain"] for _, kind, data in cell.events if kind == "domain_misbehaved"] == [liar]
    assert [core.cell.open_point for core in cell.cores] == [0, 0]
