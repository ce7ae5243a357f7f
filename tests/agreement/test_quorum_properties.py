"""Quorums of every configuration we use, exhaustively, and the rules against a slow count of the same."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement.changes import ServerLeft
from agreement.configuration import Configuration
from agreement.identifiers import Identity, MemberId
from agreement.quorum import QuorumOutcome, QuorumRule, Run

S0, S1, S2 = (MemberId.server(number) for number in range(3))
W0, W1 = (MemberId.witness(number) for number in range(2))


def configuration(faults: int, has_witnesses: bool = True) -> Configuration:
    """The first configuration of a cell for so many faults."""
    servers = [Identity(MemberId.server(number), 1) for number in range(faults + 1)]
    witnesses = [Identity(MemberId.witness(number), 1) for number in range(faults if has_witnesses else 0)]
    return Configuration.first(servers + witnesses)


def quorums(rule: QuorumRule) -> list[frozenset[MemberId]]:
    """Every set of members that the rule calls a quorum."""
    members = sorted(rule.members)
    subsets = [frozenset(chosen) for count in range(len(members) + 1) for chosen in combinations(members, count)]
    return [subset for subset in subsets if rule.outcome(subset) is QuorumOutcome.REACHED]


@pytest.mark.parametrize("has_witnesses", [True, False])
@pytest.mark.parametrize("faults", [1, 2, 3])
def test_every_pair_of_quorums_intersects_in_every_configuration_that_departures_lead_to(
    faults: int, has_witnesses: bool
) -> None:
    """Any two quorums of one configuration share a member, also after each departure down to the last server."""
    reached = configuration(faults, has_witnesses)
    for server in range(faults, -1, -1):
        found = quorums(reached.rule)
        assert found, "some set of members is a quorum"
        assert all(one & other for one in found for other in found)
        if server:
            reached = reached.after(ServerLeft(server, fenced=True))
    assert reached.rule == QuorumRule(frozenset({S0}), 1)


@pytest.mark.parametrize("faults", [1, 2, 3])
def test_with_witnesses_any_f_plus_1_members_are_a_quorum_and_f_are_not(faults: int) -> None:
    """The smallest quorums are exactly the sets of `f + 1` of the `2f + 1` members."""
    rule = configuration(faults).rule
    smallest = {quorum for quorum in quorums(rule) if len(quorum) == faults + 1}
    assert smallest == {frozenset(chosen) for chosen in combinations(sorted(rule.members), faults + 1)}
    assert min(len(quorum) for quorum in quorums(rule)) == faults + 1


@pytest.mark.parametrize("faults", [1, 2, 3])
def test_without_witnesses_only_all_servers_are_a_quorum(faults: int) -> None:
    """A silent server keeps a quorum from being reached until it is fenced."""
    rule = configuration(faults, has_witnesses=False).rule
    assert quorums(rule) == [rule.members]


@pytest.mark.parametrize("faults", [1, 2, 3])
def test_two_sets_asked_before_and_after_a_fence_share_every_living_server(faults: int) -> None:
    """Excusing servers that have stopped for ever takes no living server out of any quorum."""
    rule = configuration(faults, has_witnesses=False).rule
    for count in range(1, faults + 1):
        for fenced in combinations(sorted(rule.members), count):
            living = rule.members - set(fenced)
            assert quorums(rule.without(fenced)) == [living]
            assert all(living <= quorum for quorum in quorums(rule))


@given(st.lists(st.sampled_from([S0, S1, S2, W0, W1]), unique=True), st.data())
def test_a_reached_or_impossible_outcome_stays_whatever_the_others_say_later(
    answered: list[MemberId], data: st.DataObject
) -> None:
    """Answers of members who were silent before never turn a certain outcome into another one."""
    agreeing = data.draw(st.sets(st.sampled_from(answered))) if answered else set()
    refusing = set(answered) - agreeing
    rule = configuration(2).rule
    outcome = rule.outcome(agreeing, refusing)
    silent = sorted(rule.members - set(answered))
    for count in range(len(silent) + 1):
        for more in combinations(silent, count):
            rest = set(silent) - set(more)
            if outcome is not QuorumOutcome.PENDING:
                assert rule.outcome(agreeing | set(more), refusing | rest) is outcome
    finals = {rule.outcome(agreeing | set(silent), refusing), rule.outcome(agreeing, refusing | set(silent))}
    assert outcome is not QuorumOutcome.PENDING or finals == {QuorumOutcome.REACHED, QuorumOutcome.IMPOSSIBLE}


RUNS = st.dictionaries(
    st.sampled_from([S0, S1, S2, W0, W1]), st.builds(Run, st.integers(0, 6), st.integers(-1, 8)), max_size=5
)


@given(RUNS, st.integers(-1, 5))
def test_reached_through_is_the_highest_slot_whose_every_slot_below_has_a_quorum(
    runs: dict[MemberId, Run], after: int
) -> None:
    """The fast count over runs agrees with asking slot by slot whether a quorum has voted from `after + 1` on."""
    rule = configuration(2).rule
    through = after
    while True:
        slot = through + 1
        voters = [member for member, run in runs.items() if run.first <= after + 1 and slot <= run.through]
        if rule.outcome(voters) is not QuorumOutcome.REACHED:
            break
        through = slot
    assert rule.reached_through(runs, after) == through


def test_excusing_every_member_is_a_broken_invariant() -> None:
    """A rule without members would call the empty set a quorum."""
    with pytest.raises(AssertionError):
        QuorumRule(frozenset({S0}), 1).without({S0})
