"""All members of a cell, the schedule, and the ends and beginnings of processes."""

import heapq
import random
from collections.abc import Callable

from agreement.birth import Start
from agreement.changes import decode_batch
from agreement.configuration import Configuration
from agreement.context import Role
from agreement.identifiers import Identity, MemberId
from agreement.messages import Message, ServerLeft
from agreement.node import Node
from agreement.output import Event, Output, ServerSuspected
from agreement.records import PREFIX, PREFIX_END, read_storage
from agreement.witness import Witness
from tests.simulation.agreement.checkers import Checkers
from tests.simulation.agreement.network import SimulatedNetwork
from tests.simulation.agreement.options import Options
from tests.simulation.agreement.process import Disk, Process, start_core

FENCE_DELAY_MS = 500
"""A server fences this long after the one below it would."""


class Cluster:
    """Runs the schedule of one seed."""

    node_type: type[Node] = Node
    witness_type: type[Witness] = Witness
    configuration_type: type[Configuration] = Configuration
    keeps_identity_without_memory = False
    do_disks_lie = False
    """Planted mistakes replace these."""

    def __init__(self, options: Options, rng: random.Random) -> None:
        self.options = options
        self.rng = rng
        self.now_ms = 0
        self.settings = options.settings()
        count = options.tolerated_faults
        self.members = [Identity(MemberId.server(number), 1) for number in range(count + 1)]
        if options.has_witnesses:
            self.members += [Identity(MemberId.witness(number), 1) for number in range(count)]
        self.cell = self.configuration_type.first(self.members)
        self.checkers = Checkers(self.cell)
        self.network = SimulatedNetwork(options, rng, self._deliver_after)
        self.disks = {identity.member: Disk() for identity in self.members}
        self.processes: dict[MemberId, Process] = {}
        self.incarnations = {identity.member: 1 for identity in self.members}
        self._departing: dict[MemberId, int] = {}
        self._silent_origins: set[MemberId] = set()
        self._schedule: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        for identity in self.members:
            self._start(identity, Start.BORN)

    # --- the schedule ------------------------------------------------------------------------------------------

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Put `action` into the schedule."""
        self._count += 1
        heapq.heappush(self._schedule, (self.now_ms + delay_ms, self._count, action))

    def run_until(self, end_ms: int, is_over: Callable[[], bool] | None = None) -> bool:
        """Run the schedule; whether `is_over` held before `end_ms`.  It is asked every 100 ms."""
        asked_ms = self.now_ms
        while self._schedule and self._schedule[0][0] <= end_ms:
            self.now_ms, _, action = heapq.heappop(self._schedule)
            action()
            if is_over is not None and self.now_ms >= asked_ms + 100:
                asked_ms = self.now_ms
                if is_over():
                    return True
        self.now_ms = end_ms
        return False

    def _deliver_after(self, delay_ms: int, sender: MemberId, receiver: MemberId, message: Message) -> None:
        self.after(delay_ms, lambda: self._deliver(sender, receiver, message))

    def _deliver(self, sender: MemberId, receiver: MemberId, message: Message) -> None:
        process = self.processes.get(receiver)
        if process is not None:
            process.receive(sender, message)

    def transmit(self, process: Process, output: Output) -> None:
        """Hand the messages of `output` to the network."""
        for receiver, message in output.sends:
            self.network.send(process.identity.member, receiver, message)

    # --- processes ---------------------------------------------------------------------------------------------

    @property
    def servers(self) -> list[Process]:
        """The running servers, by number."""
        return [process for member, process in sorted(self.processes.items()) if member.is_server]

    def nodes(self) -> list[Node]:
        """The cores of the running servers."""
        return [process.node for process in self.servers if isinstance(process.node, Node)]

    def is_running(self, member: MemberId) -> bool:
        """Whether the member's process runs."""
        return member in self.processes

    def _start(self, identity: Identity, start: Start, vouched: tuple[int, ...] = ()) -> None:
        disk = self.disks[identity.member]
        types = (self.node_type, self.witness_type)
        rng = random.Random(self.rng.getrandbits(32))
        core = start_core(types, identity, self.settings, self.members, disk, rng, self.now_ms, start, vouched)
        process = Process(self, identity, disk, core, self.options)
        process.does_disk_lie = self.do_disks_lie
        process.takes_proposals = identity.member not in self._silent_origins
        self.processes[identity.member] = process
        process.pump()

    def crash(self, member: MemberId) -> None:
        """Cut the power of one member."""
        process = self.processes.pop(member, None)
        if process is not None:
            process.crash()

    def restart(self, member: MemberId, vouched: tuple[int, ...] = ()) -> None:
        """Start a member that does not run, with its disk."""
        if self.is_running(member):
            return
        identity = Identity(member, self.incarnations[member])
        is_born = any(self.disks[member].storage.scan(b"", b"\xff"))
        # A birth record that was lost was never relied upon: nothing has left the process before it.
        self._start(identity, Start.RECOVERED if is_born else self._start_without_memory(identity), vouched)

    def _start_without_memory(self, identity: Identity) -> Start:
        is_first = identity.incarnation == 1 or self.keeps_identity_without_memory
        return Start.BORN if is_first else Start.AMNESIAC

    def lose_memory(self, member: MemberId) -> None:
        """Replace a member's disk by an empty one and start it again, as somebody new."""
        self.crash(member)
        self.disks[member] = Disk()
        if self.keeps_identity_without_memory:
            # It would number its entries from 1 again, which would be found before any split is.
            self._silent_origins.add(member)
        else:
            self.incarnations[member] += 1
        identity = Identity(member, self.incarnations[member])
        self._start(identity, self._start_without_memory(identity))

    def on_event(self, process: Process, event: Event) -> None:
        """Without witnesses a silent server is fenced before it is ordered to leave."""
        if isinstance(event, ServerSuspected) and not self.options.has_witnesses:
            rank = process.identity.member.number
            self.after(rank * FENCE_DELAY_MS, lambda: self._fence(process, event.server))

    def _fence(self, process: Process, server: int) -> None:
        if process.is_alive and not process.is_paused and process.identity.member.number != server:
            self.crash(MemberId.server(server))
            node = process.node
            assert isinstance(node, Node)
            process.do(lambda: node.propose_change(ServerLeft(server, fenced=True), self.now_ms))

    # --- what the bound allows ---------------------------------------------------------------------------------

    def may_lose_memory(self, member: MemberId) -> bool:
        """Whether one more lost memory stays within the bound.

        At most `f` members of the cell may be down for longer than a restart: have left, or have lost their memory.
        And every server of the newest configuration must have left the ones before: until then the memories of their
        members are needed too.  While a change is under way it is not known which members are needed.
        """
        latest = self.checkers.membership.latest
        if self._is_change_under_way(latest.number):
            return False
        for server in latest.server_ids:
            if self.disks[server].durable_configuration(self.cell) < latest.number:
                return False
        return (
            len({member} | {known for known in self.disks if not self._is_whole(known)}) <= len(self.cell.servers) - 1
        )

    def _is_whole(self, member: MemberId) -> bool:
        """Whether the newest configuration names the memory that `member` has, and nothing threatens it."""
        latest = self.checkers.membership.latest
        process = self.processes.get(member)
        if self._departing.get(member) == self.incarnations[member] or (process and process.is_rejoin_wanted):
            return False
        if not self.options.has_witnesses and (process is None or self._is_starting(process)):
            return False  # it may find that its peers went on
        is_present = not member.is_server or member in latest.incarnations
        return is_present and latest.latest_incarnation(member) == self.incarnations[member]

    def _is_starting(self, process: Process) -> bool:
        return isinstance(process.node, Node) and process.node.role is Role.STARTING

    def order_departure(self, asked: MemberId, target: MemberId) -> None:
        """A server's manager, or a peer, finds a server of no use; that is a fault too."""
        process = self.processes.get(asked)
        if process is None or not self.may_lose_memory(target):
            return
        node = process.node
        assert isinstance(node, Node)
        self._departing[target] = self.incarnations[target]
        left = ServerLeft(target.number, fenced=False)
        process.do(lambda: node.propose_change(left, self.now_ms))

    def _is_change_under_way(self, number: int) -> bool:
        """Whether anybody has voted for a change in this configuration."""
        for disk in self.disks.values():
            slots = read_storage(disk.storage.scan(PREFIX, PREFIX_END)).of(number).slots
            if any(decode_batch(record.batch).change is not None for record in slots.values()):
                return True
        return False
