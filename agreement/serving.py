"""What a server does for those who lag, and when it forgets the log itself.

Source: design "Agreement stage", Log and checkpoints.
"""

from agreement.context import Context
from agreement.identifiers import MemberId
from agreement.messages import CatchUp, LogPart, SnapshotPull, Superseded
from agreement.records import delete_configurations, delete_gap, delete_slots, put_base, put_promise
from agreement.transferring import Giving


class Serving:
    """Answers with the log, a snapshot, or the word that a configuration has ended."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._giving = Giving(context)
        self._helped_ms: int | None = None
        """When somebody was last given less than everything that it lacks."""

    def answer_superseded(self, sender: MemberId) -> None:
        """`sender` spoke about a configuration that has ended."""
        context = self._context
        context.outbox.send(sender, Superseded(context.number, context.identity.incarnation, context.configuration))

    def on_catch_up(self, sender: MemberId, message: CatchUp) -> None:
        """Give what follows the sender's position."""
        self.send_log(sender, message.configuration, message.slot)

    def send_log(self, member: MemberId, number: int, first_slot: int) -> None:
        """Send decided batches of configuration `number`, or see to a snapshot if they are not kept any more."""
        context = self._context
        batches = context.log.read_from((number, first_slot), context.settings.part_bytes_max)
        if batches is None:
            self._helped_ms = context.now_ms
            self._giving.want(member)
            return
        self._giving.forget(member)
        is_last = (number, first_slot + len(batches)) >= context.log.state.position
        if not is_last:
            self._helped_ms = context.now_ms
        incarnation = context.identity.incarnation
        part = LogPart(number, incarnation, first_slot, tuple(batches), is_last, context.leader)
        context.outbox.send(member, part)

    def on_pull(self, sender: MemberId, message: SnapshotPull) -> None:
        """Give one more piece of a snapshot."""
        self._helped_ms = self._context.now_ms
        self._giving.on_pull(sender, message)

    def provide(self, member: MemberId, sequence: int, application: bytes) -> None:
        """The application's state for a member that lags is here."""
        self._giving.provide(member, sequence, application)

    def on_timer(self) -> None:
        """Drop snapshots that nobody pulls."""
        self._giving.on_timer()

    def release(self, needed_from: tuple[int, int]) -> None:
        """The servers of the configuration are not known to lack what is before the position `needed_from`.

        While somebody else, a learner say, is on its way, everything is kept for it, within the bound of the log.
        """
        context = self._context
        if self._helped_ms is None or context.now_ms - self._helped_ms >= context.settings.crash_timeout_ms:
            context.log.release(needed_from, context.settings.history_bytes_kept)

    def compact(self, sequence: int) -> None:
        """The application's durable state covers everything up to `sequence`: forget the records below."""
        context = self._context
        if not context.log.compact(sequence):
            return
        base = context.log.base
        write = context.outbox.write
        write(put_base(base.record()))
        if base.configuration.number == context.number:
            # The promise may be known from a vote alone, whose record goes now.
            write(put_promise(context.number, context.acceptor.promised))
        for forgotten in delete_configurations(base.configuration.number):
            write(forgotten)
        for forgotten in delete_slots(base.configuration.number, base.next_slot):
            write(forgotten)
        if context.gap is not None:
            context.gap = None
            write(delete_gap())
