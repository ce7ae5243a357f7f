"""Who votes, and what each change makes of it."""

from collections.abc import Callable

import pytest

from agreement.changes import Change, ServerJoined, ServerLeft, WitnessReplaced
from agreement.configuration import Configuration
from agreement.identifiers import Identity, MemberId

S0, S1, S2 = (MemberId.server(number) for number in range(3))
W0, W1 = (MemberId.witness(number) for number in range(2))


def cell(faults: int, has_witnesses: bool = True) -> Configuration:
    """The first configuration of a cell for so many faults."""
    servers = [Identity(MemberId.server(number), 1) for number in range(faults + 1)]
    witnesses = [Identity(MemberId.witness(number), 1) for number in range(faults if has_witnesses else 0)]
    return Configuration.first([*witnesses, *reversed(servers)])


def test_a_cell_is_born_with_f_plus_1_servers_and_f_witnesses_in_any_order_of_naming() -> None:
    """Members are sorted, so that every member makes the same first configuration."""
    first = cell(2)
    assert (first.number, first.server_ids, first.witness_ids) == (1, (S0, S1, S2), (W0, W1))
    assert first.rule.needed == 3


@pytest.mark.parametrize(
    "members",
    [
        [],
        [Identity(W0, 1)],
        [Identity(S0, 1), Identity(S0, 2)],
        [Identity(S0, 1), Identity(W0, 1)],
        [Identity(S0, 1), Identity(S1, 1), Identity(S2, 1), Identity(W0, 1)],
    ],
)
def test_a_cell_with_too_many_or_too_few_members_is_refused(members: list[Identity]) -> None:
    """No server, a member named twice, or witnesses that are neither none nor one fewer than the servers."""
    with pytest.raises(ValueError):
        Configuration.first(members)


def test_with_each_server_that_leaves_the_highest_numbered_witness_drops_out_and_comes_back() -> None:
    """More witnesses than faults to tolerate would make two quorums that do not meet."""
    second = cell(2).after(ServerLeft(1, fenced=False))
    assert (second.number, second.server_ids, second.witness_ids) == (2, (S0, S2), (W0,))
    assert second.known_witness_ids == (W0, W1)
    third = second.after(ServerLeft(0, fenced=True))
    assert (third.server_ids, third.witness_ids, third.rule.needed) == ((S2,), (), 1)
    fourth = third.after(ServerJoined(1, 5, b""))
    assert (fourth.number, fourth.server_ids, fourth.witness_ids) == (4, (S1, S2), (W0,))
    assert fourth.names(Identity(S1, 5))
    assert not fourth.names(Identity(S1, 1))


def test_a_server_that_left_is_known_by_its_latest_incarnation() -> None:
    """So that it cannot come back as somebody who may have promised something."""
    second = cell(1).after(ServerLeft(1, fenced=False))
    assert second.latest_incarnation(S1) == 1
    assert not second.names(Identity(S1, 1))
    assert second.server_incarnation(1) is None
    assert second.latest_incarnation(S2) == 0


def test_a_replaced_witness_votes_as_its_new_incarnation_only() -> None:
    """The members are otherwise the same."""
    second = cell(1).after(WitnessReplaced(0, 3))
    assert second.names(Identity(W0, 3))
    assert not second.names(Identity(W0, 1))
    assert second.servers == cell(1).servers


def test_a_witness_may_be_replaced_while_it_does_not_vote() -> None:
    """It votes as its new incarnation when it comes back."""
    second = cell(2).after(ServerLeft(0, fenced=False)).after(WitnessReplaced(1, 4))
    assert not second.names(Identity(W1, 4))
    assert second.after(ServerJoined(0, 2, b"")).names(Identity(W1, 4))


@pytest.mark.parametrize(
    ("begin", "change", "reason"),
    [
        (lambda: cell(1), ServerLeft(7, fenced=True), "server 7 is not in configuration 1"),
        (lambda: cell(1).after(ServerLeft(1, fenced=True)), ServerLeft(0, fenced=True), "last server cannot leave"),
        (lambda: cell(1), ServerJoined(1, 2, b""), "is in configuration 1 already"),
        (lambda: cell(1), ServerJoined(7, 2, b""), "server 7 is unknown"),
        (lambda: cell(1).after(ServerLeft(1, fenced=True)), ServerJoined(1, 1, b""), "is not newer than 1"),
        (lambda: cell(1), WitnessReplaced(4, 2), "witness 4 is unknown"),
        (lambda: cell(1), WitnessReplaced(0, 1), "is not newer than 1"),
    ],
)
def test_an_impossible_change_is_objected_to_in_a_sentence_and_never_applied(
    begin: Callable[[], Configuration], change: Change, reason: str
) -> None:
    """The operator reads the sentence; applying the change all the same is a broken invariant."""
    configuration = begin()
    objection = configuration.objection(change)
    assert objection is not None
    assert reason in objection
    with pytest.raises(AssertionError):
        configuration.after(change)


def test_a_change_leaves_the_configuration_before_it_as_it_was() -> None:
    """A configuration's members never change."""
    first = cell(1)
    first.after(ServerLeft(0, fenced=False))
    assert first == cell(1)


def test_a_cell_without_witnesses_never_gets_any() -> None:
    """All servers remain the only quorum, however many there are."""
    reached = cell(2, has_witnesses=False)
    for change in (ServerLeft(0, fenced=True), ServerJoined(0, 2, b""), ServerLeft(1, fenced=True)):
        reached = reached.after(change)
        assert reached.witness_ids == ()
        assert reached.rule.needed == len(reached.servers)
