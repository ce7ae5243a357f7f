"""The acceptor's half of a server: promises, votes, and saying so when they are durable.

Source: Lamport, "Paxos Made Simple" (2001), sections 2.2 and 2.4.
"""

from collections.abc import Callable

from agreement.changes import decode_batch
from agreement.context import Context
from agreement.identifiers import Ballot, MemberId
from agreement.messages import Accept, Accepted, Heartbeat, HeartbeatAck, Nack, Prepare, Promise, VoteReport
from agreement.output import LimitReached
from agreement.proposer import Proposal
from agreement.quorum import Run
from agreement.records import put_promise, put_slot


def promise_parts(
    configuration: int, incarnation: int, prepare: Prepare, decided: int, votes: list[VoteReport], bytes_max: int
) -> list[Promise]:
    """A promise in pieces of at most `bytes_max` bytes of batches, or one batch."""
    pieces: list[list[VoteReport]] = [[]]
    size = 0
    for vote in votes:
        if pieces[-1] and size + len(vote.batch) > bytes_max:
            pieces.append([])
            size = 0
        pieces[-1].append(vote)
        size += len(vote.batch)
    return [
        Promise(configuration, incarnation, prepare.ballot, decided, part, len(pieces), tuple(piece))
        for part, piece in enumerate(pieces)
    ]


class Voting:
    """Answers `Prepare` and `Accept`."""

    def __init__(self, context: Context, clings_to_leader: Callable[[MemberId], bool]) -> None:
        """`clings_to_leader(candidate)`: whether a living leader is a reason to refuse this candidate."""
        self._context = context
        self._clings_to_leader = clings_to_leader
        self._has_new_votes = False
        self._limit_reported_at: int | None = None

    def on_prepare(self, sender: MemberId, prepare: Prepare) -> bool:
        """Phase 1b; whether the promise was given."""
        context = self._context
        acceptor = context.acceptor
        if not acceptor.can_promise(prepare.ballot) or self._clings_to_leader(sender):
            self._refuse(sender, prepare)
            return False
        if acceptor.promise(prepare.ballot):
            context.outbox.write(put_promise(context.number, prepare.ballot))
        decided = context.log.decided
        votes = acceptor.report(max(prepare.first_slot, decided + 1))
        bytes_max = context.settings.part_bytes_max
        incarnation = context.identity.incarnation
        for part in promise_parts(context.number, incarnation, prepare, decided, votes, bytes_max):
            context.outbox.send_when_durable(sender, part)
        return True

    def _refuse(self, sender: MemberId, refused: Prepare | Accept | Heartbeat) -> None:
        context = self._context
        promised = context.acceptor.promised
        nack = Nack(context.number, context.identity.incarnation, refused.ballot, promised)
        context.outbox.send(sender, nack)

    def on_accept(self, sender: MemberId, accept: Accept) -> bool:
        """Phase 2b; whether the leader's ballot is the newest known here."""
        context = self._context
        acceptor = context.acceptor
        if not acceptor.can_vote(accept.ballot):
            self._refuse(sender, accept)
            return False
        decided = context.log.decided
        if accept.slot > decided + context.settings.votes_ahead_max:
            self._report_limit(accept.slot, decided)
            return True
        known = acceptor.votes.get(accept.slot)
        if accept.slot <= decided or (known is not None and known.ballot == accept.ballot):
            # The leader asks again, perhaps after a restart of this server: it must hear which votes it has.
            acceptor.begin_run(accept.ballot, accept.first)
        else:
            self.vote(accept.ballot, accept.first, Proposal(accept.slot, accept.batch, decode_batch(accept.batch)))
        self._has_new_votes = True
        return True

    def is_decided_without(self, accept: Accept) -> bool:
        """Whether the slot is decided here, and not by this leader's ballot as far as this server took part in it."""
        context = self._context
        if accept.slot > context.log.decided:
            return False
        run = context.acceptor.run_after(context.log.decided)
        is_voted = context.acceptor.run_ballot == accept.ballot and run.first <= accept.slot <= run.through
        return not is_voted

    def _report_limit(self, slot: int, decided: int) -> None:
        """Once per position: the leader says the same again and again until this server has caught up."""
        if self._limit_reported_at != decided:
            self._limit_reported_at = decided
            self._context.outbox.report(LimitReached("votes_ahead_max", f"slot {slot}, decided {decided}"))

    def vote(self, ballot: Ballot, first: int, proposal: Proposal) -> None:
        """Vote for what the leader proposes; the leader itself votes here too."""
        context = self._context
        slot, raw, batch = proposal
        decided = context.log.decided
        context.acceptor.vote(ballot, first, slot, raw, batch)
        context.outbox.write(put_slot(context.number, slot, ballot, decided, raw))
        context.decided_written = decided
        self._has_new_votes = True

    def answer_heartbeat(self, sender: MemberId, heartbeat: Heartbeat) -> bool:
        """Say to the leader that this server lives, and its storage does; whether the ballot is the newest known."""
        context = self._context
        acceptor = context.acceptor
        if heartbeat.ballot < acceptor.promised:
            self._refuse(sender, heartbeat)
            return False
        decided = context.log.decided
        run = acceptor.run_after(decided) if acceptor.run_ballot == heartbeat.ballot else Run(decided + 1, decided)
        ack = HeartbeatAck(
            context.number,
            context.identity.incarnation,
            heartbeat.ballot,
            heartbeat.beat,
            run.first,
            run.through,
            context.decided_durable,
            context.durable_configuration,
            decided,
        )
        context.outbox.send_when_durable(sender, ack)
        return True

    def flush(self) -> None:
        """Tell all servers about the votes since the last call, once they are durable."""
        if not self._has_new_votes:
            return
        self._has_new_votes = False
        context = self._context
        acceptor = context.acceptor
        run = acceptor.run_after(context.log.decided)
        accepted = Accepted(context.number, context.identity.incarnation, acceptor.run_ballot, run.first, run.through)
        for server in context.configuration.server_ids:
            context.outbox.send_when_durable(server, accepted)
