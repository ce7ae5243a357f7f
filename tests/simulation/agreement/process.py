"""One running member: its core, its disk, its application, and the shell that joins them."""

import random
from collections.abc import Callable
from typing import Protocol

import msgspec

from agreement.birth import Start
from agreement.configuration import Configuration
from agreement.context import Role
from agreement.errors import ProposalError
from agreement.identifiers import Identity, MemberId
from agreement.messages import Message, ServerJoined
from agreement.node import Node
from agreement.output import Event, Output, RejoinNeeded, Removed, SnapshotInstalled, SnapshotWanted
from agreement.records import PREFIX, PREFIX_END, StoredState, read_storage
from agreement.settings import AgreementSettings
from agreement.witness import Witness
from tests.simulation.agreement.checkers import Checkers, Violation
from tests.simulation.agreement.options import Options
from tests.simulation.fake_storage import FakeStableStorage

_encode = msgspec.msgpack.Encoder().encode


class Disk:
    """What survives a process: the agreement's storage, and the application's last durable state."""

    def __init__(self) -> None:
        self.storage = FakeStableStorage(is_synced=False)
        self.sequence = 0
        self.digest = b""

    def durable_configuration(self, cell: Configuration) -> int:
        """In which configuration a restart from this disk would begin."""
        return configuration_after_restart(read_storage(self.storage.scan_durable(PREFIX, PREFIX_END)), cell)


def configuration_after_restart(stored: StoredState, cell: Configuration) -> int:
    """The number of the configuration that the records lead to without a gap."""
    number = (cell if stored.base is None else stored.base.configuration).number
    while number in stored.configurations and stored.configurations[number].end is not None:
        if stored.gap is not None and stored.gap[0] == number:
            break
        number += 1
    return number


class World(Protocol):
    """What a process needs of its surroundings."""

    now_ms: int
    rng: random.Random
    checkers: Checkers

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Put `action` into the schedule."""
        ...

    def transmit(self, process: "Process", output: Output) -> None:
        """Hand the messages of `output` to the network."""
        ...

    def on_event(self, process: "Process", event: Event) -> None:
        """A core has reported something that operators or shells act upon."""
        ...


class Process:
    """Runs until `crash`."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        disk: Disk,
        node: Node | Witness,
        options: Options,
    ) -> None:
        self.identity = identity
        self.node = node
        self.disk = disk
        self.is_alive = True
        self.is_paused = False
        self.delivered = disk.sequence
        self.is_rejoin_wanted = False
        self._world = world
        self.does_disk_lie = False
        self.takes_proposals = True
        self._sync_max_ms = options.sync_max_ms
        self._compaction_interval = options.compaction_interval
        self._is_syncing = False
        self._stalled_until_ms = 0
        self._token: int | None = None
        self._timer_ms: int | None = None
        self._postponed: list[Callable[[], None]] = []
        self.delivered_by_node = -1
        """Sequence number of the last delivery of this core; -1 before the first one."""

    # --- inputs ------------------------------------------------------------------------------------------------

    def do(self, action: Callable[[], None]) -> None:
        """Run an input of the core, or keep it while the process is paused."""
        if not self.is_alive:
            return
        if self.is_paused:
            self._postponed.append(action)
            return
        action()
        self.pump()

    def receive(self, sender: MemberId, message: Message) -> None:
        """A message arrived."""
        self.do(lambda: self.node.receive(sender, message, self._world.now_ms))

    def propose(self, payload: bytes) -> None:
        """A client asks."""
        if self.takes_proposals:
            self.do(lambda: self._propose(payload))

    def _propose(self, payload: bytes) -> None:
        assert isinstance(self.node, Node)
        try:
            number = self.node.propose(payload, self._world.now_ms)
        except ProposalError:
            return
        self._world.checkers.origins.record_proposal(self.identity, number, payload)

    def maybe_ask_to_join(self) -> None:
        """A learner asks to become a member, again and again."""
        node = self.node
        if isinstance(node, Node) and not node.is_member and node.role is Role.LEARNER and not self.is_rejoin_wanted:
            joined = ServerJoined(self.identity.member.number, self.identity.incarnation, b"two domains")
            self.do(lambda: node.propose_change(joined, self._world.now_ms))

    def pause(self) -> None:
        """Freeze the process; its sockets stay open."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on: what came meanwhile is handled in any order with the timers."""
        if not self.is_alive or not self.is_paused:
            return
        self.is_paused = False
        postponed, self._postponed = self._postponed, []
        if self._world.rng.random() < 0.5:
            self._on_timer()
        for action in postponed:
            self.do(action)

    def stall_disk(self, duration_ms: int) -> None:
        """Let no sync that begins from now on end before `duration_ms` have passed."""
        self._stalled_until_ms = self._world.now_ms + duration_ms

    def crash(self) -> None:
        """End at once; what the disk has not synced may be lost."""
        self.is_alive = False
        self.disk.storage.crash(self._world.rng)

    # --- outputs -----------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Take the output and act on it, in the fixed order."""
        output = self.node.take_output()
        if output.token is not None:
            self.disk.storage.write(output.writes)
            self._token = output.token
            self._maybe_sync()
            if self.does_disk_lie:
                self.node.on_persisted(output.token, self._world.now_ms)
        self._world.transmit(self, output)
        for event in output.events:
            if isinstance(event, SnapshotInstalled):
                self._install(event)
        self._deliver(output)
        for event in output.events:
            self._on_event(event)
        self._arm_timer()

    def _maybe_sync(self) -> None:
        """Group commit: one sync at a time, for all batches handed over so far."""
        if self._is_syncing or self._token is None:
            return
        self._is_syncing = True
        token, count = self._token, self.disk.storage.unsynced_count
        self._token = None
        delay_ms = self._world.rng.randint(1, self._sync_max_ms) + max(0, self._stalled_until_ms - self._world.now_ms)
        self._world.after(delay_ms, lambda: self._on_synced(token, count))

    def _on_synced(self, token: int, count: int) -> None:
        if not self.is_alive:
            return
        self.disk.storage.sync(count)
        self._is_syncing = False
        self._maybe_sync()
        self.do(lambda: self.node.on_persisted(token, self._world.now_ms))

    def _arm_timer(self) -> None:
        due_ms = self.node.next_timer_ms()
        if due_ms is None or (self._timer_ms is not None and self._timer_ms <= due_ms):
            return
        self._timer_ms = due_ms
        self._world.after(max(0, due_ms - self._world.now_ms), lambda: self._on_due(due_ms))

    def _on_due(self, due_ms: int) -> None:
        if self._timer_ms == due_ms:
            self._timer_ms = None
            if not self.is_paused:
                self._on_timer()

    def _on_timer(self) -> None:
        self.do(self._let_timer_run)

    def _let_timer_run(self) -> None:
        now_ms = self._world.now_ms
        self.node.on_timer(now_ms)
        due_ms = self.node.next_timer_ms()
        if due_ms is not None and due_ms <= now_ms:
            raise Violation(f"{self.identity} wants to be woken at {due_ms}, and it is {now_ms} already")

    # --- the application ---------------------------------------------------------------------------------------

    def _deliver(self, output: Output) -> None:
        """Check, and apply what the durable state does not cover yet; now and then make the state durable."""
        if not output.deliveries:
            return
        node = self.node
        assert isinstance(node, Node)
        checkers = self._world.checkers
        if self.delivered_by_node < 0:
            # After a restart the order comes again from the base on, which is at most what the application has.
            self.delivered_by_node = output.deliveries[0].sequence - 1
            assert self.delivered_by_node <= self.delivered, "a gap after a restart"
        self.delivered_by_node = checkers.record(self.identity, self.delivered_by_node, output.deliveries)
        self.delivered = max(self.delivered, self.delivered_by_node)
        checkers.membership.check(self.identity, node.configuration)
        if self.delivered >= self.disk.sequence + self._compaction_interval:
            self._make_durable(node)

    def _make_durable(self, node: Node) -> None:
        self.disk.sequence = self.delivered
        self.disk.digest = self._world.checkers.order.digests[self.delivered]
        node.compact(self.delivered)
        self.do(lambda: None)

    def _install(self, event: SnapshotInstalled) -> None:
        checkers = self._world.checkers
        sequence, digest = msgspec.msgpack.decode(event.application, type=tuple[int, bytes, bytes])[:2]
        assert sequence == event.sequence, "the application's own number"
        checkers.order.check_snapshot(self.identity, sequence, digest)
        self.delivered = self.delivered_by_node = sequence
        node = self.node
        assert isinstance(node, Node)
        self._world.after(self._world.rng.randint(0, 200), lambda: self._confirm_snapshot(node, sequence))

    def _confirm_snapshot(self, node: Node, sequence: int) -> None:
        """The application's copy is durable."""
        if self.is_alive and self.disk.sequence < sequence:
            self.disk.sequence = sequence
            self.disk.digest = self._world.checkers.order.digests[sequence]
            self.do(lambda: node.compact(sequence))

    def _on_event(self, event: Event) -> None:
        match event:
            case SnapshotWanted(member=member):
                self._world.after(self._world.rng.randint(0, 100), lambda: self._give_snapshot(member))
            case Removed() | RejoinNeeded():
                self.is_rejoin_wanted = True
        self._world.on_event(self, event)

    def _give_snapshot(self, member: MemberId) -> None:
        node = self.node
        assert isinstance(node, Node)
        digest = self._world.checkers.order.digests[self.delivered]
        application = _encode((self.delivered, digest, bytes(self._world.rng.choice((0, 50, 900)))))
        self.do(lambda: self._provide(node, member, application))

    def _provide(self, node: Node, member: MemberId, application: bytes) -> None:
        sequence = msgspec.msgpack.decode(application, type=tuple[int, bytes, bytes])[0]
        node.provide_snapshot(member, sequence, application, self._world.now_ms)


def start_core(
    types: tuple[type[Node], type[Witness]],
    identity: Identity,
    settings: AgreementSettings,
    members: list[Identity],
    disk: Disk,
    rng: random.Random,
    now_ms: int,
    start: Start,
    vouched: tuple[int, ...] = (),
) -> Node | Witness:
    """Make the core of a member from what its disk holds."""
    node_type, witness_type = types
    content = disk.storage.scan(PREFIX, PREFIX_END) if start is Start.RECOVERED else ()
    if identity.member.is_server:
        return node_type(identity, settings, members, content, rng, now_ms, start=start, vouched=vouched)
    return witness_type(identity, settings, members, content, now_ms, start=start)
