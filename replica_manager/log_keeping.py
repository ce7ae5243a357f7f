"""When the cell state is written down, and when the log below it may go.  Pure: the shell writes and compacts.

A checkpoint is always one at which the log will begin: what is below decides with which timestamps and roles the log
above has to be read again.

Source: design "Log and checkpoints" (A4; `L4` of its list of traps).
"""

from typing import NamedTuple

from agreement.storage import Write
from replica_manager.cell.cell_state import CellState
from replica_manager.cell_checkpoints import delete_checkpoints_before, put_checkpoint
from replica_manager.standing import Standing


class LogStep(NamedTuple):
    """One step: first `compact_through`, then `write`."""

    write: Write
    position: int = 0
    """Of the checkpoint that `write` is, to be told to `on_written`; 0: it is none."""
    compact_through: int = 0
    """Up to where agreement may forget the log; 0: nothing."""


class LogKeeping:
    """The checkpoints of one server's log."""

    def __init__(self, interval_entries: int) -> None:
        """Write a checkpoint every `interval_entries` entries; the log begins with the cell."""
        self._interval_entries = interval_entries
        self._is_writing = False
        self._written = 0
        self._compacted = 0

    def next_step(self, cell: CellState, standing: Standing, durable_here: int) -> LogStep | None:
        """Return what is to be done now: a new checkpoint, or the log cut where every domain's disk covers it (A4).

        Args:
            cell: the cell state as it is now.
            standing: what this server is to the cell.
            durable_here: up to where every domain of this server has on its disk what was agreed.
        """
        if self._written > self._compacted:
            # Of a learner the cell expects nothing yet; but when it has joined its domains come back by its own log.
            is_covered = self._written <= cell.durable_all or standing is Standing.LEARNING
            return self._compact() if is_covered and self._written <= durable_here else None
        if not self._is_writing and cell.sequence - self._compacted >= self._interval_entries:
            return self.write(cell)
        return None

    def write(self, cell: CellState) -> LogStep:
        """Return the step that writes the cell state down as it is now."""
        self._is_writing = True
        return LogStep(put_checkpoint(cell.sequence, cell), position=cell.sequence)

    def on_written(self, position: int) -> None:
        """The checkpoint at `position` is durable."""
        self._is_writing = False
        self._written = position

    def _compact(self) -> LogStep:
        self._compacted = self._written
        # Older checkpoints go with the next write of the log, and so not before its base has moved.
        return LogStep(delete_checkpoints_before(self._compacted), compact_through=self._compacted)
