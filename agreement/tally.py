"""The learner of one configuration: whose votes are durable, and what is therefore decided.

Source: Lamport, "Paxos Made Simple" (2001), section 2.3: "each acceptor, whenever it accepts a proposal, [may] respond
to all learners".
"""

from agreement.identifiers import NO_BALLOT, Ballot, MemberId
from agreement.quorum import QuorumRule, Run


class Tally:
    """Votes of the newest ballot heard of.

    Only one ballot is counted: what an older one decided is found again by the newer one's phase 1.
    """

    def __init__(self) -> None:
        self.ballot = NO_BALLOT
        self.runs: dict[MemberId, Run] = {}
        self._announced = -1

    def _turn_to(self, ballot: Ballot) -> bool:
        if ballot > self.ballot:
            self.ballot = ballot
            self.runs = {}
            self._announced = -1
        return ballot == self.ballot

    def record_votes(self, member: MemberId, ballot: Ballot, first: int, through: int) -> bool:
        """`member` has voted for `first … through` in `ballot`; whether that is more than was known."""
        if not self._turn_to(ballot):
            return False
        known = self.runs.get(member)
        if known is not None and (through, -first) <= (known.through, -known.first):
            return False
        self.runs[member] = Run(first, through)
        return True

    def record_decided(self, ballot: Ballot, through: int) -> None:
        """The leader of `ballot` knows everything decided up to `through`."""
        if self._turn_to(ballot) and through > self._announced:
            self._announced = through

    def decided_through(self, rule: QuorumRule, after: int) -> int:
        """The highest slot up to which everything is decided, given that everything up to `after` is."""
        return max(self._announced, rule.reached_through(self.runs, after))

    def voted_through(self, member: MemberId) -> int:
        """The highest slot up to which `member` has voted in this ballot; -1 if nothing is known."""
        run = self.runs.get(member)
        return -1 if run is None else run.through
