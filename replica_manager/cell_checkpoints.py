"""Durable checkpoints of the cell state, in the same storage as the log that goes on from them.

Keys lie outside the agreement stage's own range.
"""

import struct

from agreement.records import PREFIX, PREFIX_END, read_storage
from agreement.storage import DeleteRange, Put, StableStorage, Write
from replica_manager.cell.cell_state import CellState

_KEY = b"m/cell-state/"
_KEY_END = b"m/cell-state0"
_POSITION = struct.Struct(">Q")


def put_checkpoint(position: int, cell: CellState) -> Write:
    """The cell state after `position`."""
    return Put(_KEY + _POSITION.pack(position), cell.encode())


def delete_checkpoints_before(position: int) -> Write:
    """Forget older ones; only when the log's base has moved to `position`."""
    return DeleteRange(_KEY, _KEY + _POSITION.pack(position))


def delete_all_checkpoints() -> Write:
    """Forget all: they belong to a memory that is given up, and must not be taken for that of the next log."""
    return DeleteRange(_KEY, _KEY_END)


def read_checkpoint(storage: StableStorage) -> CellState | None:
    """Return the oldest cell state that covers where the stored log begins; None: it begins with the cell.

    It may be further than the log's begin, within what the log delivers again: that part every domain has on its disk.

    Raises:
        LookupError: the log begins later than the cell, and no such cell state is there.
    """
    base = read_storage(storage.scan(PREFIX, PREFIX_END)).base
    if base is None or base.sequence == 0:
        return None
    for _, value in storage.scan(_KEY + _POSITION.pack(base.sequence), _KEY_END):
        return CellState.decode(value)
    raise LookupError(f"the log begins after {base.sequence}, and no cell state from there on is stored")
