"""How a cell without witnesses restarts: together, or not at all.

Without witnesses a quorum is all servers, and a server that was fenced while it was cut off would, when it boots, find
its old configuration, fence the survivor and go on from an old log.  So a server that starts is nobody: it takes part
again only when every server of its configuration is there and has, while starting itself, heard of this very process.
If one of them runs already, this server must rejoin with a new incarnation.

Source: design section 3 (`witnesses = 0`).
"""

from collections.abc import Callable

from agreement.context import Context, Role
from agreement.identifiers import MemberId
from agreement.messages import Resume, Starting
from agreement.output import RejoinNeeded, ServerRestarted


class Restarting:
    """Processes heard of while starting, and after."""

    def __init__(self, context: Context, on_resumed: Callable[[], None], vouched: frozenset[MemberId]) -> None:
        """`vouched`: servers for which the operator vouches that they have stopped for ever."""
        self._context = context
        self._on_resumed = on_resumed
        self._vouched = vouched
        self._boot = context.rng.getrandbits(62)
        self._boots: dict[MemberId, int] = {}
        """Processes of the present configuration: heard of while starting, taken part with after."""
        self._confirmed: set[MemberId] = set()
        """Those that have heard of this process while starting."""
        self._said_ms: int | None = None

    def enter_configuration(self) -> None:
        """What was heard is about another configuration."""
        self._boots.clear()
        self._confirmed.clear()
        self._maybe_resume()

    def on_starting(self, sender: MemberId, message: Starting) -> None:
        """Another server starts.  Whether it is behind or ahead is dealt with before."""
        context = self._context
        if context.configuration.incarnations.get(sender) != message.incarnation or not context.is_member:
            return
        if context.role is not Role.STARTING:
            self._answer(sender, message)
            return
        if self._boots.get(sender) != message.boot:
            self._boots[sender] = message.boot
            self._confirmed.discard(sender)
            self._say()
        if (context.own.number, self._boot) in message.heard:
            self._confirmed.add(sender)
        self._maybe_resume()

    def _answer(self, sender: MemberId, message: Starting) -> None:
        """Say who takes part; a process that is not among them has lost its place."""
        context = self._context
        if self._boots.get(sender) != message.boot:
            context.outbox.report(ServerRestarted(sender.number, message.incarnation))
        boots = tuple((member.number, boot) for member, boot in self._boots.items())
        context.outbox.send(sender, Resume(context.number, context.identity.incarnation, message.boot, boots))

    def on_resume(self, sender: MemberId, message: Resume) -> None:
        """A server that takes part has answered."""
        context = self._context
        if (
            context.role is not Role.STARTING
            or message.asked_by != self._boot
            or message.configuration != context.number
        ):
            return
        if (context.own.number, self._boot) not in message.boots:
            context.outbox.report(RejoinNeeded(context.number, sender.number))
            return
        boots = {MemberId.server(number): boot for number, boot in message.boots}
        self._boots |= {member: boot for member, boot in boots.items() if member != context.own}
        self._confirmed.add(sender)
        self._maybe_resume()

    def _maybe_resume(self) -> None:
        context = self._context
        if context.role is not Role.STARTING or not context.is_member:
            return
        if all(peer in self._vouched or peer in self._confirmed for peer in context.peers):
            self._boots[context.own] = self._boot
            context.role = Role.FOLLOWER
            self._on_resumed()

    @property
    def next_timer_ms(self) -> int | None:
        """When `on_timer` has something to do."""
        if self._context.role is not Role.STARTING:
            return None
        return self._context.now_ms if self._said_ms is None else self._said_ms + self._context.settings.resend_ms

    def on_timer(self) -> None:
        """Say that this process starts, to every server of the cell."""
        due_ms = self.next_timer_ms
        if due_ms is not None and self._context.now_ms >= due_ms:
            self._say()

    def _say(self) -> None:
        context = self._context
        self._said_ms = context.now_ms
        heard = tuple((member.number, boot) for member, boot in self._boots.items())
        message = Starting(context.number, context.identity.incarnation, self._boot, heard)
        for server in context.cell.server_ids:
            if server != context.own:
                context.outbox.send_when_durable(server, message)
