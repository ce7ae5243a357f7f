"""One simulated run: draw options from the seed, let things go wrong, stop that, see everything finish, check."""

import random
from dataclasses import asdict, dataclass
from typing import Any

from agreement.identifiers import Identity, MemberId
from agreement.settings import AgreementSettings
from agreement.witness import Witness
from replica_manager.execution.feed import FeedSettings
from replica_manager.manager_core import CoreSettings
from tests.simulation.cell.checkers import (
    Model,
    RuleBroken,
    check_at_most_once,
    check_cell_states,
    check_domains,
    check_linearizable,
    check_no_accusation,
    check_only_updates,
    check_order,
)
from tests.simulation.cell.client import SimulatedClient
from tests.simulation.cell.history import History
from tests.simulation.cell.member import SimulatedMember
from tests.simulation.cell.network import Network, NetworkFaults
from tests.simulation.cell.server import SimulatedServer
from tests.simulation.cell.world import World

SAFETY_PHASE_US = 6_000_000
LIVENESS_PHASE_US = 60_000_000
CLIENT_TABLE_ENTRIES_MAX = 50


@dataclass(frozen=True)
class Options:
    """What a seed draws."""

    f: int
    clients: int
    requests_per_client: int
    is_faulty: bool
    loss: float
    duplication: float
    spike: float
    crashes: int
    """Members that crash for good: servers first, at most `f` with witnesses."""
    is_witness_down: bool
    """One of the crashes is a witness's."""
    isolation: bool
    """One of the crashes is instead a server that the others cannot reach for longer than the crash timeout."""
    short_cuts: int
    """One-way cuts, shorter than the crash timeout."""
    domain_kills: int
    checkpoints: int
    refresh_updates_max: int


def draw_options(seed: int) -> Options:
    """Draw what happens in a run."""
    draw = random.Random(f"options {seed}")
    f = draw.choice((1, 2))
    is_faulty = draw.random() < 0.9
    crashes = draw.randint(0, f) if is_faulty else 0
    is_lossy = is_faulty and draw.random() < 0.5
    clients = draw.randint(3, 6)
    return Options(
        f=f,
        clients=clients,
        requests_per_client=-(-draw.randint(100, 160) // clients),
        is_faulty=is_faulty,
        loss=draw.choice((0.0, 0.01, 0.05)) if is_lossy else 0.0,
        duplication=draw.choice((0.0, 0.02)) if is_lossy else 0.0,
        spike=draw.choice((0.0, 0.005, 0.02)) if is_faulty else 0.0,
        crashes=crashes,
        is_witness_down=crashes > 0 and draw.random() < 0.25,
        isolation=crashes > 0 and draw.random() < 0.3,
        short_cuts=draw.randint(0, 3) if is_faulty else 0,
        # A killed domain is a fault too: with one server down the bound leaves room only for f = 2.
        domain_kills=draw.randint(0, f - crashes) if is_faulty else 0,
        checkpoints=draw.randint(0, 2),
        refresh_updates_max=draw.choice((3, 10, 40)),
    )


class Run:
    """A cell and its clients under one seed."""

    def __init__(self, seed: int, options: Options) -> None:
        """Boot the cell."""
        self.options = options
        self.world = World(seed)
        self.history = History()
        faults = NetworkFaults(options.loss, options.duplication, spike=options.spike)
        self.network = Network(self.world, faults)
        self.network.on_healed = self._healed
        settings = AgreementSettings()
        servers = [MemberId.server(number) for number in range(options.f + 1)]
        witnesses = [MemberId.witness(number) for number in range(options.f)]
        members = [Identity(member, 1) for member in servers + witnesses]
        self.witnesses = [
            SimulatedMember(self.world, self.network, own, Witness.born(Identity(own, 1), settings, members, 0))
            for own in witnesses
        ]
        self.servers = [
            SimulatedServer(
                self.world, self.network, own.number, members, settings, self._core_settings(own.number), self.history
            )
            for own in servers
        ]
        self.clients = [
            SimulatedClient(self.world, self.servers, self.history, f"c{number}", options.requests_per_client)
            for number in range(options.clients)
        ]
        self._plan_faults()

    def _core_settings(self, server: int) -> CoreSettings:
        feed = FeedSettings(self.options.refresh_updates_max, 10_000, 200, 4_000, 1, False)
        return CoreSettings(
            server, self.options.f, CLIENT_TABLE_ENTRIES_MAX, 200, 1000, 10_000, 10_000_000, 300, 700, 250, feed
        )

    def _healed(self, sender: MemberId, receiver: MemberId) -> None:
        for server in self.servers:
            if server.own in (sender, receiver):
                server.on_link_new(receiver if server.own == sender else sender)

    # -- faults ------------------------------------------------------------------------------------------------

    def _when(self) -> int:
        return self.world.random.randrange(200_000, SAFETY_PHASE_US // 2)

    def _plan_faults(self) -> None:
        options, draw = self.options, self.world.random
        victims = draw.sample(self.servers, options.crashes)
        if options.is_witness_down and victims:
            victims.pop()
            self.world.after(self._when(), draw.choice(self.witnesses).crash)
        if options.isolation and victims:
            isolated = victims.pop()
            self.world.after(self._when(), lambda: self._isolate(isolated))
        for server in victims:
            self.world.after(self._when(), server.crash)
        spared = [server for server in self.servers if server not in victims]
        for _ in range(options.domain_kills):
            server = draw.choice(spared)
            domain = draw.choice(sorted(server.domains))
            self.world.after(self._when(), lambda server=server, domain=domain: server.kill_domain(domain))
        for _ in range(options.short_cuts):
            self.world.after(self._when(), self._cut_shortly)
        for _ in range(options.checkpoints):
            self.world.after(self._when(), self._order_checkpoint)

    def _isolate(self, server: SimulatedServer) -> None:
        """A server is unreachable for so long that the others go on without it, though it runs."""
        for other in (*self.servers, *self.witnesses):
            if other is not server:
                self.network.cut(server.own, other.own)
                self.network.cut(other.own, server.own)
        self.world.after(4_500_000, self.network.heal_all)

    def _cut_shortly(self) -> None:
        draw = self.world.random
        one, other = draw.sample([*self.servers, *self.witnesses], 2)
        self.network.cut(one.own, other.own)
        self.world.after(draw.randrange(10_000, 800_000), lambda: self.network.heal(one.own, other.own))

    def _order_checkpoint(self) -> None:
        server = self.world.random.choice(self.servers)
        if server.is_up:
            server.core.order_checkpoint(self.world.random.randrange(1 << 40))
            server.touch()

    # -- phases ------------------------------------------------------------------------------------------------

    def _is_finished(self) -> bool:
        return all(client.is_done for client in self.clients)

    def go(self) -> None:
        """Run both phases and the checkers."""
        self.world.run_until(SAFETY_PHASE_US, self._is_quietly_finished)
        self.network.heal_all()
        if not self.world.run_until(self.world.now_us + LIVENESS_PHASE_US, self._is_finished):
            waiting = [client for client in self.clients if not client.is_done]
            raise RuleBroken(f"liveness: {len(waiting)} of {len(self.clients)} clients wait")
        self.world.run_until(self.world.now_us + 2_000_000, lambda: False)
        self.check()

    def _is_quietly_finished(self) -> bool:
        is_over = self.world.now_us >= SAFETY_PHASE_US // 2 or not self.options.is_faulty
        return is_over and self._is_finished()

    @property
    def live(self) -> list[SimulatedServer]:
        """Servers that run and belong to the cell."""
        return [server for server in self.servers if server.is_up]

    def check(self) -> None:
        """Apply every checker."""
        check_order(self.history)
        check_at_most_once(self.history)
        model = Model(self.history, self.options.f, CLIENT_TABLE_ENTRIES_MAX)
        check_linearizable(self.history, model)
        check_domains(self.live, model)
        check_cell_states(self.live)
        check_no_accusation(self.history)
        check_only_updates(self.live)
        self._check_checkpoints()

    def _check_checkpoints(self) -> None:
        for server in self.live:
            for point in range(1, server.core.cell.sequence + 1):
                digests = server.core.board.digests(point)
                if digests and len(set(digests.values())) != 1:
                    raise RuleBroken(f"checkpoint {point}: digests differ: {digests}")


def run_seed(seed: int) -> dict[str, Any]:
    """Run one seed; return what happened.

    Raises:
        RuleBroken: with the seed and the options in its notes.
    """
    options = draw_options(seed)
    run = Run(seed, options)
    try:
        run.go()
    except Exception as error:
        error.add_note(f"seed {seed}: {options}")
        raise
    return {
        "seed": seed,
        "options": asdict(options),
        "events": dict(run.history.events),
        "requests": len(run.history.operations),
        "world_events": run.world.event_count,
        "virtual_s": run.world.now_us / 1e6,
    }
