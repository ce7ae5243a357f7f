"""A server that comes back without its memory reads the order from the begin, and its own former lives in it."""

from agreement.changes import Entry, ServerJoined, ServerLeft
from replica_manager.cell.cell_state import encode_joiners
from replica_manager.cell.entries import Suspected, encode_entry
from replica_manager.core_output import CoreOutput
from replica_manager.identifiers import DomainId
from replica_manager.manager_core import ManagerCore
from replica_manager.peer_messages import Position, Presence
from replica_manager.standing import Standing
from tests.replica_manager.lockstep_cell import core_settings

OWN, PEER = 1, 0
FORMER_LIFE, THIS_LIFE = 77, 78


def learner() -> ManagerCore:
    """Return server 1, which knows nothing."""
    core = ManagerCore(core_settings(OWN, 1), 0, Standing.LEARNING)
    core.membership.incarnation = THIS_LIFE
    return core


def join(incarnation: int, generation: int) -> ServerJoined:
    """Return the entry with which server 1 joined, or joins."""
    joiners = encode_joiners(DomainId(f"s1.g{generation}"), DomainId(f"s1.g{generation + 1}"))
    return ServerJoined(OWN, incarnation, joiners)


def test_a_join_of_a_former_life_makes_nobody_serve() -> None:
    """It would open its ports, and wait for ever for a cell that has gone on without it."""
    core = learner()
    core.deliver(1, ServerLeft(OWN, False))
    core.deliver(2, join(FORMER_LIFE, 3))
    core.deliver(3, ServerLeft(OWN, False))
    assert core.standing is Standing.LEARNING
    assert OWN in core.membership.learners
    core.deliver(4, join(THIS_LIFE, 5))
    assert core.standing is Standing.SERVING
    assert OWN not in core.membership.learners


def test_who_was_there_from_the_start_and_reads_that_another_one_left_goes_on_learning() -> None:
    core = ManagerCore(core_settings(OWN, 2), 0, Standing.LEARNING)
    core.membership.incarnation = THIS_LIFE
    core.deliver(1, ServerLeft(2, False))
    assert core.standing is Standing.LEARNING


def presences(output: CoreOutput) -> list[tuple[int, str]]:
    """Return what a core tells others about itself."""
    return [(server, message.standing) for server, message in output.sends if isinstance(message, Presence)]


def test_who_serves_answers_one_that_asks_again() -> None:
    """What was said when the link came up may be lost, and a server that returned would wait for it for ever."""
    core = ManagerCore(core_settings(PEER, 1), 0)
    core.on_peer_message(OWN, Presence(Standing.RETURNING.value, 0), 0)
    assert presences(core.take_output()) == [(OWN, "serving")]
    core.on_peer_message(OWN, Presence(Standing.SERVING.value, 1), 0)
    assert presences(core.take_output()) == []


def test_only_peers_that_say_so_take_entries_of_a_learner() -> None:
    """In the order as far as it is read, this server itself may be the only one that lives."""
    core = learner()
    core.deliver(1, ServerLeft(PEER, False))
    assert core.restart.serving() == []
    core.on_peer_message(PEER, Presence(Standing.SERVING.value, 1), 0)
    assert core.restart.serving() == [PEER]


def test_a_learner_begins_once_it_has_read_what_its_peer_had_read_even_if_nobody_sends_requests() -> None:
    """Its former lives have used names up to there.  What a peer says once, when a link is new, has to suffice."""
    core = learner()
    core.deliver(1, ServerLeft(OWN, False))
    core.on_peer_message(PEER, Position(2, 2), 0)
    core.on_peer_message(PEER, Presence(Standing.SERVING.value, 2), 0)
    core.on_timer(1000)
    assert core.take_output().boots == []
    core.deliver(2, Entry(PEER, 1, 1, encode_entry(Suspected("s0.g2", "it is slow", 1))))
    core.on_timer(2000)
    assert core.take_output().boots == ["s1.g3"]


def test_a_peer_that_does_not_serve_tells_nothing_of_former_lives() -> None:
    """A learner may itself be behind what this server's former lives have done."""
    core = learner()
    core.deliver(1, ServerLeft(OWN, False))
    core.on_peer_message(PEER, Presence(Standing.LEARNING.value, 1), 0)
    core.on_timer(1000)
    assert core.take_output().boots == []
