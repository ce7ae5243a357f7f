"""Without its complete memory a server takes part as somebody new, or not at all.

Source: design "Agreement stage", Identity (`S4` of its list of traps).
"""

import random

from agreement.identifiers import Identity, MemberId
from agreement.node import Node
from agreement.settings import AgreementSettings
from replica_manager.cell.cell_state import CellState
from replica_manager.cell_checkpoints import put_checkpoint
from replica_manager.memory import recall
from replica_manager.standing import Standing
from tests.simulation.fake_storage import FakeStableStorage

OWN = Identity(MemberId.server(0), 1)
MEMBERS = [OWN, Identity(MemberId.server(1), 1), Identity(MemberId.witness(0), 1)]


def storage_of_a_newborn() -> FakeStableStorage:
    """Return what a server has written that was born and has done nothing."""
    storage = FakeStableStorage()
    storage.write(Node.born(OWN, AgreementSettings(), MEMBERS, random.Random(0), 0).take_output().writes)
    return storage


def test_an_empty_storage_is_no_memory() -> None:
    assert recall(FakeStableStorage(), Standing.RETURNING, is_complete=True).standing is Standing.LEARNING


def test_a_storage_of_which_the_newest_may_be_missing_is_no_memory() -> None:
    memory = recall(storage_of_a_newborn(), Standing.RETURNING, is_complete=False)
    assert memory.standing is Standing.LEARNING
    assert memory.identity is None
    assert memory.objection == "the log is not synced"


def test_a_complete_storage_is_taken_up_again_with_its_identity() -> None:
    memory = recall(storage_of_a_newborn(), Standing.RETURNING, is_complete=True)
    assert memory.standing is Standing.RETURNING
    assert memory.identity == OWN
    assert memory.content
    assert memory.cell is None, "the log begins with the cell"


def test_who_is_to_learn_uses_nothing_of_what_is_there() -> None:
    storage = storage_of_a_newborn()
    storage.write([put_checkpoint(0, CellState(1, 10))])
    memory = recall(storage, Standing.LEARNING, is_complete=True)
    assert (memory.standing, memory.identity, memory.cell, memory.content) == (Standing.LEARNING, None, None, ())
