"""Where every message of a server goes, and what one part's news mean for the others.

Source: design "Agreement stage", Configurations ("every message names its configuration").
"""

from collections.abc import Callable
from typing import assert_never

from agreement.birth import Start
from agreement.changes import ServerLeft
from agreement.changing import Changing
from agreement.context import Context, Role
from agreement.electing import Electing
from agreement.identifiers import Ballot, Identity, MemberId
from agreement.leading import Leading
from agreement.learning import Learning
from agreement.messages import (
    Accept,
    Accepted,
    Announce,
    CatchUp,
    Decision,
    Forward,
    ForwardChange,
    Heartbeat,
    HeartbeatAck,
    LogPart,
    Message,
    Nack,
    Prepare,
    Promise,
    Release,
    Released,
    Resume,
    SnapshotPart,
    SnapshotPull,
    Starting,
    Superseded,
)
from agreement.origin import Origin
from agreement.records import StoredState
from agreement.serving import Serving
from agreement.starting import Restarting
from agreement.transferring import Taking
from agreement.voting import Voting

LogMessage = (
    Prepare | Promise | Accept | Accepted | Nack | Decision | Forward | ForwardChange | Heartbeat | HeartbeatAck
)
"""What is about the log of one configuration and of no interest in another."""


class Router:
    """The parts of one server, and the ways between them."""

    electing_type: type[Electing] = Electing
    """Replaced only by tests that plant a mistake."""

    def __init__(
        self,
        context: Context,
        admit: Callable[[bytes], bytes] | None,
        stored: StoredState,
        life: int,
        vouched: frozenset[MemberId],
        start: Start,
    ) -> None:
        self.context = context
        self._vouched = vouched
        self._voting = Voting(context, self._clings_to_leader)
        self._leading = Leading(context, self._voting, admit)
        self._electing = self.electing_type(context, self._leading)
        self._learning = Learning(context, self)
        self.serving = Serving(context)
        self._taking = Taking(context, self._on_snapshot, self._learning.postpone)
        self._restarting = Restarting(context, self._on_resumed, vouched)
        self.changing = Changing(context, self._leading, self._on_fewer_needed)
        self.origin = Origin(context, life, context.outbox.pending_token)
        self._early_prepare: tuple[MemberId, Prepare] | None = None
        self._learning.replay(stored)
        if start is Start.RECOVERED and not context.cell.witnesses:
            context.role = Role.STARTING
        self._enter(led_before=False)
        self._electing.hasten()

    def _clings_to_leader(self, candidate: MemberId) -> bool:
        return self._electing.clings_to_leader(candidate)

    # --- inputs ------------------------------------------------------------------------------------------------

    def receive(self, sender: MemberId, message: Message) -> None:
        """A message arrived."""
        self._dispatch(sender, message)
        self.settle()

    def settle(self) -> None:
        """Receive what this server says to itself."""
        local = self.context.outbox.local
        while local:
            self._dispatch(self.context.own, local.popleft())

    def on_timer(self, is_late: bool) -> None:
        """Let every part do what is due; after a pause of the process itself, restart all clocks first."""
        if is_late:
            self._electing.after_pause()
            self._leading.after_pause()
        self._electing.on_timer()
        self._leading.on_timer()
        if self.context.role is Role.LEADER:
            self.serving.release((self.context.number, self._leading.releasing.released_through() + 1))
        if self.context.role is Role.LEADER and self._leading.has_hung_storage():
            self._electing.stand_down()
            self._electing.await_leader()
        self._taking.on_timer()
        self.serving.on_timer()
        self._learning.on_timer()
        self._restarting.on_timer()
        self.origin.on_timer()
        self.changing.on_timer()
        self.settle()

    @property
    def next_timer_ms(self) -> int | None:
        """When the first part has something to do."""
        parts = (
            self._electing,
            self._leading,
            self._learning,
            self._taking,
            self._restarting,
            self.origin,
            self.changing,
        )
        timers = [timer_ms for part in parts if (timer_ms := part.next_timer_ms) is not None]
        return min(timers, default=None)

    def flush(self) -> None:
        """Put together what came up since the last time: batches, one `Accepted` for all new votes."""
        self.origin.flush()
        self.changing.flush()
        self._leading.propose_waiting()
        self._voting.flush()
        self.settle()
        self._leading.flush()

    # --- messages ----------------------------------------------------------------------------------------------

    def _dispatch(self, sender: MemberId, message: Message) -> None:
        if isinstance(message, LogMessage):
            self._dispatch_by_configuration(sender, message)
            return
        match message:
            case CatchUp():
                self._on_catch_up(sender, message)
            case LogPart():
                self._learning.on_log_part(sender, message)
            case Superseded():
                self._on_superseded(sender, message)
            case Announce():
                self.changing.on_announce(Identity(sender, message.incarnation))
            case SnapshotPart():
                self._taking.on_part(sender, message)
            case SnapshotPull():
                self.serving.on_pull(sender, message)
            case Released():
                self._leading.releasing.on_released(sender, message)
            case Starting():
                self._on_starting(sender, message)
            case Resume():
                self._restarting.on_resume(sender, message)
            case Release():
                pass  # servers forget by `compact`
            case _:
                assert_never(message)

    def _dispatch_by_configuration(self, sender: MemberId, message: LogMessage) -> None:
        context = self.context
        if message.configuration < context.number:
            self.serving.answer_superseded(sender)
        elif message.configuration > context.number:
            if isinstance(message, Prepare):
                self._early_prepare = (sender, message)
            self._learning.note_ahead((message.configuration, 0), sender, is_urgent=True)
        elif isinstance(message, ForwardChange):
            self.changing.on_forward(message)
        elif self._may_speak(sender, message.incarnation):
            self._electing.note_heard(sender)
            self._on_log_message(sender, message)

    def _may_speak(self, sender: MemberId, incarnation: int) -> bool:
        """Whether both sides are members of the present configuration, in the incarnations that it names."""
        context = self.context
        if not context.is_member or context.role is Role.STARTING:
            return False
        return context.configuration.incarnations.get(sender) == incarnation

    def _on_log_message(self, sender: MemberId, message: LogMessage) -> None:
        match message:
            case Accepted():
                self._on_accepted(sender, message)
            case Accept():
                self._on_accept(sender, message)
            case Forward():
                if self.context.proposer is not None:
                    self.context.proposer.add(message.entries)
            case Decision():
                self._note_decided(message.ballot, message.through)
            case Heartbeat():
                self._on_heartbeat(sender, message)
            case HeartbeatAck():
                self._leading.on_heartbeat_ack(sender, message)
                self._record_votes(sender, message)
                self._learning.note_ahead((message.configuration, message.decided + 1), sender)
            case Prepare():
                self._on_prepare(sender, message)
            case Promise():
                self._on_promise(sender, message)
            case Nack():
                self._electing.on_nack(message)
            case ForwardChange():
                self.changing.on_forward(message)
            case _:
                assert_never(message)

    def _on_accept(self, sender: MemberId, accept: Accept) -> None:
        if not self._voting.on_accept(sender, accept):
            return
        self._electing.follow(accept.ballot)
        if self._voting.is_decided_without(accept):
            # A leader elected by others, or replaced without noticing: it has to learn, and no vote will help it.
            self.serving.send_log(sender, accept.configuration, accept.slot)
        self._note_decided(accept.ballot, accept.decided)

    def _on_prepare(self, sender: MemberId, prepare: Prepare) -> None:
        if not self._voting.on_prepare(sender, prepare):
            return
        if sender == self.context.own:
            self._electing.ask_peers()
        else:
            self._electing.yield_to(prepare.ballot)

    def _on_promise(self, sender: MemberId, promise: Promise) -> None:
        if promise.decided > self.context.log.decided:
            # It has reported no votes up to there: they are decided, and must be fetched before anything is proposed.
            self._learning.note_ahead((promise.configuration, promise.decided + 1), sender, is_urgent=True)
        self._electing.on_promise(sender, promise)

    def _on_accepted(self, sender: MemberId, accepted: Accepted) -> None:
        if self.context.role is Role.LEADER and accepted.ballot == self.context.ballot:
            self._leading.note_contact(sender)
        self._record_votes(sender, accepted)

    def _record_votes(self, sender: MemberId, votes: Accepted | HeartbeatAck) -> None:
        if self.context.tally.record_votes(sender, votes.ballot, votes.first, votes.through):
            self._learning.advance()

    def _note_decided(self, ballot: Ballot, through: int) -> None:
        context = self.context
        context.tally.record_decided(ballot, through)
        if through > context.log.decided:
            self._learning.advance()
            if ballot < context.tally.ballot:
                self._learning.note_ahead((context.number, through + 1), ballot.member)

    def _on_heartbeat(self, sender: MemberId, heartbeat: Heartbeat) -> None:
        context = self.context
        if not self._voting.answer_heartbeat(sender, heartbeat):
            return
        self._electing.follow(heartbeat.ballot)
        self._note_decided(heartbeat.ballot, heartbeat.decided)
        self.serving.release(context.log.state.position)  # who lags asks the leader
        if heartbeat.decided > context.log.decided:
            self._learning.note_ahead((context.number, heartbeat.decided + 1), sender)

    def _on_superseded(self, sender: MemberId, message: Superseded) -> None:
        self._learning.on_superseded(sender, message)
        if self.context.is_removed:
            self._electing.retire()

    def _on_catch_up(self, sender: MemberId, message: CatchUp) -> None:
        position = (message.configuration, message.slot)
        self.changing.note_learner(Identity(sender, message.incarnation), position)
        self.serving.on_catch_up(sender, message)

    def _on_starting(self, sender: MemberId, message: Starting) -> None:
        context = self.context
        if message.configuration < context.number:
            self.serving.answer_superseded(sender)
        elif message.configuration > context.number:
            self._learning.note_ahead((message.configuration, 0), sender, is_urgent=True)
        else:
            self._restarting.on_starting(sender, message)

    # --- news of one part for the others -----------------------------------------------------------------------

    def on_delivered(self) -> None:
        """Entries of the present configuration were delivered."""
        context = self.context
        self.origin.forget_delivered(context.log.state.origins.get(context.own.number, 0))
        if context.proposer is not None:
            context.proposer.forget_through(context.log.decided)
        elif context.campaign is not None:
            self._electing.maybe_lead()

    def on_told(self) -> None:
        """Something else was decided than this server has proposed, if it leads: it was replaced without noticing.

        1. s3, leader with ballot 1, proposes X; s1 votes for it.  2. s2 gets Y chosen for the slot with ballot 2;
        s3 and s1 do not hear of ballot 2.  3. s3 asks s2 for the log and learns Y.  4. If s3 went on leading, its word
        that the slot is decided would make s1 deliver X.
        """
        if self.context.proposer is not None:
            self._electing.stand_down()
            self._electing.await_leader()

    def on_configuration(self, led_before: bool) -> None:
        """The present configuration is a new one."""
        self._enter(led_before)
        early = self._early_prepare
        if early is not None and early[1].configuration == self.context.number:
            self._early_prepare = None
            self._dispatch(*early)

    def _on_snapshot(self, is_new_configuration: bool) -> None:
        if is_new_configuration:
            self._learning.enter_configuration()
        else:
            self.on_told()
            self.on_delivered()
            self._learning.advance()

    def _on_fewer_needed(self) -> None:
        """A server was fenced: what was undecided for want of its vote may be decided."""
        self._learning.advance()
        self._electing.maybe_lead()

    def _on_resumed(self) -> None:
        """All servers are there: take part, and have those leave for which the operator vouches."""
        context = self.context
        self._electing.await_leader()
        self._electing.hasten()
        for server in context.peers:
            if server in self._vouched:
                self.changing.want(ServerLeft(server.number, fenced=True))

    def _enter(self, led_before: bool) -> None:
        context = self.context
        self._electing.enter_configuration(led_before)
        self.changing.enter_configuration()
        self._restarting.enter_configuration()
        self.origin.forget_delivered(context.log.state.origins.get(context.own.number, 0))
        if not context.is_member:
            self._learning.poll()
        if context.is_removed:
            self.origin.forget_all()
