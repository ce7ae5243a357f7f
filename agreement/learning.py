"""The learner's half of a server: decide, deliver, change the configuration, catch up with those who are ahead.

Source: Lamport, "Paxos Made Simple" (2001), section 2.3; design "Agreement stage", Configurations.
"""

from typing import Protocol

from agreement.changes import Batch, decode_batch
from agreement.configuration import Configuration
from agreement.context import Context, Role
from agreement.identifiers import MemberId
from agreement.messages import CatchUp, LogPart, Superseded
from agreement.output import ConfigurationChanged, Removed
from agreement.records import StoredState, put_end, put_slot


class ConfigurationListener(Protocol):
    """What the rest of a server does when the order moves on."""

    def on_delivered(self) -> None:
        """Entries of the present configuration were delivered."""
        ...

    def on_configuration(self, led_before: bool) -> None:
        """The present configuration is a new one."""
        ...

    def on_told(self) -> None:
        """Others have told this server what is decided, and it is not what it has voted for as leader."""
        ...


class Learning:
    """Turns votes and pieces of the log into deliveries."""

    def __init__(self, context: Context, listener: ConfigurationListener) -> None:
        self._context = context
        self._listener = listener
        self._known = (0, 0)
        """The furthest position, `(configuration, next slot)`, that anybody is known to have reached."""
        self._known_from: MemberId | None = None
        self._ask_ms: int | None = None
        """When to ask for what is missing; None if nothing is."""
        self._asked_count = 0

    # --- decide ------------------------------------------------------------------------------------------------

    def replay(self, stored: StoredState) -> None:
        """After a restart: deliver again what the records tell is decided, and take up the votes above it."""
        context = self._context
        context.gap = stored.gap
        context.stored = stored.configurations
        number = context.number
        while (ended := self._replay_configuration(number)) is not None:
            number = ended
        context.enter(context.log.state.configuration, context.stored.pop(number, None))
        context.stored = {later: kept for later, kept in context.stored.items() if later > number}
        self._maybe_note_removed(context.configuration)

    def _replay_configuration(self, number: int) -> int | None:
        """Deliver the decided records of one configuration; the number of the next one, if this one ended."""
        context = self._context
        stored = context.stored.get(number)
        if stored is None:
            return None
        decided = stored.decided
        if context.gap is not None and context.gap[0] == number:
            decided = min(decided, context.gap[1] - 1)
        slots = range(context.log.decided + 1, decided + 1)
        for slot in slots:
            record = stored.slots.get(slot)
            if record is None:
                return None
            context.outbox.deliver(context.log.append(record.batch, decode_batch(record.batch)))
            if context.log.state.configuration.number != number:
                return context.log.state.configuration.number
        return None

    def advance(self) -> None:
        """Deliver what the votes known here have decided."""
        context = self._context
        log, tally, acceptor = context.log, context.tally, context.acceptor
        first = log.decided + 1
        target = tally.decided_through(context.rule, log.decided)
        for slot in range(first, target + 1):
            vote = acceptor.votes.get(slot)
            if vote is None or vote.ballot != tally.ballot:
                # Decided by others; what this server has for the slot, if anything, is of an older ballot.
                self.note_ahead((context.number, target + 1), tally.ballot.member)
                break
            if self._decide(slot, vote.raw, vote.batch):
                return
        if log.decided >= first:
            acceptor.forget_through(range(first, log.decided + 1))
            self._listener.on_delivered()

    def _decide(self, slot: int, raw: bytes, batch: Batch) -> bool:
        """Deliver the next slot; whether it ended the configuration, so that everything above it is void."""
        context = self._context
        deliveries = context.log.append(raw, batch)
        if deliveries:
            context.outbox.deliver(deliveries)
        if batch.change is None:
            return False
        context.outbox.write(put_end(context.number, slot))
        self.enter_configuration()
        return True

    def enter_configuration(self) -> None:
        """Take up the configuration that the log has reached."""
        context = self._context
        led_before = context.role is Role.LEADER
        configuration = context.log.state.configuration
        stored = context.stored.pop(configuration.number, None)
        context.enter(configuration, stored)
        if stored is not None and not configuration.witnesses:
            context.role = Role.STARTING  # it took part here before its restart, and lost its place with it
        context.outbox.report(ConfigurationChanged(configuration))
        self._maybe_note_removed(configuration)
        self._listener.on_configuration(led_before)

    def _maybe_note_removed(self, configuration: Configuration) -> None:
        """A configuration that knows this incarnation, or a newer one, and does not name it, has removed it."""
        context = self._context
        if not context.is_member and configuration.latest_incarnation(context.own) >= context.identity.incarnation:
            self._note_removed(configuration)

    def _note_removed(self, configuration: Configuration) -> None:
        context = self._context
        if not context.is_removed:
            context.is_removed = True
            context.is_member = False
            context.outbox.report(Removed(configuration.number, configuration.latest_incarnation(context.own)))

    # --- catch up ----------------------------------------------------------------------------------------------

    def note_ahead(self, position: tuple[int, int], member: MemberId, is_urgent: bool = False) -> None:
        """Somebody has reached `position`; ask `member` for what is missing, if what is under way does not bring it."""
        context = self._context
        if position <= context.log.state.position:
            return
        if position > self._known:
            self._known = position
        if member.is_server and member != context.own:
            self._known_from = member
        wait_ms = 0 if is_urgent else context.settings.heartbeat_ms
        if self._ask_ms is None or (is_urgent and not self._asked_count):
            self._ask_ms = context.now_ms + wait_ms

    @property
    def is_behind(self) -> bool:
        """Whether somebody is known to be further."""
        return self._known > self._context.log.state.position

    @property
    def next_timer_ms(self) -> int | None:
        """When `on_timer` has something to do."""
        return self._ask_ms

    def poll(self) -> None:
        """A learner asks all the time."""
        if self._ask_ms is None:
            self._ask_ms = self._context.now_ms + self._context.settings.heartbeat_ms

    def postpone(self) -> None:
        """What is missing is on its way."""
        self._ask_ms = self._context.now_ms + self._context.settings.resend_ms
        self._asked_count = 0

    def on_timer(self) -> None:
        """Ask, if still behind."""
        context = self._context
        if self._ask_ms is None or context.now_ms < self._ask_ms:
            return
        self._ask_ms = None
        if self.is_behind or not context.is_member:
            self._asked_count += 1
            self._ask(self._whom_to_ask())
        else:
            self._asked_count = 0

    def _whom_to_ask(self) -> MemberId | None:
        """Who is known to be ahead; now and then, if that does not help, anybody."""
        context = self._context
        others = [member for member in context.cell.server_ids if member != context.own]
        if self._known_from is not None and self._asked_count % 4 != 3:
            return self._known_from
        return context.rng.choice(others) if others else None

    def _ask(self, server: MemberId | None) -> None:
        context = self._context
        self._ask_ms = context.now_ms + (
            context.settings.resend_ms if self.is_behind else context.settings.heartbeat_ms
        )
        if server is not None:
            number, slot = context.log.state.position
            # Held back until the birth record is durable: a new incarnation is proof that the old one cannot return.
            context.outbox.send_when_durable(server, CatchUp(number, context.identity.incarnation, slot))

    def on_log_part(self, sender: MemberId, part: LogPart) -> None:
        """Decided batches arrived."""
        context = self._context
        before = context.log.state.position
        if part.configuration == context.number:
            self._take_batches(part)
        if not context.is_member:
            self._known_from = part.leader if part.leader != context.own else None
        if context.log.state.position == before:
            return  # an answer that came twice must not be a question twice
        self._asked_count = 0
        self._ask_ms = context.now_ms + context.settings.heartbeat_ms
        if not part.is_last:
            self._ask(sender)

    def _take_batches(self, part: LogPart) -> None:
        context = self._context
        first = context.log.decided + 1
        new = part.batches[max(0, first - part.first_slot) :] if part.first_slot <= first else ()
        for slot, (raw, batch) in enumerate([(raw, decode_batch(raw)) for raw in new], first):
            vote = context.acceptor.votes.get(slot)
            if vote is None or vote.raw != raw:
                context.outbox.write(put_slot(context.number, slot, None, slot, raw))
                context.decided_written = slot
            if vote is None or vote.raw != raw or vote.ballot != context.ballot:
                self._listener.on_told()
            if self._decide(slot, raw, batch):
                return
        if new:
            context.acceptor.forget_through(range(first, context.log.decided + 1))
            self._listener.on_delivered()

    def on_superseded(self, sender: MemberId, message: Superseded) -> None:
        """A later configuration exists."""
        if message.members.number <= self._context.number:
            return
        if not message.members.names(self._context.identity) and self._context.is_member:
            self._note_removed(message.members)
        self.note_ahead((message.members.number, 0), sender, is_urgent=True)
