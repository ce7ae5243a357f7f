"""With what a server starts: what its storage holds decides as what it can take part.

Source: design "Agreement stage", Identity (`S4` of its list of traps); 9.4.
"""

from typing import NamedTuple

from agreement.identifiers import Identity
from agreement.records import PREFIX, PREFIX_END, read_storage
from agreement.storage import StableStorage
from replica_manager.cell.cell_state import CellState
from replica_manager.cell_checkpoints import read_checkpoint
from replica_manager.standing import Standing


class Memory(NamedTuple):
    """What a server starts with."""

    standing: Standing
    identity: Identity | None = None
    """Whose log is there; None: nobody's that may be used."""
    content: tuple[tuple[bytes, bytes], ...] = ()
    """Of agreement's storage."""
    cell: CellState | None = None
    """The cell state with which the log begins; None: that of a new cell."""
    objection: str = ""
    """Why a server that was to return with its memory cannot."""


def recall(storage: StableStorage, standing: Standing, *, is_complete: bool) -> Memory:
    """Return with what a server starts that was to start as `standing`.

    Without its complete memory it takes part as somebody new, or not at all (`S4`).

    Args:
        storage: what is there.
        standing: what was wanted; only `RETURNING` needs a memory.
        is_complete: whether nothing of what was relied on can be missing.
    """
    if standing is not Standing.RETURNING:
        return Memory(standing)
    content = tuple(storage.scan(PREFIX, PREFIX_END))
    if not content:
        return Memory(Standing.LEARNING, objection="the log is empty")
    if not is_complete:
        return Memory(Standing.LEARNING, objection="the log is not synced")
    identity = read_storage(content).identity
    if identity is None:
        return Memory(Standing.LEARNING, objection="the log is nobody's")
    try:
        return Memory(standing, identity, content, read_checkpoint(storage))
    except LookupError as error:
        return Memory(Standing.LEARNING, objection=str(error))
