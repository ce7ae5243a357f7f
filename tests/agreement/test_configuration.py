"""What each change makes of a configuration, and which changes are impossible."""

import msgspec
import pytest

from agreement.changes import ServerJoined, ServerLeft, WitnessReplaced
from agreement.configuration import Configuration
from agreement.identifiers import Identity, MemberId
from tests.agreement.local_cell import S0, S1, S2, W0, W1
from tests.agreement.test_quorum import cell


def test_the_highest_witness_drops_out_with_a_server_and_comes_back_with_one() -> None:
    """`f_c + 1` servers vote beside `f_c` witnesses."""
    first = cell(2)
    assert (first.server_ids, first.witness_ids) == ((S0, S1, S2), (W0, W1))
    second = first.after(ServerLeft(1, fenced=False))
    assert (second.number, second.server_ids, second.witness_ids) == (2, (S0, S2), (W0,))
    assert second.known_witness_ids == (W0, W1)
    third = second.after(ServerJoined(1, 7, b""))
    assert (third.number, third.witness_ids) == (3, (W0, W1))
    assert third.names(Identity(S1, 7))
    assert not third.names(Identity(S1, 1))


def test_a_returned_server_needs_an_incarnation_that_was_never_named() -> None:
    """Otherwise its old promises, or its old numbers, would be taken for new ones."""
    left = cell(1).after(ServerLeft(1, fenced=True))
    assert left.latest_incarnation(S1) == 1
    assert "not newer" in str(left.objection(ServerJoined(1, 1, b"")))
    joined = left.after(ServerJoined(1, 5, b""))
    again = joined.after(ServerLeft(1, fenced=True))
    assert again.latest_incarnation(S1) == 5
    assert again.objection(ServerJoined(1, 5, b"")) is not None
    assert again.objection(ServerJoined(1, 6, b"")) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (ServerLeft(9, fenced=True), "is not in configuration"),
        (ServerJoined(1, 2, b""), "already"),
        (ServerJoined(9, 2, b""), "unknown"),
        (WitnessReplaced(9, 2), "unknown"),
        (WitnessReplaced(0, 1), "not newer"),
    ],
)
def test_an_impossible_change_is_objected_to(change: ServerLeft | ServerJoined | WitnessReplaced, reason: str) -> None:
    """The objection is a sentence for the operator."""
    assert reason in str(cell(1).objection(change))


def test_the_last_server_cannot_leave() -> None:
    """There would be nobody to order anything."""
    alone = cell(1).after(ServerLeft(0, fenced=True))
    assert alone.objection(ServerLeft(1, fenced=True)) == "the last server cannot leave"


def test_a_replaced_witness_votes_as_its_new_incarnation_only() -> None:
    """Also one that is known but does not vote at present."""
    replaced = cell(2).after(WitnessReplaced(1, 4))
    assert replaced.incarnations[W1] == 4
    smaller = replaced.after(ServerLeft(0, fenced=False))
    assert W1 not in smaller.incarnations
    assert smaller.after(WitnessReplaced(1, 5)).latest_incarnation(W1) == 5


@pytest.mark.parametrize(
    "members",
    [
        [],
        [Identity(W0, 1)],
        [Identity(S0, 1), Identity(S0, 2)],
        [Identity(S0, 1), Identity(S1, 1), Identity(MemberId.witness(0), 1), Identity(MemberId.witness(1), 1)],
    ],
)
def test_a_cell_has_servers_and_as_many_witnesses_as_faults_or_none(members: list[Identity]) -> None:
    """A wrong number is the configuration's mistake, and found at once."""
    with pytest.raises(ValueError, match=r"servers"):
        Configuration.first(members)


def test_a_configuration_goes_over_the_wire_unchanged() -> None:
    """Witnesses are told in which one they are."""
    original = cell(2).after(ServerLeft(1, fenced=False))
    assert original.rule.needed == 2  # derived values are not sent
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(original), type=Configuration) == original
