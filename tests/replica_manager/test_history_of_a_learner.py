"""A server that comes back reads the history, in which a former self of it lived."""

from agreement.changes import ServerJoined, ServerLeft
from replica_manager.cell.cell_state import encode_joiners
from replica_manager.manager_core import ManagerCore
from replica_manager.standing import Standing
from tests.replica_manager.lockstep_cell import core_settings

OWN, PEER = 1, 0
NEW_LIFE = 1_700_000_000_000_000


def learner() -> ManagerCore:
    """Return the manager of a server without a memory."""
    core = ManagerCore(core_settings(OWN, 1), 0, Standing.LEARNING)
    core.membership.incarnation = NEW_LIFE
    return core


def test_the_entry_with_which_a_peer_left_does_not_make_a_learner_serve() -> None:
    """Its former self was live then; it has no domain of its own."""
    core = learner()
    core.deliver(1, ServerLeft(PEER, fenced=False))
    assert OWN in core.cell.live_servers
    assert core.standing is Standing.LEARNING


def test_the_entry_with_which_a_former_self_joined_does_not_make_a_learner_serve() -> None:
    """The domains that joined then are not here."""
    core = learner()
    core.deliver(1, ServerLeft(OWN, fenced=False))
    core.deliver(2, ServerJoined(OWN, 2, encode_joiners("s1.g3", "s1.g4")))
    assert OWN in core.cell.live_servers
    assert core.standing is Standing.LEARNING
