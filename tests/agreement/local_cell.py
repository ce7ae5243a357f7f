"""A cell in one thread whose messages, syncs and clock are moved by the test, by hand or all at once."""

import random
from collections import defaultdict
from collections.abc import Callable

from agreement.birth import Start
from agreement.changes import Change
from agreement.configuration import Configuration
from agreement.context import Role
from agreement.identifiers import Identity, MemberId
from agreement.messages import Message
from agreement.node import Node
from agreement.output import Delivery, Event, SnapshotInstalled
from agreement.records import PREFIX, PREFIX_END
from agreement.settings import AgreementSettings
from agreement.witness import Witness
from tests.simulation.agreement.checkers import Checkers
from tests.simulation.fake_storage import FakeStableStorage

S0, S1, S2, S3 = (MemberId.server(number) for number in range(4))
W0, W1, W2 = (MemberId.witness(number) for number in range(3))

Flight = tuple[MemberId, MemberId, Message]
"""Sender, receiver, message."""


class LocalCell:
    """Members, their storages, and everything between them."""

    def __init__(
        self,
        tolerated_faults: int = 1,
        has_witnesses: bool = True,
        settings: AgreementSettings | None = None,
        seed: int = 0,
        admit: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.settings = settings or AgreementSettings()
        self.now_ms = 1_000
        self.rng = random.Random(seed)
        self.members = [Identity(MemberId.server(number), 1) for number in range(tolerated_faults + 1)]
        if has_witnesses:
            self.members += [Identity(MemberId.witness(number), 1) for number in range(tolerated_faults)]
        self.checkers = Checkers(Configuration.first(self.members))
        self.storages = {identity.member: FakeStableStorage(is_synced=False) for identity in self.members}
        self.cores: dict[MemberId, Node | Witness] = {}
        self.pool: list[Flight] = []
        self.sent: list[Flight] = []
        self.deliveries: dict[MemberId, list[Delivery]] = defaultdict(list)
        self.events: dict[MemberId, list[Event]] = defaultdict(list)
        self.tokens: dict[MemberId, int] = {}
        self.cut: set[MemberId] = set()
        self.hung: set[MemberId] = set()
        """Members whose storage makes nothing durable any more."""
        self.loses: Callable[[Message], bool] = lambda message: False
        """Whether the network loses a message."""
        self._delivered: dict[MemberId, int | None] = {}
        self._admit = admit
        for identity in self.members:
            self.start(identity, Start.BORN)

    # --- members -----------------------------------------------------------------------------------------------

    def start(self, identity: Identity, start: Start, vouched: tuple[int, ...] = ()) -> None:
        """Start a member; `AMNESIAC` with an empty storage."""
        member = identity.member
        if start is Start.AMNESIAC:
            self.storages[member] = FakeStableStorage(is_synced=False)
        content = list(self.storages[member].scan(PREFIX, PREFIX_END))
        rng = random.Random(self.rng.getrandbits(32))
        if member.is_server:
            self.cores[member] = Node(
                identity,
                self.settings,
                self.members,
                content,
                rng,
                self.now_ms,
                self._admit,
                start=start,
                vouched=vouched,
            )
        else:
            self.cores[member] = Witness(identity, self.settings, self.members, content, self.now_ms, start=start)
        self._delivered[member] = None
        self.pump(member)

    def node(self, member: MemberId) -> Node:
        """The core of a server."""
        core = self.cores[member]
        assert isinstance(core, Node)
        return core

    def witness(self, member: MemberId) -> Witness:
        """The core of a witness."""
        core = self.cores[member]
        assert isinstance(core, Witness)
        return core

    @property
    def nodes(self) -> list[Node]:
        """The cores of the running servers."""
        return [core for _, core in sorted(self.cores.items()) if isinstance(core, Node)]

    @property
    def leader(self) -> Node:
        """The one server that leads the newest configuration."""
        newest = max(node.configuration.number for node in self.nodes)
        (leader,) = [node for node in self.nodes if node.is_leader and node.configuration.number == newest]
        return leader

    def crash(self, member: MemberId) -> None:
        """End a member's process; what was not synced may be lost."""
        del self.cores[member]
        self.tokens.pop(member, None)
        self.storages[member].crash(self.rng)

    def restart(self, member: MemberId, incarnation: int = 1, vouched: tuple[int, ...] = ()) -> None:
        """Start a crashed member with its memory."""
        self.start(Identity(member, incarnation), Start.RECOVERED, vouched)

    def restart_without_memory(self, member: MemberId, incarnation: int) -> None:
        """Start a crashed member as somebody new."""
        self.start(Identity(member, incarnation), Start.AMNESIAC)

    # --- inputs ------------------------------------------------------------------------------------------------

    def propose(self, member: MemberId, payload: bytes) -> int:
        """Propose at a server; nothing is delivered yet."""
        node = self.node(member)
        number = node.propose(payload, self.now_ms)
        self.checkers.origins.record_proposal(node.identity, number, payload)
        self.pump(member)
        return number

    def propose_change(self, member: MemberId, change: Change) -> None:
        """Ask for a change at a server."""
        self.node(member).propose_change(change, self.now_ms)
        self.pump(member)

    def pump(self, member: MemberId) -> None:
        """Take the output of a member: messages to the pool, writes to the storage, deliveries to the checkers."""
        core = self.cores[member]
        output = core.take_output()
        if output.token is not None:
            self.storages[member].write(output.writes)
            self.tokens[member] = output.token
        for receiver, message in output.sends:
            self.sent.append((member, receiver, message))
            if not self.loses(message):
                self.pool.append((member, receiver, message))
        self.events[member] += output.events
        for event in output.events:
            if isinstance(event, SnapshotInstalled):
                self._delivered[member] = event.sequence
        self._record(core, output.deliveries)

    def _record(self, core: Node | Witness, deliveries: tuple[Delivery, ...]) -> None:
        if not deliveries:
            return
        member = core.identity.member
        before = self._delivered[member]
        before = deliveries[0].sequence - 1 if before is None else before
        self._delivered[member] = self.checkers.record(core.identity, before, deliveries)
        self.deliveries[member] += deliveries
        assert isinstance(core, Node)
        self.checkers.membership.check(core.identity, core.configuration)

    # --- step by step ------------------------------------------------------------------------------------------

    def deliver(self, index: int, is_kept: bool = False) -> None:
        """Deliver a message of the pool; `is_kept` leaves it there, to come again."""
        sender, receiver, message = self.pool[index] if is_kept else self.pool.pop(index)
        core = self.cores.get(receiver)
        if core is not None and not {sender, receiver} & self.cut:
            core.receive(sender, message, self.now_ms)
            self.pump(receiver)

    def sync(self, member: MemberId) -> None:
        """Make everything that a member has written durable."""
        token = self.tokens.pop(member, None)
        if token is not None:
            self.storages[member].sync(self.storages[member].unsynced_count)
            self.cores[member].on_persisted(token, self.now_ms)
            self.pump(member)

    def fire_timers(self) -> None:
        """Wake every member that wants it."""
        for member, core in sorted(self.cores.items()):
            due_ms = core.next_timer_ms()
            if due_ms is not None and due_ms <= self.now_ms:
                core.on_timer(self.now_ms)
                self.pump(member)

    # --- all at once -------------------------------------------------------------------------------------------

    def run(self, rounds_max: int = 10_000) -> None:
        """Deliver and sync, in order, until nothing is under way; no time passes."""
        for _ in range(rounds_max):
            if self.pool:
                self.deliver(0)
            elif ready := [member for member in self.tokens if member not in self.hung]:
                self.sync(min(ready))
            else:
                return
        raise AssertionError("messages without end")

    def advance(self, duration_ms: int) -> None:
        """Let time pass from timer to timer."""
        end_ms = self.now_ms + duration_ms
        self.run()
        while (due_ms := self._next_timer_ms()) is not None and due_ms <= end_ms:
            self.now_ms = max(self.now_ms, due_ms)
            self.fire_timers()
            self.run()
        self.now_ms = end_ms

    def _next_timer_ms(self) -> int | None:
        timers = [timer_ms for core in self.cores.values() if (timer_ms := core.next_timer_ms()) is not None]
        return min(timers, default=None)

    def advance_until(self, is_over: Callable[[], bool], limit_ms: int = 60_000) -> None:
        """Let time pass until something holds."""
        end_ms = self.now_ms + limit_ms
        while not is_over():
            assert self.now_ms < end_ms, "it never holds"
            self.advance(10)

    def elect(self) -> Node:
        """Let the cell find a leader whom all members follow."""
        self.advance_until(lambda: all(node.leader is not None for node in self.nodes if node.is_member))
        return self.leader

    def payloads(self, member: MemberId) -> list[bytes]:
        """Of the ordinary entries that a server has delivered."""
        return [getattr(delivery.entry, "payload", b"") for delivery in self.deliveries[member]]

    def messages(self, kind: type[Message]) -> list[Flight]:
        """Everything of one kind that was ever sent."""
        return [flight for flight in self.sent if isinstance(flight[2], kind)]

    def witness_messages(self) -> list[Flight]:
        """Everything that was ever sent to or by a witness."""
        return [flight for flight in self.sent if not (flight[0].is_server and flight[1].is_server)]

    def learners(self) -> list[Node]:
        """Servers in no configuration."""
        return [node for node in self.nodes if node.role is Role.LEARNER]
