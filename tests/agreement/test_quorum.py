"""Quorum rules: outcomes, and that any two quorums meet."""

import itertools

import pytest

from agreement.changes import ServerLeft
from agreement.configuration import Configuration
from agreement.identifiers import Identity, MemberId
from agreement.quorum import QuorumOutcome, QuorumRule, Run
from tests.agreement.local_cell import S0, S1, S2, W0, W1


def cell(tolerated_faults: int, has_witnesses: bool = True) -> Configuration:
    """A cell that is just born."""
    members = [Identity(MemberId.server(number), 1) for number in range(tolerated_faults + 1)]
    members += [Identity(MemberId.witness(number), 1) for number in range(tolerated_faults if has_witnesses else 0)]
    return Configuration.first(members)


@pytest.mark.parametrize("tolerated_faults", [1, 2, 3])
def test_any_two_quorums_of_a_configuration_share_a_member(tolerated_faults: int) -> None:
    """Also after servers have left: the highest-numbered witnesses drop out with them."""
    configuration = cell(tolerated_faults)
    while True:
        rule = configuration.rule
        quorums = list(itertools.combinations(sorted(rule.members), rule.needed))
        assert all(set(one) & set(other) for one in quorums for other in quorums)
        assert len(rule.members) == 2 * len(configuration.servers) - 1
        if len(configuration.servers) == 1:
            return
        configuration = configuration.after(ServerLeft(configuration.servers[0][0], fenced=True))


@pytest.mark.parametrize("tolerated_faults", [1, 2, 3])
def test_the_servers_alone_are_a_quorum(tolerated_faults: int) -> None:
    """Witnesses stay idle while no server is silent."""
    configuration = cell(tolerated_faults)
    assert configuration.rule.outcome(configuration.server_ids) is QuorumOutcome.REACHED
    assert configuration.rule.outcome(configuration.server_ids[1:]) is QuorumOutcome.PENDING


def test_without_witnesses_all_servers_are_the_only_quorum() -> None:
    """A silent server blocks the cell, until it is fenced."""
    rule = cell(2, has_witnesses=False).rule
    assert rule.outcome([S0, S1]) is QuorumOutcome.PENDING
    assert rule.outcome([S0, S1], refusing=[S2]) is QuorumOutcome.IMPOSSIBLE
    assert rule.outcome([S0, S1, S2]) is QuorumOutcome.REACHED
    assert rule.without([S2]).outcome([S0, S1]) is QuorumOutcome.REACHED


def test_members_of_other_configurations_do_not_count() -> None:
    """A vote of somebody who is not asked is no vote."""
    rule = QuorumRule(frozenset([S0, S1, W0]), 2)
    assert rule.outcome([S0, W1, S2]) is QuorumOutcome.PENDING
    assert rule.outcome([S0], refusing=[S1, S2]) is QuorumOutcome.PENDING
    assert rule.outcome([S0], refusing=[S1, W0]) is QuorumOutcome.IMPOSSIBLE


def test_runs_reach_as_far_as_a_quorum_has_voted_without_a_hole() -> None:
    """The needed-th longest run that begins early enough."""
    rule = QuorumRule(frozenset([S0, S1, W0]), 2)
    assert rule.reached_through({S0: Run(0, 7), S1: Run(0, 5)}, after=2) == 5
    assert rule.reached_through({S0: Run(0, 7), W0: Run(3, 9)}, after=2) == 7
    assert rule.reached_through({S0: Run(0, 7), W0: Run(4, 9)}, after=2) == 2
    assert rule.reached_through({S0: Run(0, 7), S2: Run(0, 9)}, after=2) == 2
    assert rule.reached_through({S0: Run(0, 1), S1: Run(0, 1)}, after=2) == 2
