"""A simulated server: disk, hypervisor and domains, and on them one manager's process after the other.

A process is the manager's core and its agreement node, in the real shell's order of work.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from agreement.changes import Change, ServerJoined, ServerLeft
from agreement.errors import ProposalError
from agreement.identifiers import Identity, MemberId
from agreement.node import Node
from agreement.output import RejoinNeeded, Removed, SnapshotInstalled, SnapshotWanted
from replica_manager.cell.cell_state import CellState, encode_joiners
from replica_manager.cell_checkpoints import delete_all_checkpoints
from replica_manager.core_output import CoreOutput
from replica_manager.execution.request_log import RequestRecord
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import ReplySink, Submission
from replica_manager.log_keeping import LogKeeping, LogStep
from replica_manager.manager_core import ManagerCore
from replica_manager.memory import Memory, recall
from replica_manager.peer_messages import ManagerMessage, Part, Position, Presence
from replica_manager.server_settings import lower_timestamp
from replica_manager.standing import Standing
from tests.simulation.cell.checkers import SKEW_US
from tests.simulation.cell.domain_checkers import check_can_go_on
from tests.simulation.cell.exported import ExportedFile
from tests.simulation.cell.history import History
from tests.simulation.cell.hosted import HostedDomains
from tests.simulation.cell.member import SimulatedMember
from tests.simulation.cell.misbehaviour import Misbehaviour
from tests.simulation.cell.network import Network
from tests.simulation.cell.options import Options
from tests.simulation.cell.world import World
from tests.simulation.fake_domain import FakeDomain
from tests.simulation.fake_part_spool import MemorySpool
from tests.simulation.fake_storage import FakeStableStorage

TICK_US = 50_000
EPOCH_US = 1_700_000_000_000_000
"""What an exact clock shows at the begin."""
REJOIN_US = (50_000, 300_000)
"""From the end of a process that has to rejoin to the begin of the next."""
NOTICE_US = (500, 3_000_000)
"""Until a peer notices that a connection has ended."""


class SimulatedServer(SimulatedMember):
    """One server."""

    def __init__(
        self,
        world: World,
        network: Network,
        number: int,
        members: list[Identity],
        options: Options,
        history: History,
        plant: "Callable[[SimulatedServer], None] | None" = None,
    ) -> None:
        """Start in a new cell."""
        super().__init__(world, network, MemberId.server(number))
        self.number = number
        self.history = history
        self.peers: list[SimulatedServer] = []
        """All servers, this one among them; set by whoever made them."""
        self._options = options
        self._members = members
        self._plant = plant
        self.clock_offset_us = world.random.randrange(0, 500_000)
        self.hosted = HostedDomains(self, options.power_us_max)
        self._former_incarnation = 0
        self.on_deliveries = self._deliver
        self.on_events = self._hear
        self.start(Standing.SERVING)

    # -- life --------------------------------------------------------------------------------------------------

    def start(self, wanted: Standing) -> None:
        """A process starts, as production's `run_server` has it."""
        memory = recall(self.storage, wanted, is_complete=True)
        if memory.objection:
            self.history.event(self.number, "memory lost")
        settings = self._options.core_settings(self.number)
        self.core = ManagerCore(settings, self.world.now_ms, memory.standing, memory.cell, life=self.life + 1)
        self.core.voter.on_prefix = self._on_stable
        self.spool = MemorySpool()
        self.file = ExportedFile(self)
        self.linked_cursors: dict[DomainId, int] = {}
        """Of domains that came back: what they had done before is not voted on again."""
        self.log = LogKeeping(self._options.checkpoint_entries)
        self._is_core_armed = False
        self._told: dict[int, Position] = {}
        self.history.begin_order(self.number)
        self.begin_life(self._make_node(memory))
        assert isinstance(self.agreement, Node)
        self.core.membership.incarnation = self.agreement.identity.incarnation
        if memory.standing is Standing.LEARNING:
            self.write((delete_all_checkpoints(),), lambda: None)
        self.hosted.open(keep_disks=memory.standing is Standing.RETURNING)
        if memory.standing is Standing.SERVING:
            for domain in self.core.feeds:
                self.hosted.boot_first(domain)
        if self._plant is not None:
            self._plant(self)
        for peer in self.peers:
            self._connect(peer)
        self.later(TICK_US, self._tick)

    def _make_node(self, memory: Memory) -> Node:
        settings, draw, now_ms = self._options.agreement_settings(), self.world.random, self.world.now_ms
        if memory.standing is Standing.SERVING:
            return Node.born(Identity(self.own, 1), settings, self._members, draw, now_ms, self._admit)
        known, content = memory.identity, memory.content
        if known is not None:
            return Node.recovered(known, settings, self._members, content, draw, now_ms, self._admit)
        fresh = Identity(self.own, max(self.wall_us, self._former_incarnation + 1))
        return Node.amnesiac(fresh, settings, self._members, draw, now_ms, self._admit)

    def _connect(self, peer: "SimulatedServer") -> None:
        if peer is not self and peer.is_up and not self.network.is_cut(self.own, peer.own):
            peer.core.on_peer_down(self.number)
            peer.on_link_new(self.own)
            self.on_link_new(peer.own)

    def stop(self, *, with_domains: bool) -> None:
        """The manager's process ends at once; its domains end too, or when the next one finds them."""
        super().crash()
        if with_domains:
            self.hosted.end()
        self.tell_peers_of_end()

    def lose_power(self) -> None:
        """The whole machine goes off."""
        super().crash()
        self.hosted.lose_power()
        self.tell_peers_of_end()

    def lose_disk(self) -> None:
        """Everything that was written is gone, while the server is off."""
        assert not self.is_up
        self.storage = FakeStableStorage(is_synced=False)
        self.hosted.disks.clear()

    def tell_peers_of_end(self) -> None:
        """Connections are lost; each peer notices in its own time, unless a new one comes first."""
        life = self.life
        for peer in self.peers:
            if peer is not self and peer.is_up:
                peer.later(self.world.random.randrange(*NOTICE_US), partial(peer.on_link_lost, self, life))

    def on_link_lost(self, peer: "SimulatedServer", life: int) -> None:
        """A connection to a peer has ended."""
        if peer.life == life:
            self.core.on_peer_down(peer.number)
            self.touch()

    def rejoin(self, latest: int = 0) -> None:
        """End in good order, and come back without memory."""
        assert self.agreement is not None
        self._former_incarnation = max(latest, self.agreement.identity.incarnation)
        self.history.event(self.number, "rejoining")
        self.end_life()
        self.storage.sync(self.storage.unsynced_count)
        self.hosted.end()
        self.tell_peers_of_end()
        life = self.life

        def come_back() -> None:
            if life == self.life:
                self.start(Standing.LEARNING)

        self.world.after(self.world.random.randrange(*REJOIN_US), come_back)

    @property
    def is_serving(self) -> bool:
        """Whether clients can connect."""
        return self.is_up and self.core.standing is Standing.SERVING

    def _admit(self, payload: bytes) -> bytes:
        self.history.leader_clock_us = max(self.history.leader_clock_us, self.wall_us)
        return self.lower_timestamp(payload)

    def lower_timestamp(self, payload: bytes) -> bytes:
        """What the leader does with the timestamp of an entry."""
        return lower_timestamp(payload, self.wall_us, SKEW_US)

    @property
    def wall_us(self) -> int:
        """This server's clock."""
        return EPOCH_US + self.world.now_us + self.clock_offset_us

    def _tick(self) -> None:
        self.core.on_timer(self.world.now_ms)
        for peer in self._peers():
            if self._told.get(peer) != self.core.position:
                self._tell_position(peer)
        durable = self.core.retention.durable
        self._keep_log(self.log.next_step(self.core.cell, self.core.standing, durable))
        self.touch()
        self.later(TICK_US, self._tick)

    def _keep_log(self, step: LogStep | None) -> None:
        if step is None:
            return
        if step.compact_through:
            assert isinstance(self.agreement, Node)
            self.agreement.compact(step.compact_through)
            self.history.event(self.number, "log_compacted")
            self.touch()

        def written() -> None:
            if step.position:
                self.log.on_written(step.position)

        self.write((step.write,), written)

    # -- clients -----------------------------------------------------------------------------------------------

    def open_client(self, sink: ReplySink, token: int) -> None:
        """A client asks for an id."""
        if self.is_serving:
            self.core.open_client(sink, token, self.world.random.randbytes(16))
            self.touch()

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        """A client sends a request."""
        if self.is_serving:
            self.core.submit(sink, submission, self.wall_us, self.world.random.randbytes(16))
            self.touch()

    def abort_export(self, token: int) -> None:
        """The operator does not want the file any more."""
        self.file.drop()
        self.core.abort_export(token)
        self.touch()

    # -- agreement and peers -----------------------------------------------------------------------------------

    def _deliver(self, deliveries: Any) -> None:
        for delivery in deliveries:
            self.history.delivered(self.number, delivery.sequence, delivery.entry)
            if delivery.sequence > self.core.cell.sequence:  # else the checkpoint covers it
                self.core.deliver(delivery.sequence, delivery.entry)

    def _on_stable(self, record: RequestRecord) -> None:
        assert record.stable_digest is not None
        self.history.stable.setdefault(record.sequence, set()).add((self.number, record.stable_digest))

    def _hear(self, events: Any) -> None:
        for event in events:
            self.history.event(self.number, type(event).__name__)
            match event:
                case Removed() | RejoinNeeded():
                    self.rejoin(event.latest_incarnation if isinstance(event, Removed) else 0)
                    return
                case SnapshotWanted(member=member):
                    assert isinstance(self.agreement, Node)
                    cell = self.core.cell
                    self.agreement.provide_snapshot(member, cell.sequence, cell.encode(), self.world.now_ms)
                case SnapshotInstalled(sequence=sequence, application=application):
                    if self.core.standing is not Standing.LEARNING:
                        self.rejoin()
                        return
                    self.history.begin_order(self.number)
                    self.core.install_snapshot(sequence, CellState.decode(application))
                    self._keep_log(self.log.write(self.core.cell))
        self.touch()

    def take(self, sender: MemberId, message: Any) -> None:
        """Take one message of a peer."""
        if isinstance(message, ManagerMessage):
            self.core.on_peer_message(sender.number, message, self.world.now_ms)
        else:
            super().take(sender, message)

    def on_link_new(self, peer: MemberId) -> None:
        """A connection to a peer is new."""
        if self.is_up and peer.is_server:
            self._told.pop(peer.number, None)
            self.core.on_peer_up(peer.number)
            self.touch()

    def _peers(self) -> list[int]:
        near = {*self.core.cell.live_servers, *self.core.membership.learners}
        return [server for server in sorted(near) if server != self.number]

    def _tell_position(self, peer: int) -> None:
        self._told[peer] = self.core.position
        self.post(MemberId.server(peer), self.core.position)

    # -- what the core wants -----------------------------------------------------------------------------------

    def after_pass(self) -> None:
        """Do what the core wants done, in the real shell's order."""
        output = self.core.take_output()
        for payload in output.proposals:
            self._propose(payload)
        self._tell_peers(output)
        self.hosted.held -= {resolution.sequence for resolution in output.resolved}
        for domain, frame in output.frames:
            self.hosted.feed(domain, frame)
        for domain, action in output.power:
            self.hosted.power(domain, action)
        for opening in output.openings:
            opening.sink.client_opened(opening.token, opening.client)
        for reply in output.replies:
            reply.sink.replied(reply.client, reply.number, reply.outcome, reply.reply)
        self._note(output)
        self._repair(output)
        self.file.take(output.export)
        self._move(output)

    def _tell_peers(self, output: CoreOutput) -> None:
        self.history.manager_messages += len(output.broadcasts) + len(output.sends)
        for peer in self._peers() if output.broadcasts or output.sends else ():
            if self._told.get(peer) != self.core.position:
                self._tell_position(peer)
            for message in output.broadcasts:
                self.post(MemberId.server(peer), message)
        for peer, message in output.sends:
            if isinstance(message, Presence):
                self.network.send_in_order(self.own, MemberId.server(peer), message)
            else:
                self.post(MemberId.server(peer), message)

    def _note(self, output: CoreOutput) -> None:
        for resolution in output.resolved:
            self.history.resolutions[resolution.token] = resolution
        for event in output.events:
            if event.kind == "request_held":
                self.hosted.held.add(event.data["sequence"])
            self.history.core_event(self.number, event.kind, event.data, self.world.now_us)
            if event.kind == "repaired":
                check_can_go_on([self], self.history)
        self.hosted.held -= {resolution.sequence for resolution in output.resolved}

    def _move(self, output: CoreOutput) -> None:
        if output.joins_with is not None:
            assert isinstance(self.agreement, Node)
            payload = encode_joiners(*output.joins_with)
            self._propose_change(ServerJoined(self.number, self.agreement.identity.incarnation, payload))
        if output.is_leaving:
            self._propose_change(ServerLeft(self.number, fenced=False))
        if output.must_rejoin:
            self.rejoin()
        else:
            self._arm_core()

    def _arm_core(self) -> None:
        """Have the core's timer called when something is due that cannot wait for the next tick."""
        due_ms = self.core.next_due_ms()
        if due_ms is None or self._is_core_armed:
            return
        self._is_core_armed = True

        def due() -> None:
            self._is_core_armed = False
            self.core.on_timer(self.world.now_ms)
            self.touch()

        self.later(max(1, due_ms * 1000 - self.world.now_us), due)

    def _repair(self, output: CoreOutput) -> None:
        for domain, part in output.parts:
            try:
                self.spool.keep(part.point, domain, part.data)
            except OSError:
                self.history.event(self.number, "state_part_lost")
        for wanted in output.parts_wanted:
            data = self.spool.read(wanted.point, wanted.domain, wanted.part_index) or b""
            part_read = Part(wanted.point, wanted.domain, wanted.part_index, data)
            if wanted.receiver is None:
                self.core.on_part(part_read)
                self.touch()
            else:
                self.post(MemberId.server(wanted.receiver), part_read)
        for point in output.points_ended:
            self.spool.drop(point)
        for domain in output.boots:
            self.hosted.boot_fresh(domain)
        for domain in output.boots_from_disk:
            self.hosted.boot_from_disk(domain)

    def _propose(self, payload: bytes) -> None:
        assert isinstance(self.agreement, Node)
        try:
            self.agreement.propose(payload, self.world.now_ms)
        except ProposalError:
            self.core.on_proposal_refused(payload)
        self.touch()

    def _propose_change(self, change: Change) -> None:
        assert isinstance(self.agreement, Node)
        self.agreement.propose_change(change, self.world.now_ms)
        self.touch()

    # -- domains -----------------------------------------------------------------------------------------------

    @property
    def domains(self) -> dict[DomainId, FakeDomain]:
        """Those that run."""
        return self.hosted.running

    def misbehave(self, domain: DomainId, misbehaviour: Misbehaviour) -> None:
        """From now on a domain is faulty."""
        self.hosted.misbehaviours[domain] = misbehaviour
        self.history.faulty[domain] = type(misbehaviour).__name__

    def slow_down(self, domain: DomainId, factor: int) -> None:
        """A domain takes `factor` times as long for everything."""
        self.hosted.slowness[domain] = factor

    def kill_domain(self, domain: DomainId, reason: str = "killed") -> None:
        """The domain's process or connection ends; the manager is told."""
        if self.is_up:
            self.hosted.kill(domain, reason)
