"""A log is cut at a written cell state, and only as far as every disk that it could have to feed.

Source: design "Log and checkpoints" (`L4` of its list of traps).
"""

from agreement.changes import Entry
from agreement.storage import Put
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import Progress, encode_entry
from replica_manager.log_keeping import LogKeeping
from replica_manager.standing import Standing

INTERVAL = 10


def cell_at(sequence: int, durable: int) -> CellState:
    """Return the state of a cell of two whose servers have both said how far their disks are."""
    cell = CellState(1, 10)
    for number in range(1, sequence + 1):
        report = Progress(number - 1, number - 1, min(durable, number - 1), 0, b"")
        cell.apply(number, Entry(number % 2, 1, -(-number // 2), encode_entry(report)))
    return cell


def written(cell: CellState, standing: Standing = Standing.SERVING) -> LogKeeping:
    """Return what keeps a log whose first checkpoint is on the disk."""
    keeping = LogKeeping(INTERVAL)
    step = keeping.next_step(cell, standing, cell.sequence)
    assert step is not None
    assert isinstance(step.write, Put)
    assert step.position == cell.sequence
    keeping.on_written(step.position)
    return keeping


def test_a_log_is_not_cut_before_every_disk_of_the_cell_covers_it() -> None:
    keeping = written(cell_at(12, durable=5))
    assert keeping.next_step(cell_at(14, durable=5), Standing.SERVING, 14) is None
    step = keeping.next_step(cell_at(16, durable=12), Standing.SERVING, 14)
    assert step is not None
    assert step.compact_through == 12


def test_a_log_is_not_cut_before_the_disks_of_this_server_cover_it() -> None:
    """One that has just joined counts as far as the cell, but its domains come back by its own log alone."""
    keeping = written(cell_at(12, durable=5))
    assert keeping.next_step(cell_at(16, durable=12), Standing.SERVING, 11) is None


def test_a_learner_cuts_at_its_snapshot_and_not_above_what_its_domains_have_on_their_disks() -> None:
    keeping = written(cell_at(12, durable=0), Standing.LEARNING)
    step = keeping.next_step(cell_at(12, durable=0), Standing.LEARNING, 12)
    assert step is not None
    assert step.compact_through == 12
    later = keeping.next_step(cell_at(30, durable=0), Standing.LEARNING, 15)
    assert later is not None
    keeping.on_written(later.position)
    assert keeping.next_step(cell_at(32, durable=0), Standing.LEARNING, 15) is None


def test_nothing_is_written_while_a_checkpoint_is_on_its_way_to_the_disk() -> None:
    keeping = LogKeeping(INTERVAL)
    assert keeping.next_step(cell_at(12, durable=0), Standing.SERVING, 0) is not None
    assert keeping.next_step(cell_at(30, durable=0), Standing.SERVING, 0) is None
