"""The acceptor of one configuration: what it promised, what it voted for.

Source: Lamport, "Paxos Made Simple" (2001), section 2.2, P1a: "An acceptor can accept a proposal numbered n iff it has
not responded to a prepare request having a number greater than n."
"""

from collections.abc import Iterable
from typing import NamedTuple

from agreement.changes import Batch, decode_batch
from agreement.identifiers import NO_BALLOT, Ballot
from agreement.messages import VoteReport
from agreement.quorum import Run
from agreement.records import StoredConfiguration


class Vote(NamedTuple):
    """The newest vote for one slot."""

    ballot: Ballot
    raw: bytes
    batch: Batch


class Acceptor:
    """Promises and votes in one configuration, above the slots that are decided.

    It holds no reference to storage: whoever calls `promise` or `vote` writes the record, and answers only when the
    record is durable.
    """

    def __init__(self, configuration: int, stored: StoredConfiguration | None = None, decided: int = -1) -> None:
        """Start empty, or as `stored`; `decided` is the slot up to which the owner knows everything decided."""
        self.configuration = configuration
        self.promised = NO_BALLOT
        self.votes: dict[int, Vote] = {}
        self.run_ballot = NO_BALLOT
        self._run_first = 0
        self._run_through = -1
        if stored is not None:
            self._restore(stored, decided)

    def _restore(self, stored: StoredConfiguration, decided: int) -> None:
        ballots = [record.ballot for record in stored.slots.values() if record.ballot is not None]
        self.promised = max([stored.promised, *ballots])
        for slot, record in stored.slots.items():
            # A batch that was learned to be decided, above a gap, is no vote; those who chose it have theirs.
            if slot > decided and record.ballot is not None:
                self.votes[slot] = Vote(record.ballot, record.batch, decode_batch(record.batch))

    def run_after(self, decided: int) -> Run:
        """The newest slots voted for in `run_ballot` without a hole, given that everything up to `decided` is decided.

        A hole that is decided, left by a message lost or a restart, never closes, since nobody proposes a decided slot
        again; the run then begins anew above it.  The hole itself must not count as voted for: it may have been
        decided, otherwise, in a higher ballot than this one.
        """
        if self._run_through < decided:
            self._run_first, self._run_through = decided + 1, decided
        following = self._run_through + 1
        votes, ballot = self.votes, self.run_ballot
        while (vote := votes.get(following)) is not None and vote.ballot == ballot:
            following += 1
        self._run_through = following - 1
        return Run(self._run_first, self._run_through)

    def can_promise(self, ballot: Ballot) -> bool:
        """Whether a `Prepare` for `ballot` may be answered."""
        return ballot >= self.promised

    def promise(self, ballot: Ballot) -> bool:
        """Promise never again to vote below `ballot`; whether that is news and must be written."""
        assert self.can_promise(ballot), f"promised {self.promised}, asked for {ballot}"
        is_new = ballot > self.promised
        self.promised = ballot
        return is_new

    def can_vote(self, ballot: Ballot) -> bool:
        """Whether an `Accept` of `ballot` may be voted for."""
        return ballot >= self.promised

    def vote(self, ballot: Ballot, first: int, slot: int, raw: bytes, batch: Batch) -> None:
        """Vote for `raw` in `slot`; `first` as in `begin_run`.

        Invariant: a leader proposes one batch per slot and ballot, so a repeated vote changes nothing.
        """
        assert self.can_vote(ballot), f"promised {self.promised}, asked for a vote in {ballot}"
        self.promised = ballot
        self.votes[slot] = Vote(ballot, raw, batch)
        self.begin_run(ballot, first)

    def begin_run(self, ballot: Ballot, first: int) -> None:
        """The leader of `ballot` asks for votes from `first` on."""
        if ballot != self.run_ballot:
            self.run_ballot, self._run_first, self._run_through = ballot, first, first - 1
        elif first > self._run_through + 1:
            # A witness that was not asked for a while: the slots between are none of its business.
            self._run_first, self._run_through = first, first - 1

    def forget_through(self, slots: Iterable[int]) -> None:
        """Drop the votes for `slots`, which are decided and kept elsewhere."""
        for slot in slots:
            self.votes.pop(slot, None)

    def report(self, first_slot: int) -> list[VoteReport]:
        """The votes from `first_slot` on, ascending."""
        slots = sorted(slot for slot in self.votes if slot >= first_slot)
        return [VoteReport(slot, self.votes[slot].ballot, self.votes[slot].raw) for slot in slots]
