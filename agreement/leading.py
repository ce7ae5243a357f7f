"""The leader's half of a server: phase 2, heartbeats, witnesses in place of silent servers, crashes.

Source: Lamport, "Paxos Made Simple" (2001), section 3; Lamport and Massa, "Cheap Paxos" (2004), section 3 (auxiliary
processors take part only when a main processor fails); design "Agreement stage".
"""

from collections.abc import Callable

from agreement.changes import Change
from agreement.context import Context, Role
from agreement.identifiers import MemberId
from agreement.messages import Accept, Decision, Heartbeat, HeartbeatAck
from agreement.output import ServerSuspected, WitnessUsed
from agreement.proposer import Campaign, Proposal, Proposer
from agreement.quorum import QuorumOutcome
from agreement.releasing import Releasing
from agreement.voting import Voting


class Leading:
    """Phase 2 of the own ballot."""

    def __init__(self, context: Context, voting: Voting, admit: Callable[[bytes], bytes] | None) -> None:
        self._context = context
        self._voting = voting
        self._admit = admit
        self._led_ms: int | None = None
        self._contact_ms: dict[MemberId, int] = {}
        self._answered: set[MemberId] = set()
        """Who has answered since this leadership began."""
        self._suspected_ms: dict[MemberId, int] = {}
        self.releasing = Releasing(context)
        self._beat = 0
        self._beat_ms = 0
        self._resent_ms = 0
        self._resend_below = 0
        """Slots below this one were proposed a resend interval ago or earlier."""
        self._witness_first: int | None = None
        """The first slot for which the witnesses were asked, while they are."""
        self._decision_sent = -1
        self._watched_token = 0
        self._watched_ms = context.now_ms

    # --- phase 2 -----------------------------------------------------------------------------------------------

    def begin(self, campaign: Campaign) -> None:
        """Phase 1 is complete: propose what it demands, then what waits."""
        context = self._context
        inherited = campaign.proposals(context.log.decided + 1)
        context.proposer = Proposer(campaign.ballot, context.log.state, inherited, context.settings, self._admit)
        context.ballot = campaign.ballot
        self._decision_sent = context.log.decided
        self._witness_first = None
        self.releasing.begin()
        self._begin_contact()
        self._watched_token, self._watched_ms = context.outbox.pending_token, context.now_ms
        self._beat = 0
        self._send_heartbeat()
        for proposal in inherited:
            self._put_forward(proposal)

    def _begin_contact(self) -> None:
        """Silence counts from now, or from before if this server led a moment ago."""
        context = self._context
        recent = self._led_ms is not None and context.now_ms - self._led_ms < context.settings.election_timeout_max_ms
        kept = self._contact_ms if recent else {}
        self._contact_ms = {peer: kept.get(peer, context.now_ms) for peer in context.peers}
        self._answered.clear()
        self._led_ms = self._resent_ms = context.now_ms
        self._resend_below = 0

    def propose_waiting(self) -> None:
        """Cut batches while slots are free."""
        proposer = self._context.proposer
        while proposer is not None and (proposal := proposer.next_proposal()) is not None:
            self._put_forward(proposal)

    def propose_change(self, change: Change) -> None:
        """End the configuration with `change`."""
        proposer = self._context.proposer
        assert proposer is not None, "only a leader proposes"
        self._put_forward(proposer.propose_change(change))

    def _put_forward(self, proposal: Proposal) -> None:
        """Phase 2a, in parallel with the own vote's way to the storage."""
        context = self._context
        proposer = context.proposer
        assert proposer is not None, "only a leader proposes"
        self._voting.vote(proposer.ballot, proposer.first, proposal)
        context.send_to_peers(self._accept(proposal))
        if self._witness_first is not None:
            self._ask_witnesses(proposal)

    def _accept(self, proposal: Proposal) -> Accept:
        context = self._context
        proposer = context.proposer
        assert proposer is not None, "only a leader proposes"
        incarnation, decided = context.identity.incarnation, context.log.decided
        return Accept(
            context.number, incarnation, proposer.ballot, proposer.first, proposal.slot, decided, proposal.raw
        )

    def flush(self) -> None:
        """Tell the servers what is decided, where they cannot count for themselves."""
        context = self._context
        if self._witness_first is None and not context.fenced:
            return
        decided = context.log.decided
        if decided > self._decision_sent and context.ballot is not None:
            self._decision_sent = decided
            context.send_to_peers(Decision(context.number, context.identity.incarnation, context.ballot, decided))

    # --- contact -----------------------------------------------------------------------------------------------

    def note_contact(self, member: MemberId) -> None:
        """`member` has answered this leader."""
        self._contact_ms[member] = self._context.now_ms
        self._answered.add(member)

    def on_heartbeat_ack(self, sender: MemberId, ack: HeartbeatAck) -> None:
        """A server answers: it lives, and its storage does."""
        if ack.ballot != self._context.ballot:
            return
        self.note_contact(sender)
        self.releasing.on_heartbeat_ack(sender, ack)

    def has_quorum_contact(self) -> bool:
        """Whether a quorum has answered within the shortest election timeout."""
        context = self._context
        limit_ms = context.now_ms - context.settings.election_timeout_min_ms
        answering = [member for member, contact_ms in self._contact_ms.items() if contact_ms > limit_ms]
        return context.rule.outcome([context.own, *answering]) is QuorumOutcome.REACHED

    def silent_servers(self, for_ms: int) -> list[MemberId]:
        """The servers that have not answered for `for_ms`."""
        limit_ms = self._context.now_ms - for_ms
        return [peer for peer in self._context.peers if self._contact_ms[peer] <= limit_ms]

    def answering_servers(self) -> set[MemberId]:
        """The servers that have answered this very leadership, and lately."""
        limit_ms = self._context.now_ms - self._context.settings.witness_timeout_ms
        return {peer for peer in self._answered if self._contact_ms[peer] > limit_ms}

    # --- time --------------------------------------------------------------------------------------------------

    @property
    def next_timer_ms(self) -> int | None:
        """When `on_timer` has something to do."""
        if self._context.role is not Role.LEADER:
            return None
        return self._beat_ms + self._context.settings.heartbeat_ms

    def on_timer(self) -> None:
        """Heartbeat; say again what was not answered; bring witnesses in or out; declare crashes."""
        context = self._context
        if context.role is not Role.LEADER or context.now_ms < self._beat_ms + context.settings.heartbeat_ms:
            return
        self._led_ms = context.now_ms
        self._watch_own_storage()
        self._send_heartbeat()
        self._use_witnesses_or_not()
        if context.now_ms - self._resent_ms >= context.settings.resend_ms:
            self._resent_ms = context.now_ms
            self._resend()
        self._suspect_silent_servers()
        self.releasing.on_timer()

    def _send_heartbeat(self) -> None:
        context = self._context
        assert context.ballot is not None, "a leader has a ballot"
        self._beat += 1
        self._beat_ms = context.now_ms
        incarnation = context.identity.incarnation
        context.send_to_peers(Heartbeat(context.number, incarnation, context.ballot, context.log.decided, self._beat))

    def _resend(self) -> None:
        """Send again the oldest proposals that a server has not voted for; its connection may have broken."""
        context = self._context
        proposer = context.proposer
        assert proposer is not None, "a leader proposes"
        targets = context.peers + (() if self._witness_first is None else context.configuration.witness_ids)
        for member in targets:
            missing = context.tally.voted_through(member) + 1
            for slot in sorted(proposer.in_flight):
                if missing <= slot < self._resend_below:
                    self._send_again(member, proposer.in_flight[slot])
        self._resend_below = proposer.next_slot

    def _send_again(self, member: MemberId, proposal: Proposal) -> None:
        if member.is_server:
            self._context.outbox.send(member, self._accept(proposal))
        else:
            self._ask_witness(member, proposal)

    # --- witnesses ---------------------------------------------------------------------------------------------

    def _use_witnesses_or_not(self) -> None:
        context = self._context
        silent = self.silent_servers(context.settings.witness_timeout_ms)
        if not silent or not context.configuration.witness_ids:
            self._witness_first = None
        elif self._witness_first is None:
            proposer = context.proposer
            assert proposer is not None, "a leader proposes"
            self._witness_first = context.log.decided + 1
            context.outbox.report(WitnessUsed(tuple(silent)))
            for slot in sorted(proposer.in_flight):
                self._ask_witnesses(proposer.in_flight[slot])

    def _ask_witnesses(self, proposal: Proposal) -> None:
        for witness in self._context.configuration.witness_ids:
            self._ask_witness(witness, proposal)

    def _ask_witness(self, witness: MemberId, proposal: Proposal) -> None:
        context = self._context
        proposer, first = context.proposer, self._witness_first
        assert proposer is not None, "a leader proposes"
        assert first is not None, "witnesses are in use"
        if context.tally.voted_through(witness) < context.log.decided:
            # It missed a slot that the others decided.  Nobody proposes that one again, so its run would end there for
            # ever, and with one more member down nothing would be decided: let it begin anew above.
            first = context.log.decided + 1
        accept = Accept(
            context.number,
            context.identity.incarnation,
            proposer.ballot,
            first,
            proposal.slot,
            context.log.decided,
            proposal.raw,
            context.configuration,
            self.releasing.released_through(),
        )
        self.releasing.note_asked(witness, proposal.slot)
        context.outbox.send(witness, accept)

    # --- crashes -----------------------------------------------------------------------------------------------

    def _suspect_silent_servers(self) -> None:
        context = self._context
        settings = context.settings
        for server in self.silent_servers(settings.crash_timeout_ms):
            if context.now_ms - self._suspected_ms.get(server, -settings.crash_timeout_ms) < settings.crash_timeout_ms:
                continue
            self._suspected_ms[server] = context.now_ms
            silent_ms = context.now_ms - self._contact_ms[server]
            context.outbox.report(ServerSuspected(server.number, silent_ms))

    def crashed_server(self) -> MemberId | None:
        """The silent server that this leader orders to leave, if it may."""
        settings = self._context.settings
        if not settings.declares_crashes or not self._context.configuration.witnesses:
            return None
        return next(iter(self.silent_servers(settings.crash_timeout_ms)), None)

    def _watch_own_storage(self) -> None:
        outbox = self._context.outbox
        if outbox.is_durable(self._watched_token):
            self._watched_token, self._watched_ms = outbox.pending_token, self._context.now_ms

    def has_hung_storage(self) -> bool:
        """Whether a write of this leader has not become durable for `crash_timeout_ms`.

        Its heartbeats say that it lives, and every server answers, but it never has a vote of its own.
        """
        context = self._context
        silent_ms = context.now_ms - self._watched_ms
        return silent_ms >= context.settings.crash_timeout_ms and not context.outbox.is_durable(self._watched_token)

    def after_pause(self) -> None:
        """This process itself was paused: nobody was silent, nobody was heard."""
        self._contact_ms = dict.fromkeys(self._contact_ms, self._context.now_ms)
        self._watched_ms = self._context.now_ms
