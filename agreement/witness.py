"""A witness: an acceptor that is asked only while a server is silent, and forgets as soon as it may.

It holds votes of configurations that have not been released yet.  What it may forget is decided by the servers
(`releasing`): when every server of configuration `c + 1` has durably left `c`, it drops `c`, and keeps for ever the
number `c + 1`, because an empty memory must not promise anything about `c` again:
1. s1 and w choose ServerLeft(s0); w forgets.  2. The partition turns: s0 reaches w, not s1.  3. w promises with an
empty memory, and s0 and w, a quorum of the old configuration, choose ServerLeft(s1).  Both servers go on alone.

Source: Lamport and Massa, "Cheap Paxos" (2004), section 3.
"""

from collections.abc import Iterable

from agreement.acceptor import Acceptor
from agreement.birth import Start, begin_life, check_memory
from agreement.changes import decode_batch
from agreement.configuration import Configuration
from agreement.identifiers import Identity, MemberId
from agreement.messages import Accept, Accepted, Announce, Message, Nack, Prepare, Release, Released, Superseded
from agreement.output import LimitReached, Outbox, Output
from agreement.records import (
    StoredConfiguration,
    StoredState,
    delete_configurations,
    delete_slots,
    put_floor,
    put_lowest,
    put_promise,
    put_slot,
)
from agreement.settings import AgreementSettings
from agreement.voting import promise_parts

CONFIGURATIONS_MAX = 64
"""Configurations that are not released yet; each takes a server that left, so few are ever open."""


class _Memory:
    """What a witness knows about one configuration."""

    def __init__(self, configuration: int, stored: StoredConfiguration | None = None) -> None:
        self.floor = -1 if stored is None else stored.floor
        """Slots up to this one are forgotten: every server has them."""
        self.acceptor = Acceptor(configuration, stored, self.floor)
        self.leader: MemberId | None = None
        self.leader_heard_ms = 0


class Witness:
    """One witness; driven like a `Node`, but it never delivers."""

    def __init__(
        self,
        identity: Identity,
        settings: AgreementSettings,
        members: Iterable[Identity],
        storage_content: Iterable[tuple[bytes, bytes]],
        now_ms: int,
        *,
        start: Start,
    ) -> None:
        """Start a witness; arguments and errors as for `Node`."""
        assert not identity.member.is_server, f"{identity} is a server: use Node"
        self._identity = identity
        self._settings = settings
        self._cell = Configuration.first(members)
        stored = check_memory(identity, self._cell, storage_content, start)
        self._outbox = Outbox(identity)
        begin_life(self._outbox, identity, stored, start)
        self._now_ms = now_ms
        self._lowest = self._cell if stored.lowest is None else stored.lowest
        """Nothing is answered about configurations before this one."""
        self._memories = _memories(stored)
        self._announce_ms = now_ms

    @classmethod
    def born(
        cls, identity: Identity, settings: AgreementSettings, members: Iterable[Identity], now_ms: int
    ) -> "Witness":
        """A witness of a cell that starts for the first time."""
        return cls(identity, settings, members, (), now_ms, start=Start.BORN)

    @classmethod
    def recovered(
        cls,
        identity: Identity,
        settings: AgreementSettings,
        members: Iterable[Identity],
        storage_content: Iterable[tuple[bytes, bytes]],
        now_ms: int,
    ) -> "Witness":
        """A witness that restarts with its complete memory.

        Raises:
            AmnesiaError: the storage is not the complete memory of `identity`.
        """
        return cls(identity, settings, members, storage_content, now_ms, start=Start.RECOVERED)

    @classmethod
    def amnesiac(
        cls, identity: Identity, settings: AgreementSettings, members: Iterable[Identity], now_ms: int
    ) -> "Witness":
        """A witness without memory: it votes in no configuration, until a `WitnessReplaced` names its incarnation."""
        return cls(identity, settings, members, (), now_ms, start=Start.AMNESIAC)

    # --- inputs ------------------------------------------------------------------------------------------------

    def receive(self, sender: MemberId, message: Message, now_ms: int) -> None:
        """A message of a server arrived.

        Raises:
            MalformedMessage: a batch in the message cannot be read; nothing was changed.
        """
        self._now_ms = now_ms
        match message:
            case Prepare():
                self._on_prepare(sender, message)
            case Accept():
                self._on_accept(sender, message)
            case Release():
                self._on_release(sender, message)
            case _:
                pass  # servers say more to each other, and a witness takes no part in it

    def on_persisted(self, token: int, now_ms: int) -> None:
        """All writes up to the output with this token are durable."""
        self._now_ms = now_ms
        self._outbox.persisted(token)

    def on_timer(self, now_ms: int) -> None:
        """The time `next_timer_ms` has come, or may have: ask to be named, if no configuration names us."""
        self._now_ms = now_ms
        if self._is_named or now_ms < self._announce_ms:
            return
        self._announce_ms = now_ms + self._settings.crash_timeout_ms
        announce = Announce(self._lowest.number, self._identity.incarnation)
        for server in self._cell.server_ids:
            self._outbox.send_when_durable(server, announce)

    def take_output(self) -> Output:
        """What is to be done now."""
        return self._outbox.take()

    def next_timer_ms(self) -> int | None:
        """When `on_timer` wants to be called, as monotonic time; None for never."""
        return None if self._is_named else self._announce_ms

    # --- observation -------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """This witness and its incarnation."""
        return self._identity

    @property
    def configuration(self) -> Configuration:
        """The oldest configuration that this witness still answers about."""
        return self._lowest

    @property
    def votes_count(self) -> int:
        """Votes in memory."""
        return sum(len(memory.acceptor.votes) for memory in self._memories.values())

    # --- inside ------------------------------------------------------------------------------------------------

    @property
    def _is_named(self) -> bool:
        return self._lowest.latest_incarnation(self._identity.member) == self._identity.incarnation

    def has_ended(self, number: int) -> bool:
        """Whether every server has left this configuration, so that nothing may be answered about it any more."""
        return number < self._lowest.number

    def _memory_for(self, sender: MemberId, message: Prepare | Accept, members: Configuration | None) -> _Memory | None:
        """The memory that `message` is about; None if it must not be answered, or `Superseded` was the answer."""
        if self.has_ended(message.configuration):
            reply = Superseded(self._lowest.number, self._identity.incarnation, self._lowest)
            self._outbox.send_when_durable(sender, reply)
            return None
        if members is None or members.number != message.configuration or not members.names(self._identity):
            return None
        if not members.names(Identity(sender, message.incarnation)):
            return None
        memory = self._memories.get(members.number)
        if memory is None and len(self._memories) < CONFIGURATIONS_MAX:
            memory = self._memories[members.number] = _Memory(members.number)
        if memory is None:
            self._outbox.report(LimitReached("configurations", f"{len(self._memories)} are not released"))
        return memory

    def _on_prepare(self, sender: MemberId, prepare: Prepare) -> None:
        memory = self._memory_for(sender, prepare, prepare.members)
        if memory is None:
            return
        acceptor = memory.acceptor
        if not acceptor.can_promise(prepare.ballot) or self._clings_to_leader(memory, sender):
            self._refuse(sender, prepare, acceptor)
            return
        if acceptor.promise(prepare.ballot):
            self._outbox.write(put_promise(prepare.configuration, prepare.ballot))
        number, incarnation = prepare.configuration, self._identity.incarnation
        votes = acceptor.report(max(prepare.first_slot, memory.floor + 1))
        for part in promise_parts(number, incarnation, prepare, memory.floor, votes, self._settings.part_bytes_max):
            self._outbox.send_when_durable(sender, part)

    def _clings_to_leader(self, memory: _Memory, candidate: MemberId) -> bool:
        """As servers do (see `electing`): while a leader uses this witness, others must not disturb it."""
        if memory.leader in (None, candidate):
            return False
        return self._now_ms - memory.leader_heard_ms < self._settings.election_timeout_min_ms

    def _refuse(self, sender: MemberId, refused: Prepare | Accept, acceptor: Acceptor) -> None:
        incarnation = self._identity.incarnation
        self._outbox.send(sender, Nack(refused.configuration, incarnation, refused.ballot, acceptor.promised))

    def _on_accept(self, sender: MemberId, accept: Accept) -> None:
        batch = decode_batch(accept.batch)
        memory = self._memory_for(sender, accept, accept.members)
        if memory is None:
            return
        number, acceptor = accept.configuration, memory.acceptor
        if not acceptor.can_vote(accept.ballot):
            self._refuse(sender, accept, acceptor)
            return
        memory.leader, memory.leader_heard_ms = sender, self._now_ms
        self._forget_through(number, memory, accept.released)
        if accept.slot <= memory.floor:
            acceptor.begin_run(accept.ballot, accept.first)
        else:
            acceptor.vote(accept.ballot, accept.first, accept.slot, accept.batch, batch)
            self._outbox.write(put_slot(number, accept.slot, accept.ballot, memory.floor, accept.batch))
        run = acceptor.run_after(memory.floor)
        accepted = Accepted(number, self._identity.incarnation, accept.ballot, run.first, run.through)
        self._outbox.send_when_durable(sender, accepted)

    def _on_release(self, sender: MemberId, release: Release) -> None:
        members = release.members
        if members.number < self._lowest.number:
            return
        if members.number > self._lowest.number:
            self._release_before(members)
        memory = self._memories.get(members.number)
        if memory is not None:
            self._forget_through(members.number, memory, release.through)
        released = Released(members.number, self._identity.incarnation, release.through)
        self._outbox.send_when_durable(sender, released)

    def _release_before(self, members: Configuration) -> None:
        """Forget everything before `members`, but for ever keep that there is nothing to be said about it."""
        self._lowest = members
        self._outbox.write(put_lowest(members))
        for write in delete_configurations(members.number):
            self._outbox.write(write)
        self._memories = {number: kept for number, kept in self._memories.items() if number >= members.number}

    def _forget_through(self, number: int, memory: _Memory, slot: int) -> None:
        """Forget slots that every server has durably: no candidate will ever ask for them."""
        if slot <= memory.floor:
            return
        memory.acceptor.forget_through([known for known in memory.acceptor.votes if known <= slot])
        memory.floor = slot
        # The promise may be known from a vote alone that is forgotten now.
        self._outbox.write(put_promise(number, memory.acceptor.promised))
        self._outbox.write(put_floor(number, slot))
        for write in delete_slots(number, slot + 1):
            self._outbox.write(write)


def _memories(stored: StoredState) -> dict[int, _Memory]:
    return {number: _Memory(number, kept) for number, kept in stored.configurations.items()}
