"""A simulated server: the manager's core, its agreement node, its hypervisor and its domains."""

from collections.abc import Callable
from functools import partial
from typing import Any

from agreement.changes import ServerLeft
from agreement.errors import ProposalError
from agreement.identifiers import Identity, MemberId
from agreement.node import Node
from agreement.output import Removed
from exec_wrapper.wire import Execute, ToWrapper
from replica_manager.core_output import CoreOutput
from replica_manager.execution.feed import PowerAction
from replica_manager.execution.request_log import RequestRecord
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import ReplySink, Submission
from replica_manager.manager_core import ManagerCore
from replica_manager.peer_messages import ManagerMessage, Part, Position
from replica_manager.server_settings import lower_timestamp
from tests.simulation.cell.checkers import SKEW_US
from tests.simulation.cell.domain_checkers import check_can_go_on
from tests.simulation.cell.history import History
from tests.simulation.cell.member import SimulatedMember
from tests.simulation.cell.misbehaviour import Misbehaviour
from tests.simulation.cell.network import Network
from tests.simulation.cell.options import Options
from tests.simulation.cell.rules import require
from tests.simulation.cell.world import World
from tests.simulation.fake_domain import FakeDomain
from tests.simulation.fake_part_spool import MemorySpool

TICK_US = 50_000
BOOT_US = (100_000, 600_000)
HELLO_LIMIT_US = 3_000_000
"""A fresh domain that says no Hello for so long could not be booted."""
ROWS_PER_PART = 2
"""So that a state has more parts than may be on their way at a time."""


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
    ) -> None:
        """Boot: both domains say Hello after a while."""
        self.number = number
        self.history = history
        self._power_us_max = options.power_us_max
        self._slowness: dict[DomainId, int] = {}
        self.clock_offset_us = world.random.randrange(0, 500_000)
        self.core = ManagerCore(options.core_settings(number), 0)
        self.domains = {name: FakeDomain(name, ROWS_PER_PART) for name in self.core.feeds}
        self.misbehaviours: dict[DomainId, Misbehaviour] = {}
        self._honest = Misbehaviour(world.random)
        self.on_boot: Callable[[DomainId], None] = lambda _domain: None
        self.suspended: set[DomainId] = set()
        self.spool = MemorySpool()
        self._held: set[int] = set()
        self.core.voter.on_prefix = self._on_stable
        self._is_core_armed = False
        self._busy_until_us = dict.fromkeys(self.domains, 0)
        self._told: dict[int, Position] = {}
        own = MemberId.server(number)
        settings = options.agreement_settings()
        node = Node.born(Identity(own, 1), settings, members, world.random, world.now_ms, self._admit)
        super().__init__(world, network, own, node)
        self.on_deliveries = self._deliver
        self.on_events = self._hear
        for name in self.domains:
            world.after(world.random.randrange(1000, 20_000), partial(self._link, name))
        world.after(TICK_US, self._tick)

    def _admit(self, payload: bytes) -> bytes:
        self.history.leader_clock_us = max(self.history.leader_clock_us, self.wall_us)
        return self.lower_timestamp(payload)

    def lower_timestamp(self, payload: bytes) -> bytes:
        """What the leader does with the timestamp of an entry."""
        return lower_timestamp(payload, self.wall_us, SKEW_US)

    @property
    def wall_us(self) -> int:
        """This server's clock."""
        return 1_000_000_000 + self.world.now_us + self.clock_offset_us

    def _tick(self) -> None:
        if self.is_up:
            self.core.on_timer(self.world.now_ms)
            for peer in self._peers():
                if self._told.get(peer) != self.core.position:
                    self._tell_position(peer)
            self.touch()
            self.world.after(TICK_US, self._tick)

    # -- clients -----------------------------------------------------------------------------------------------

    def open_client(self, sink: ReplySink, token: int) -> None:
        """A client asks for an id."""
        if self.is_up:
            self.core.open_client(sink, token, self.world.random.randbytes(16))
            self.touch()

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        """A client sends a request."""
        if self.is_up:
            self.core.submit(sink, submission, self.wall_us, self.world.random.randbytes(16))
            self.touch()

    # -- agreement and peers -----------------------------------------------------------------------------------

    def _deliver(self, deliveries: Any) -> None:
        for delivery in deliveries:
            self.history.delivered(self.number, delivery.sequence, delivery.entry)
            self.core.deliver(delivery.sequence, delivery.entry)

    def _on_stable(self, record: RequestRecord) -> None:
        assert record.stable_digest is not None
        self.history.stable.setdefault(record.sequence, {})[self.number] = record.stable_digest

    def _hear(self, events: Any) -> None:
        for event in events:
            self.history.event(self.number, type(event).__name__)
            if isinstance(event, Removed):
                self.crash()

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
        return [server for server in self.core.cell.live_servers if server != self.number]

    def _tell_position(self, peer: int) -> None:
        self._told[peer] = self.core.position
        self.post(MemberId.server(peer), self.core.position)

    # -- what the core wants -----------------------------------------------------------------------------------

    def after_pass(self) -> None:
        """Do what the core wants done, in the real shell's order."""
        output = self.core.take_output()
        self.history.manager_messages += len(output.broadcasts) + len(output.sends)
        for payload in output.proposals:
            self._propose(payload)
        for peer in self._peers() if output.broadcasts or output.sends else ():
            self._tell_position(peer)
            for message in output.broadcasts:
                self.post(MemberId.server(peer), message)
        for peer, message in output.sends:
            self.post(MemberId.server(peer), message)
        self._held -= {resolution.sequence for resolution in output.resolved}
        for domain, frame in output.frames:
            self._feed(domain, frame)
        for domain, action in output.power:
            self._power(domain, action)
        for opening in output.openings:
            opening.sink.client_opened(opening.token, opening.client)
        for reply in output.replies:
            reply.sink.replied(reply.client, reply.number, reply.outcome, reply.reply)
        self._repair(output)
        for resolution in output.resolved:
            self.history.resolutions[resolution.token] = resolution
        for event in output.events:
            if event.kind == "request_held":
                self._held.add(event.data["sequence"])
            self.history.core_event(self.number, event.kind, event.data, self.world.now_us)
            if event.kind == "repaired":
                check_can_go_on([self], self.history)
        self._arm_core()

    def _arm_core(self) -> None:
        """Have the core's timer called when something is due that cannot wait for the next tick."""
        due_ms = self.core.next_due_ms()
        if due_ms is None or self._is_core_armed:
            return
        self._is_core_armed = True

        def due() -> None:
            self._is_core_armed = False
            if self.is_up:
                self.core.on_timer(self.world.now_ms)
                self.touch()

        self.world.after(max(1, due_ms * 1000 - self.world.now_us), due)

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
            self.domains[domain] = FakeDomain(domain, ROWS_PER_PART)
            self._busy_until_us[domain] = 0
            self.history.fresh.add(domain)
            self.on_boot(domain)
            self.world.after(self.world.random.randrange(*BOOT_US), partial(self._link, domain))
        if output.is_leaving:
            assert isinstance(self.agreement, Node)
            self.agreement.propose_change(ServerLeft(self.number, fenced=False), self.world.now_ms)
            self.touch()

    def _propose(self, payload: bytes) -> None:
        assert isinstance(self.agreement, Node)
        try:
            self.agreement.propose(payload, self.world.now_ms)
        except ProposalError:
            self.core.on_proposal_refused(payload)
        self.touch()

    # -- domains -----------------------------------------------------------------------------------------------

    def _link(self, domain: DomainId) -> None:
        if not self.is_up or domain not in self.domains:
            return
        replica = self.domains[domain]
        hello = self._behaviour(domain).hello(replica.hello())
        if hello is None:
            self.world.after(HELLO_LIMIT_US, partial(self._give_up_boot, domain))
            return
        replica.cursor, replica.previous = hello.cursor, hello.cursor - 1  # it believes what it claims
        self.core.on_domain_linked(domain, hello)
        self.touch()

    def _give_up_boot(self, domain: DomainId) -> None:
        if self.is_up and domain in self.domains:
            self.core.on_boot_failed(domain, "its wrapper says nothing")
            self.touch()

    def _behaviour(self, domain: DomainId) -> Misbehaviour:
        return self.misbehaviours.get(domain, self._honest)

    def misbehave(self, domain: DomainId, misbehaviour: Misbehaviour) -> None:
        """From now on a domain is faulty."""
        self.misbehaviours[domain] = misbehaviour
        self.history.faulty[domain] = type(misbehaviour).__name__

    def slow_down(self, domain: DomainId, factor: int) -> None:
        """A domain takes `factor` times as long for everything."""
        self._slowness[domain] = factor

    def _power(self, domain: DomainId, action: PowerAction) -> None:
        def done() -> None:
            if not self.is_up or (domain not in self.domains and action is not PowerAction.DESTROY):
                return
            if action is PowerAction.DESTROY:
                self.domains.pop(domain, None)
                self.suspended.discard(domain)
            self.core.on_power_done(domain, action)
            if action is PowerAction.SUSPEND:
                self.suspended.add(domain)
            elif action is PowerAction.RESUME:
                self.suspended.discard(domain)
            self.touch()

        self.world.after(self.world.random.randrange(1000, self._power_us_max), done)

    def _feed(self, domain: DomainId, frame: ToWrapper) -> None:
        assert domain not in self.suspended, f"{domain} is asleep and was sent {type(frame).__name__}"
        if isinstance(frame, Execute):
            require(frame.sequence not in self._held, "held requests are fed to nobody", f"{domain}: {frame.sequence}")
        start_us = max(self.world.now_us + 60, self._busy_until_us[domain])
        end_us = start_us + self.world.random.randrange(50, 400) * self._slowness.get(domain, 1)
        end_us += self._behaviour(domain).delay_us(frame)
        self._busy_until_us[domain] = end_us
        self.world.after(end_us - self.world.now_us, lambda: self._answer(domain, frame))

    def _answer(self, domain: DomainId, frame: ToWrapper) -> None:
        if not self.is_up or domain not in self.domains:
            return
        if isinstance(frame, Execute) and frame.payload in self.history.lethal:
            self.kill_domain(domain, "killed by a request")
            return
        behaviour = self._behaviour(domain)
        answers = behaviour.answer(frame, self.domains[domain].receive(frame))
        if behaviour.is_fatal:
            self.kill_domain(domain, "sent what is no frame")
        elif answers:
            self.core.on_domain_frames(domain, answers, self.world.now_ms)
            self.touch()

    def kill_domain(self, domain: DomainId, reason: str = "killed") -> None:
        """The domain's process or connection ends; the manager is told."""
        if self.is_up and domain in self.domains:
            self.history.faulty.setdefault(domain, reason)
            del self.domains[domain]
            self.core.on_domain_gone(domain, reason)
            self.touch()
