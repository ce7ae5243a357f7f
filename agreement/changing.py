"""Changes of the configuration: who wants them, and whether the leader finds them justified.

Source: design "Agreement stage", Declaring a crash, Identity; Lamport and Massa, "Cheap Paxos" (2004), section 4.
"""

from collections.abc import Callable
from typing import NamedTuple

from agreement.changes import Change, ServerJoined, ServerLeft, WitnessReplaced
from agreement.context import Context, Role
from agreement.identifiers import Identity, MemberId
from agreement.leading import Leading
from agreement.messages import ForwardChange
from agreement.output import ChangeRefused, ServerRestarted


class _Wanted(NamedTuple):
    change: Change
    incarnation: int
    """The one that the configuration named for this member when the change was asked for."""


class _Learner(NamedTuple):
    incarnation: int
    position: tuple[int, int]
    heard_ms: int


def _subject(change: Change) -> MemberId:
    match change:
        case ServerLeft(server=server) | ServerJoined(server=server):
            return MemberId.server(server)
        case WitnessReplaced(witness=witness):
            return MemberId.witness(witness)


class Changing:
    """Keeps every change asked for until it is ordered or has become impossible."""

    def __init__(self, context: Context, leading: Leading, on_fewer_needed: Callable[[], None]) -> None:
        """`on_fewer_needed()`: votes and promises that were too few may be enough now."""
        self._context = context
        self._on_fewer_needed = on_fewer_needed
        self._leading = leading
        self._wanted: dict[tuple[type[Change], MemberId], _Wanted] = {}
        self._learners: dict[MemberId, _Learner] = {}
        self._asked_ms = context.now_ms
        self._may_have_crashed = False

    def want(self, change: Change) -> None:
        """Ask for `change` until it is ordered; an impossible one is refused with an event."""
        context = self._context
        objection = context.configuration.objection(change)
        if objection is not None:
            context.outbox.report(ChangeRefused(change, objection))
            return
        self._keep(change)
        self._ask()

    def on_forward(self, message: ForwardChange) -> None:
        """Another server asks.

        Without witnesses nobody's word counts for a fence but the own caller's: a message may be older than the start
        of the process that it says has ended, and that process may take part.
        """
        is_fence = isinstance(message.change, ServerLeft) and message.change.fenced
        if is_fence and not self._context.configuration.witnesses:
            return
        if self._context.configuration.objection(message.change) is None:
            self._keep(message.change)

    def _keep(self, change: Change) -> None:
        context = self._context
        subject = _subject(change)
        incarnation = context.configuration.latest_incarnation(subject)
        self._wanted[type(change), subject] = _Wanted(change, incarnation)
        self._count_without(change)

    def _count_without(self, change: Change) -> None:
        """Without witnesses a server that has surely stopped need not vote for its own departure."""
        context = self._context
        if not isinstance(change, ServerLeft) or not change.fenced or context.configuration.witnesses:
            return
        subject = _subject(change)
        if context.is_member and subject != context.own and subject not in context.fenced:
            context.fenced.add(subject)
            context.set_rule()
            self._on_fewer_needed()

    def note_learner(self, identity: Identity, position: tuple[int, int]) -> None:
        """A server that is in no configuration says how far it is; one that is in it cannot be another incarnation.

        The latter is proof that the former process has ended: only one has the member's keys and directory.
        """
        context = self._context
        member, incarnation = identity
        named = context.configuration.latest_incarnation(member)
        if incarnation <= named:
            return
        self._learners[member] = _Learner(incarnation, position, context.now_ms)
        if context.configuration.server_incarnation(member.number) is None:
            return
        left = ServerLeft(member.number, fenced=True)
        if (ServerLeft, member) not in self._wanted and context.configuration.objection(left) is None:
            context.outbox.report(ServerRestarted(member.number, incarnation))
            self._keep(left)

    def on_announce(self, identity: Identity) -> None:
        """A witness that lost its memory asks to be named again."""
        replaced = WitnessReplaced(identity.member.number, identity.incarnation)
        if self._context.configuration.objection(replaced) is None:
            self._keep(replaced)

    def enter_configuration(self) -> None:
        """Drop what has been ordered, or has become impossible."""
        configuration = self._context.configuration
        for key, wanted in list(self._wanted.items()):
            is_stale = configuration.latest_incarnation(key[1]) != wanted.incarnation
            if is_stale or configuration.objection(wanted.change) is not None:
                del self._wanted[key]
            else:
                self._count_without(wanted.change)

    def flush(self) -> None:
        """As leader, order one justified change; it ends the configuration."""
        proposer = self._context.proposer
        if proposer is None or proposer.change is not None or not (self._wanted or self._may_have_crashed):
            return
        change = self._justified_change()
        if change is not None:
            self._leading.propose_change(change)

    def _justified_change(self) -> Change | None:
        for wanted in self._wanted.values():
            if self._is_justified(wanted.change):
                return wanted.change
        # Not kept among those wanted: a server that comes back in time is welcome.
        self._may_have_crashed = False
        crashed = self._leading.crashed_server()
        return None if crashed is None else ServerLeft(crashed.number, fenced=False)

    def _is_justified(self, change: Change) -> bool:
        """Whether the next configuration can go on from the first moment."""
        match change:
            case ServerJoined():
                return self._is_near(change)
            case ServerLeft(server=server, fenced=fenced):
                return fenced or self._is_dispensable(MemberId.server(server))
            case WitnessReplaced():
                return True

    def _is_dispensable(self, server: MemberId) -> bool:
        """A server that could stay may leave only while all others answer.

        With one of them down as well the next configuration would begin with a fault that it does not tolerate.
        """
        if server in self._leading.silent_servers(self._context.settings.crash_timeout_ms):
            return True
        return set(self._context.peers) <= self._leading.answering_servers() | {server}

    def _is_near(self, joined: ServerJoined) -> bool:
        """A joiner must be alive and nearly as far as the leader; else its configuration would wait for it."""
        context = self._context
        learner = self._learners.get(MemberId.server(joined.server))
        if learner is None or learner.incarnation != joined.incarnation:
            return False
        if context.now_ms - learner.heard_ms > context.settings.election_timeout_max_ms:
            return False
        lag = context.log.entries_after(learner.position)
        return lag is not None and lag <= context.settings.join_lag_entries_max

    @property
    def next_timer_ms(self) -> int | None:
        """When `on_timer` has something to do; a leader looks at each of its heartbeats."""
        if not self._wanted or self._context.role is Role.LEADER:
            return None
        return self._asked_ms + self._context.settings.resend_ms

    def on_timer(self) -> None:
        """Look for crashed servers as leader; ask the leader again."""
        context = self._context
        if context.role is Role.LEADER:
            self._may_have_crashed = True
        elif self._wanted and context.now_ms - self._asked_ms >= context.settings.resend_ms:
            self._ask()

    def _ask(self) -> None:
        context = self._context
        self._asked_ms = context.now_ms
        if context.role is Role.LEADER:
            return
        asked = [context.leader] if context.leader is not None else context.cell.server_ids
        for wanted in self._wanted.values():
            message = ForwardChange(context.number, context.identity.incarnation, wanted.change)
            for server in asked:
                if server is not None and server != context.own:
                    context.outbox.send(server, message)
