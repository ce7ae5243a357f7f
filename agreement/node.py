"""A server of the agreement stage: every input comes in here and is passed to the part that it concerns.

Each public method takes the monotonic time, changes state and returns at once; what is to be done about it comes out
of `take_output`, which the caller calls after one input or after several that came together: the more, the larger the
batches.  The caller's order for an output is in `output`.
"""

import random
from collections.abc import Callable, Iterable

from agreement.birth import Start, begin_life, check_memory
from agreement.changes import Change
from agreement.configuration import Configuration
from agreement.context import Context, Role
from agreement.identifiers import Ballot, Identity, MemberId
from agreement.log import Log, LogState
from agreement.messages import Message
from agreement.output import Output
from agreement.routing import Router
from agreement.settings import AgreementSettings


class Node:
    """One server; see `born`, `recovered` and `amnesiac` for how to make one."""

    configuration_type: type[Configuration] = Configuration
    router_type: type[Router] = Router
    """Replaced only by tests that plant a mistake and look whether it is found."""

    def __init__(
        self,
        identity: Identity,
        settings: AgreementSettings,
        members: Iterable[Identity],
        storage_content: Iterable[tuple[bytes, bytes]],
        rng: random.Random,
        now_ms: int,
        admit: Callable[[bytes], bytes] | None = None,
        *,
        start: Start,
        vouched: Iterable[int] = (),
    ) -> None:
        """Start a server.

        Args:
            identity: this server and its incarnation.
            settings: times and limits.
            members: the members that the cell was born with: `f + 1` servers, `f` witnesses or none, in their first
                incarnation.  The same on every member for ever.
            storage_content: what `StableStorage.scan(PREFIX, PREFIX_END)` yields.
            rng: source of election timeouts.
            now_ms: monotonic time.
            admit: applied by the leader to the payload of each entry just before it is proposed.
            start: how this server comes to its memory.
            vouched: servers for which the operator vouches that they have stopped for ever; only for the restart of a
                cell without witnesses.

        Raises:
            AmnesiaError: `storage_content` does not fit `identity` and `start`.
        """
        assert identity.member.is_server, f"{identity} is no server: use Witness"
        cell = self.configuration_type.first(members)
        stored = check_memory(identity, cell, storage_content, start)
        base = LogState(cell, 0, 0, {}) if stored.base is None else LogState.of_record(stored.base)
        log = Log(base, settings.history_bytes_max)
        self._context = context = Context(identity, settings, cell, log, rng, now_ms)
        life = begin_life(context.outbox, identity, stored, start)
        self._router = self.router_type(
            context, admit, stored, life, frozenset(MemberId.server(number) for number in vouched), start
        )
        self._router.settle()

    @classmethod
    def born(
        cls,
        identity: Identity,
        settings: AgreementSettings,
        members: Iterable[Identity],
        rng: random.Random,
        now_ms: int,
        admit: Callable[[bytes], bytes] | None = None,
    ) -> "Node":
        """A server of a cell that starts for the first time; its first write is the birth record.

        The caller knows that it is the first time.  An empty storage alone does not say so: see `amnesiac`.
        """
        return cls(identity, settings, members, (), rng, now_ms, admit, start=Start.BORN)

    @classmethod
    def recovered(
        cls,
        identity: Identity,
        settings: AgreementSettings,
        members: Iterable[Identity],
        storage_content: Iterable[tuple[bytes, bytes]],
        rng: random.Random,
        now_ms: int,
        admit: Callable[[bytes], bytes] | None = None,
        vouched: Iterable[int] = (),
    ) -> "Node":
        """A server that restarts with its complete memory.

        It delivers again everything above its base (the last `compact`) that it knows to be decided.  Without
        witnesses it takes no part until all servers of its configuration, but for those `vouched` for, have started
        (`role` is then no longer `STARTING`), or tells with `RejoinNeeded` or `Removed` that they went on without it.

        Raises:
            AmnesiaError: the storage is not the complete memory of `identity`.
        """
        return cls(
            identity, settings, members, storage_content, rng, now_ms, admit, start=Start.RECOVERED, vouched=vouched
        )

    @classmethod
    def amnesiac(
        cls,
        identity: Identity,
        settings: AgreementSettings,
        members: Iterable[Identity],
        rng: random.Random,
        now_ms: int,
        admit: Callable[[bytes], bytes] | None = None,
    ) -> "Node":
        """A server without memory: a learner, until a `ServerJoined` names its new incarnation.

        The incarnation must be one that this server has never used: the clock in microseconds will do.  The first
        write erases whatever the storage holds.
        """
        return cls(identity, settings, members, (), rng, now_ms, admit, start=Start.AMNESIAC)

    # --- inputs ------------------------------------------------------------------------------------------------

    def propose(self, payload: bytes, now_ms: int) -> int:
        """Have `payload` ordered; the number of the entry, which this server will deliver unless it is removed first.

        Raises:
            EntryTooLarge, NotAMember, ProposalQueueFull: the entry was surely not ordered.
        """
        self._context.now_ms = now_ms
        return self._router.origin.propose(payload)

    def propose_change(self, change: Change, now_ms: int) -> None:
        """Have the configuration changed, as soon as the leader finds it justified.

        A `ServerLeft` with `fenced = True` is a promise that the server has stopped for ever.  A `ServerJoined` waits
        until the joiner is nearly as far as the leader.  An impossible change gives the event `ChangeRefused`.
        """
        self._context.now_ms = now_ms
        self._router.changing.want(change)
        self._router.settle()

    def receive(self, sender: MemberId, message: Message, now_ms: int) -> None:
        """A message of another member arrived; the transport vouches for `sender`.

        Raises:
            MalformedMessage: a batch in the message cannot be read; nothing was changed.
        """
        self._context.now_ms = now_ms
        self._router.receive(sender, message)

    def on_timer(self, now_ms: int) -> None:
        """The time `next_timer_ms` has come, or may have."""
        context = self._context
        due_ms = self._router.next_timer_ms
        context.now_ms = now_ms
        is_late = due_ms is not None and now_ms - due_ms > context.settings.election_timeout_min_ms // 2
        self._router.on_timer(is_late)

    def on_persisted(self, token: int, now_ms: int) -> None:
        """All writes up to the output with this token are durable."""
        self._context.now_ms = now_ms
        self._context.outbox.persisted(token)
        self._router.settle()

    def compact(self, sequence: int) -> None:
        """The application holds a durable state that covers everything up to `sequence`: forget the log below it.

        After a restart the order is delivered again from at most `sequence + 1` on.
        """
        self._router.serving.compact(sequence)

    def provide_snapshot(self, member: MemberId, sequence: int, application: bytes, now_ms: int) -> None:
        """Answer to `SnapshotWanted`: the application's state after everything up to `sequence`.

        `sequence` is at most `delivered_sequence`; if it is too old by now, `SnapshotWanted` comes again.
        """
        self._context.now_ms = now_ms
        self._router.serving.provide(member, sequence, application)

    def take_output(self) -> Output:
        """What is to be done now; empty after a second call without an input between."""
        self._router.flush()
        return self._context.outbox.take()

    def next_timer_ms(self) -> int | None:
        """When `on_timer` wants to be called, as monotonic time; None for never."""
        return self._router.next_timer_ms

    # --- observation -------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """This server and its incarnation."""
        return self._context.identity

    @property
    def role(self) -> Role:
        """What this server does at present."""
        return self._context.role

    @property
    def is_leader(self) -> bool:
        """Whether this server leads, as far as it knows."""
        return self._context.role is Role.LEADER

    @property
    def leader(self) -> MemberId | None:
        """Whom this server follows (itself, if it leads)."""
        return self._context.leader

    @property
    def leader_ballot(self) -> Ballot | None:
        """The ballot in which `leader` leads."""
        return self._context.leader_ballot

    @property
    def is_member(self) -> bool:
        """Whether this incarnation is in the present configuration."""
        return self._context.is_member

    @property
    def is_removed(self) -> bool:
        """Whether a later configuration does not name this incarnation any more."""
        return self._context.is_removed

    @property
    def configuration(self) -> Configuration:
        """The configuration that the order has reached here."""
        return self._context.configuration

    @property
    def history_bytes(self) -> int:
        """What the decided batches kept in memory for others cost."""
        return self._context.log.history_bytes

    @property
    def delivered_sequence(self) -> int:
        """The last sequence number delivered here (or covered by an installed snapshot)."""
        return self._context.log.delivered

    @property
    def undelivered_count(self) -> int:
        """Own entries that await their delivery."""
        return self._router.origin.waiting_count
