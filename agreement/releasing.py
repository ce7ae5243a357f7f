"""When witnesses may forget, as the leader knows it.

Two things are released: all configurations before the present one, once every server of the present one has durably
left them (each witness of the cell is told once per configuration); and, within the configuration, the slots that a
witness was asked for, once every server has them durably.  In a cell where nothing happens neither sends a message.

Source: design "Agreement stage", What a witness may forget.
"""

from agreement.context import Context
from agreement.identifiers import MemberId
from agreement.messages import HeartbeatAck, Release, Released

INTERVAL_MAX_MS = 60_000
"""A witness that does not answer is told again, ever more rarely."""


class _Debt:
    """What one witness has not confirmed."""

    def __init__(self, owes_configuration: bool) -> None:
        self.owes_configuration = owes_configuration
        self.asked_through = -1
        """The highest slot that it was asked for."""
        self.released_through = -1
        self.next_ms = 0
        self.interval_ms = 0


class Releasing:
    """Keeps account of one leadership."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._debts: dict[MemberId, _Debt] = {}
        self._decided_durable: dict[MemberId, int] = {}
        self._configuration_durable: dict[MemberId, int] = {}

    def begin(self) -> None:
        """This server leads the present configuration."""
        configuration = self._context.configuration
        owes = configuration.number > 1
        self._debts = {witness: _Debt(owes) for witness in configuration.known_witness_ids}
        self._decided_durable = {}
        self._configuration_durable = {}

    def on_heartbeat_ack(self, sender: MemberId, ack: HeartbeatAck) -> None:
        """A server says what it would know after a restart."""
        self._decided_durable[sender] = ack.decided_durable
        self._configuration_durable[sender] = ack.configuration_durable

    def note_asked(self, witness: MemberId, slot: int) -> None:
        """A witness is asked for a vote."""
        debt = self._debts[witness]
        debt.asked_through = max(debt.asked_through, slot)

    def on_released(self, sender: MemberId, released: Released) -> None:
        """A witness has durably forgotten."""
        debt = self._debts.get(sender)
        if debt is None or released.configuration != self._context.number:
            return
        debt.owes_configuration = False
        debt.released_through = max(debt.released_through, released.through)
        debt.interval_ms = 0

    def released_through(self) -> int:
        """The highest slot that every server has durably, as decided."""
        context = self._context
        peers = [self._decided_durable.get(peer, -1) for peer in context.peers]
        return min([context.decided_durable, *peers])

    def _has_everybody_left(self) -> bool:
        """Whether a restart of any server would find it in the present configuration."""
        context = self._context
        peers = [self._configuration_durable.get(peer, 0) for peer in context.peers]
        return min([context.durable_configuration, *peers]) >= context.number

    def on_timer(self) -> None:
        """Tell the witnesses what they may forget."""
        if not any(
            debt.owes_configuration or debt.asked_through > debt.released_through for debt in self._debts.values()
        ):
            return
        has_everybody_left = self._has_everybody_left()
        through = self.released_through()
        for witness, debt in self._debts.items():
            owes_slots = debt.released_through < debt.asked_through <= through
            if has_everybody_left and (debt.owes_configuration or owes_slots):
                self._tell(witness, debt, through)

    def _tell(self, witness: MemberId, debt: _Debt, through: int) -> None:
        context = self._context
        if debt.interval_ms and context.now_ms < debt.next_ms:
            return
        debt.interval_ms = min(2 * debt.interval_ms or context.settings.resend_ms, INTERVAL_MAX_MS)
        debt.next_ms = context.now_ms + debt.interval_ms
        release = Release(context.number, context.identity.incarnation, context.configuration, through)
        context.outbox.send_when_durable(witness, release)
