"""Who leads: randomised, growing timeouts, and phase 1 of the candidate.

A server that has heard of a living leader lately refuses other candidates, and so does a leader that has lately heard
of a quorum: a server that cannot hear the leader must not stop those who can.  That is a matter of progress only;
safety rests on the ballots alone.

Source: Lamport, "Paxos Made Simple" (2001), sections 2.2 phase 1 and 2.4; design "Agreement stage", Leader change.
"""

from typing import Protocol

from agreement.context import Context, Role
from agreement.identifiers import Ballot, MemberId
from agreement.messages import Nack, Prepare, Promise
from agreement.output import LeaderChanged, ServerSuspected
from agreement.proposer import Campaign
from agreement.quorum import QuorumOutcome


class Leadership(Protocol):
    """What begins when a campaign is won."""

    def begin(self, campaign: Campaign) -> None:
        """Phase 1 is complete: lead."""
        ...

    def has_quorum_contact(self) -> bool:
        """Whether a quorum has answered this leader lately."""
        ...


class Electing:
    """The candidate's half of a server."""

    def __init__(self, context: Context, leadership: Leadership) -> None:
        self._context = context
        self._leadership = leadership
        self._growth = 1.0
        self._leader_heard_ms: int | None = None
        self._leaderless_ms: int | None = None
        """Since when this server has tried to lead in vain."""
        self._suspected_ms = context.now_ms
        self._last_heard_ms: dict[MemberId, int] = {}
        self.deadline_ms = context.now_ms

    # --- the leader that is followed ---------------------------------------------------------------------------

    def clings_to_leader(self, candidate: MemberId) -> bool:
        """Whether a living leader is a reason to refuse `candidate`."""
        context = self._context
        if candidate in (context.leader, context.own):
            return False
        if context.role is Role.LEADER:
            return self._leadership.has_quorum_contact()
        heard_ms = self._leader_heard_ms
        return heard_ms is not None and context.now_ms - heard_ms < context.settings.election_timeout_min_ms

    def follow(self, ballot: Ballot) -> None:
        """The leader of `ballot`, the newest known here, is alive."""
        context = self._context
        if ballot.member == context.own:
            return
        if context.ballot is not None and context.ballot < ballot:
            self.stand_down()
        self._leader_heard_ms = context.now_ms
        self._growth = 1.0
        self.await_leader()
        self._set_leader(ballot)

    def _set_leader(self, ballot: Ballot | None) -> None:
        context = self._context
        context.leader_ballot = ballot
        if ballot is not None:
            self._leaderless_ms = None
        leader = None if ballot is None else ballot.member
        if context.leader != leader:
            context.leader = leader
            context.outbox.report(LeaderChanged(context.number, leader))

    def stand_down(self) -> None:
        """End the own campaign or leadership."""
        context = self._context
        if context.role in (Role.CANDIDATE, Role.LEADER):
            context.role = Role.FOLLOWER
        context.campaign = context.proposer = context.ballot = None
        if context.leader == context.own:
            self._set_leader(None)

    def yield_to(self, ballot: Ballot) -> None:
        """Another candidate has this server's promise: give it time."""
        context = self._context
        if context.ballot is not None and context.ballot < ballot:
            self.stand_down()
        self.await_leader()

    def retire(self) -> None:
        """This incarnation is in no configuration any more."""
        self.stand_down()
        self._context.role = Role.LEARNER
        self._set_leader(None)

    def await_leader(self) -> None:
        """(Re)start the random time after which a silent leader is replaced."""
        settings = self._context.settings
        low, high = settings.election_timeout_min_ms, settings.election_timeout_max_ms
        timeout_ms = self._growth * self._context.rng.randint(low, high)
        self.deadline_ms = self._context.now_ms + min(int(timeout_ms), settings.election_timeout_ceiling_ms)

    # --- a new configuration -----------------------------------------------------------------------------------

    def enter_configuration(self, led_before: bool) -> None:
        """Begin without a leader; the leader of the former configuration, or at a cell's start the first server,
        campaigns at once, the others only if nobody does."""
        context = self._context
        self.stand_down()
        self._leader_heard_ms = None
        self._growth = 1.0
        self._set_leader(None)
        if context.role is Role.STARTING and context.is_member:
            return
        context.role = Role.FOLLOWER if context.is_member else Role.LEARNER
        self.await_leader()
        if led_before and context.is_member:
            self.campaign()

    def hasten(self) -> None:
        """At the start of the process: nobody can be leading yet, so the first server need not wait."""
        context = self._context
        is_waiting = context.role is Role.FOLLOWER
        if is_waiting and context.own == context.configuration.server_ids[0]:
            self.deadline_ms = context.now_ms

    # --- the candidate -----------------------------------------------------------------------------------------

    def campaign(self) -> None:
        """Begin phase 1 with a ballot above every one seen in this configuration."""
        context = self._context
        seen = max(context.acceptor.promised, context.tally.ballot, context.ballot or context.acceptor.promised)
        self.campaign_with(Ballot(seen.round + 1, context.own))

    def campaign_with(self, ballot: Ballot) -> None:
        """Begin phase 1 with `ballot`."""
        context = self._context
        self.stand_down()
        context.role = Role.CANDIDATE
        if self._leaderless_ms is None:
            self._leaderless_ms = context.now_ms
        context.ballot = ballot
        context.campaign = Campaign(ballot, context.now_ms)
        self.await_leader()
        self._growth *= 1.5
        # The own promise is written before anybody hears of the ballot: after a restart it must not be used again.
        prepare = self._prepare()
        context.outbox.send(context.own, prepare)

    def ask_peers(self) -> None:
        """Phase 1a, once the own promise is on its way to the storage."""
        for server in self._context.peers:
            self._context.outbox.send_when_durable(server, self._prepare())

    def _prepare(self) -> Prepare:
        context = self._context
        assert context.ballot is not None, "a candidate has a ballot"
        first_slot = context.log.decided + 1
        return Prepare(context.number, context.identity.incarnation, context.ballot, first_slot, context.configuration)

    def on_promise(self, sender: MemberId, promise: Promise) -> None:
        """Phase 1b arrived."""
        campaign = self._context.campaign
        if campaign is not None and promise.ballot == campaign.ballot:
            campaign.record_promise(sender, promise)
            self.maybe_lead()

    def maybe_lead(self) -> None:
        """Lead, if a quorum has promised and everything that it knows decided is known here."""
        context = self._context
        campaign = context.campaign
        if campaign is None or context.rule.outcome(campaign.promised) is not QuorumOutcome.REACHED:
            return
        if campaign.decided[0] > context.log.decided:
            return
        context.campaign = None
        context.role = Role.LEADER
        self._growth = 1.0
        self._leadership.begin(campaign)
        self._set_leader(campaign.ballot)

    def on_nack(self, nack: Nack) -> None:
        """A member refuses: outbid it if a quorum still follows, else wait for whoever is ahead."""
        context = self._context
        if context.ballot is None or nack.ballot != context.ballot:
            return
        if nack.promised <= nack.ballot:
            if context.role is Role.CANDIDATE:
                self.stand_down()  # a living leader is the reason
            return
        if context.role is Role.LEADER and self._leadership.has_quorum_contact():
            self.campaign_with(Ballot(nack.promised.round + 1, context.own))
            return
        self.stand_down()
        context.tally.record_decided(nack.promised, -1)
        self.await_leader()

    # --- time --------------------------------------------------------------------------------------------------

    @property
    def next_timer_ms(self) -> int | None:
        """When `on_timer` has something to do."""
        context = self._context
        if context.role not in (Role.FOLLOWER, Role.CANDIDATE):
            return None
        campaign = context.campaign
        if campaign is None:
            return self.deadline_ms
        return min(self.deadline_ms, campaign.asked_ms + context.settings.resend_ms)

    def on_timer(self) -> None:
        """Campaign if the leader, or the own campaign, took too long; ask again who has not answered."""
        context = self._context
        if context.role not in (Role.FOLLOWER, Role.CANDIDATE):
            return
        if context.now_ms >= self.deadline_ms:
            self.campaign()
            return
        campaign = context.campaign
        if campaign is not None and context.now_ms >= campaign.asked_ms + context.settings.resend_ms:
            campaign.asked_ms = context.now_ms
            self._ask_again(campaign)

    def _ask_again(self, campaign: Campaign) -> None:
        context = self._context
        silent = [member for member in context.rule.members if member not in campaign.promised]
        self._suspect(silent)
        ask_witnesses = any(self._is_missed(member, campaign) for member in silent if member.is_server)
        for member in sorted(silent):
            if member.is_server or ask_witnesses:
                context.outbox.send_when_durable(member, self._prepare())

    def _suspect(self, silent: list[MemberId]) -> None:
        """Without witnesses nobody can lead while a server is silent: somebody must fence it."""
        context = self._context
        crash_timeout_ms = context.settings.crash_timeout_ms
        if context.configuration.witnesses or self._leaderless_ms is None:
            return
        began_ms = max(self._leaderless_ms, self._suspected_ms)
        if context.now_ms - began_ms < crash_timeout_ms:
            return
        self._suspected_ms = context.now_ms
        for server in silent:
            if server != context.own:
                context.outbox.report(ServerSuspected(server.number, context.now_ms - self._leaderless_ms))

    def _is_missed(self, server: MemberId, campaign: Campaign) -> bool:
        """Whether witnesses stand in for `server`: it is silent, and not only slower to start than we are."""
        context = self._context
        heard_ms = self._last_heard_ms.get(server)
        if heard_ms is None:
            return context.now_ms - context.started_ms >= context.settings.startup_grace_ms
        # It may speak and still not answer this: its storage may hang.
        return context.now_ms - min(heard_ms, campaign.started_ms) >= context.settings.witness_timeout_ms

    def note_heard(self, sender: MemberId) -> None:
        """`sender`, as a member of the present configuration, has said something."""
        self._last_heard_ms[sender] = self._context.now_ms

    def after_pause(self) -> None:
        """This process itself was paused: what was sent to it meanwhile comes first."""
        self.await_leader()
