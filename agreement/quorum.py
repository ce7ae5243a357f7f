"""When enough members have said the same: one rule, three outcomes.

Source: Lamport, "Paxos Made Simple" (2001), section 2.2 ("any two majorities have at least one acceptor in common").
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from agreement.identifiers import MemberId


class QuorumOutcome(Enum):
    """What is known about a question put to the members."""

    PENDING = "pending"
    REACHED = "reached"
    IMPOSSIBLE = "impossible"


class Run(NamedTuple):
    """The slots `first … through` that one member has voted for in one ballot, without a hole."""

    first: int
    through: int


@dataclass(frozen=True, slots=True)
class QuorumRule:
    """Any `needed` of `members` are a quorum.

    Safety: any two quorums of the same configuration share a member, because
    - with witnesses, `needed = f_c + 1` of `2·f_c + 1` members are a majority;
    - without witnesses, `needed` is all servers; `without` excuses only servers that have surely stopped for ever, so
      that every two sets that are asked still share each living server.
    Quorums of different configurations need not meet: each configuration is a log of its own.
    """

    members: frozenset[MemberId]
    needed: int

    def without(self, excused: Iterable[MemberId]) -> "QuorumRule":
        """The rule for a cell without witnesses, after `excused` servers were fenced."""
        remaining = self.members - frozenset(excused)
        assert remaining, "a rule needs at least one member"
        return QuorumRule(remaining, len(remaining))

    def outcome(self, agreeing: Collection[MemberId], refusing: Collection[MemberId] = ()) -> QuorumOutcome:
        """Whether those who agree are a quorum, or can still become one."""
        yes = len(self.members.intersection(agreeing))
        if yes >= self.needed:
            return QuorumOutcome.REACHED
        no = len(self.members.intersection(refusing))
        return QuorumOutcome.IMPOSSIBLE if len(self.members) - no < self.needed else QuorumOutcome.PENDING

    def reached_through(self, runs: Mapping[MemberId, Run], after: int) -> int:
        """The highest slot `n` such that a quorum has voted for every slot in `after + 1 … n`; `after` if none."""
        throughs = [run.through for member, run in runs.items() if run.first <= after + 1 and member in self.members]
        if len(throughs) < self.needed:
            return after
        throughs.sort(reverse=True)
        return max(after, throughs[self.needed - 1])
