"""Born, recovered, amnesiac: a memory must fit the identity."""

import random

import pytest

from agreement.birth import Start
from agreement.errors import AmnesiaError
from agreement.identifiers import Identity, MemberId, first_number
from agreement.node import Node
from agreement.records import PREFIX, PREFIX_END, read_storage
from agreement.settings import AgreementSettings
from agreement.witness import Witness
from tests.agreement.local_cell import S0, S1, W0, LocalCell

MEMBERS = [Identity(S0, 1), Identity(S1, 1), Identity(W0, 1)]
SETTINGS = AgreementSettings()


def born(identity: Identity) -> tuple[tuple[bytes, bytes], ...]:
    """The storage of a member after its birth."""
    core: Node | Witness
    if identity.member.is_server:
        core = Node.born(identity, SETTINGS, MEMBERS, random.Random(0), 0)
    else:
        core = Witness.born(identity, SETTINGS, MEMBERS, 0)
    return tuple((write[0], write[1]) for write in core.take_output().writes)


def start_with_nothing(identity: Identity, start: Start) -> Node | Witness:
    """A member whose storage is empty."""
    if identity.member.is_server:
        return Node(identity, SETTINGS, MEMBERS, (), random.Random(0), 0, start=start)
    return Witness(identity, SETTINGS, MEMBERS, (), 0, start=start)


@pytest.mark.parametrize("member", [S0, W0])
def test_the_first_write_is_the_birth_record(member: MemberId) -> None:
    """An empty storage later is then known to have lost something."""
    content = born(Identity(member, 1))
    assert read_storage(content).identity == Identity(member, 1)


@pytest.mark.parametrize("member", [S0, W0])
def test_an_empty_storage_cannot_be_recovered(member: MemberId) -> None:
    """It would be amnesia under an old identity."""
    with pytest.raises(AmnesiaError, match="memory of nobody"):
        start_with_nothing(Identity(member, 1), Start.RECOVERED)


def test_the_memory_of_another_member_or_incarnation_cannot_be_recovered() -> None:
    """Two processes would speak with one voice."""
    for identity in (Identity(S1, 1), Identity(S0, 2)):
        with pytest.raises(AmnesiaError, match="memory of s0#1"):
            Node.recovered(identity, SETTINGS, MEMBERS, born(Identity(S0, 1)), random.Random(0), 0)


def test_nobody_is_born_with_a_memory_or_in_a_later_incarnation() -> None:
    """The caller has mistaken a restart for a birth."""
    with pytest.raises(AmnesiaError, match="is to be born, but its storage"):
        Node(Identity(S0, 1), SETTINGS, MEMBERS, born(Identity(S0, 1)), random.Random(0), 0, start=Start.BORN)
    with pytest.raises(AmnesiaError, match="another incarnation"):
        Node.born(Identity(S0, 2), SETTINGS, MEMBERS, random.Random(0), 0)


@pytest.mark.parametrize("member", [S0, W0])
def test_an_amnesiac_needs_a_new_incarnation(member: MemberId) -> None:
    """The old one has promised what it does not remember."""
    with pytest.raises(AmnesiaError, match="never used"):
        start_with_nothing(Identity(member, 1), Start.AMNESIAC)


def test_an_amnesiac_erases_what_the_storage_holds() -> None:
    """Its first batch: nothing of a damaged memory is found by a later restart."""
    cell = LocalCell()
    cell.elect()
    cell.crash(S1)
    node = Node.amnesiac(Identity(S1, 2), SETTINGS, MEMBERS, random.Random(0), 0)
    storage = cell.storages[S1]
    storage.write(node.take_output().writes)
    stored = read_storage(storage.scan(PREFIX, PREFIX_END))
    assert (stored.identity, stored.configurations) == (Identity(S1, 2), {})


def test_each_restart_with_memory_is_a_new_life_of_the_origin() -> None:
    """Numbers that may be under way are never used for other entries."""
    cell = LocalCell()
    cell.elect()
    assert cell.propose(S1, b"before") == first_number(0)
    cell.run()
    for life in (1, 2):
        cell.crash(S1)
        cell.restart(S1)
        assert cell.propose(S1, b"after %d" % life) == first_number(life)
        cell.advance(2_000)
    assert cell.payloads(S0) == [b"before", b"after 1", b"after 2"]
