"""Mistakes that others have made, planted to see whether the checkers find them.

Each class is the correct code but for the one rule that it leaves out.
"""

from agreement.configuration import Configuration, Seat
from agreement.context import Role
from agreement.electing import Electing
from agreement.identifiers import Ballot
from agreement.node import Node
from agreement.proposer import Campaign
from agreement.routing import Router
from agreement.witness import Witness
from tests.simulation.agreement.cluster import Cluster


class ForgetfulWitness(Witness):
    """Drops a configuration as it should, but does not remember that it has ended."""

    def has_ended(self, number: int) -> bool:
        """Answer about everything, from whatever memory is left."""
        return False


class ClusterWithForgetfulWitness(Cluster):
    """A witness that forgets too much."""

    witness_type = ForgetfulWitness


class ClusterWithOldIdentities(Cluster):
    """A member that lost its memory answers under its old identity."""

    keeps_identity_without_memory = True


class ShrunkenConfiguration(Configuration, frozen=True):
    """Needs fewer votes after a server has left, but lets all witnesses vote: two quorums need not meet."""

    def voting_witnesses(self) -> tuple[Seat, ...]:
        """All of them."""
        return self.witnesses


class NodeOfShrunkenConfiguration(Node):
    """A server that counts so."""

    configuration_type = ShrunkenConfiguration


class ClusterOfShrunkenConfigurations(Cluster):
    """Quorums of a shrunken configuration that do not meet."""

    node_type = NodeOfShrunkenConfiguration
    configuration_type = ShrunkenConfiguration


class BallotKeepingElecting(Electing):
    """Goes on proposing in the next configuration with the ballot of the former one, without phase 1."""

    def enter_configuration(self, led_before: bool) -> None:
        """Lead at once."""
        ballot = self._context.ballot
        super().enter_configuration(led_before=False)
        if led_before and self._context.is_member and ballot is not None:
            self._lead_without_phase_1(ballot)

    def _lead_without_phase_1(self, ballot: Ballot) -> None:
        context = self._context
        if not context.acceptor.can_vote(ballot):
            return
        context.role = Role.LEADER
        self._leadership.begin(Campaign(ballot, context.now_ms))
        self._set_leader(ballot)


class BallotKeepingRouter(Router):
    """Wires it in."""

    electing_type = BallotKeepingElecting


class BallotKeepingNode(Node):
    """A server that does so."""

    router_type = BallotKeepingRouter


class ClusterWithKeptBallots(Cluster):
    """A leader that keeps its ballot across configurations."""

    node_type = BallotKeepingNode


class ClusterWithLyingDisks(Cluster):
    """Disks that say a write is durable before it is."""

    do_disks_lie = True


PLANTED: dict[str, type[Cluster]] = {
    "forgetful-witness": ClusterWithForgetfulWitness,
    "old-identity": ClusterWithOldIdentities,
    "shrunken-quorum": ClusterOfShrunkenConfigurations,
    "kept-ballot": ClusterWithKeptBallots,
    "lying-disk": ClusterWithLyingDisks,
}
