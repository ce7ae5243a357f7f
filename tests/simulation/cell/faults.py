"""When what goes wrong in a run: drawn at its start, carried out in its safety phase."""

from collections.abc import Sequence
from functools import partial

from tests.simulation.cell.member import SimulatedWitness
from tests.simulation.cell.network import Network
from tests.simulation.cell.options import Options
from tests.simulation.cell.server import SimulatedServer
from tests.simulation.cell.world import World

FAULTS_FROM_US, FAULTS_TO_US = 200_000, 3_000_000
ISOLATION_US = 4_500_000
CLOCK_STEPS_US = (-3_600_000_000, -700_000, 1_500_000, 365 * 86_400_000_000)


class Faults:
    """Plans the faults of one run."""

    def __init__(
        self,
        world: World,
        network: Network,
        servers: Sequence[SimulatedServer],
        witnesses: Sequence[SimulatedWitness],
        options: Options,
    ) -> None:
        """Draw and schedule everything."""
        self._world = world
        self._network = network
        self._servers = servers
        self._witnesses = witnesses
        self._options = options
        self._plan_members()
        self._plan_domains()
        for _ in range(options.short_cuts):
            world.after(self._when(), self._cut_shortly)
        for _ in range(options.clock_steps):
            world.after(self._when(), self._step_clock)
        for _ in range(options.checkpoints):
            world.after(self._when(), self._order_checkpoint)

    def _when(self) -> int:
        return self._world.random.randrange(FAULTS_FROM_US, FAULTS_TO_US)

    def _plan_members(self) -> None:
        options, world = self._options, self._world
        victims = world.random.sample(self._servers, options.crashes)
        if options.is_witness_down and victims:
            victims.pop()
            world.after(self._when(), world.random.choice(self._witnesses).crash)
        if options.is_witness_restarted:
            witness = world.random.choice(self._witnesses)
            world.after(self._when(), lambda: self._restart(witness))
        if options.isolation and victims:
            isolated = victims.pop()
            world.after(self._when(), lambda: self._isolate(isolated))
        for server in victims:
            world.after(self._when(), server.crash)
        self._spared = [server for server in self._servers if server not in victims]

    def _plan_domains(self) -> None:
        draw = self._world.random
        for _ in range(self._options.domain_kills):
            server = draw.choice(self._spared)
            domain = draw.choice(sorted(server.domains))
            self._world.after(self._when(), partial(server.kill_domain, domain))
        if self._options.slow_domain:
            server = draw.choice(self._servers)
            server.slow_down(draw.choice(sorted(server.domains)), self._options.slow_domain)

    def _restart(self, witness: SimulatedWitness) -> None:
        """A witness whose process ends, and that comes back with what its disk holds."""
        if witness.is_up:
            witness.crash()
            self._world.after(self._world.random.randrange(1000, 1_500_000), witness.restart)

    def _isolate(self, server: SimulatedServer) -> None:
        """A server is unreachable for so long that the others go on without it, though it runs."""
        others = [member.own for member in (*self._servers, *self._witnesses) if member is not server]
        for other in others:
            self._network.cut(server.own, other)
            self._network.cut(other, server.own)

        def heal() -> None:
            for other in others:
                self._network.heal(server.own, other)
                self._network.heal(other, server.own)

        self._world.after(ISOLATION_US, heal)

    def _cut_shortly(self) -> None:
        draw = self._world.random
        one, other = draw.sample([*self._servers, *self._witnesses], 2)
        self._network.cut(one.own, other.own)
        self._world.after(draw.randrange(10_000, 800_000), lambda: self._network.heal(one.own, other.own))

    def _step_clock(self) -> None:
        draw = self._world.random
        draw.choice(self._servers).clock_offset_us += draw.choice(CLOCK_STEPS_US)

    def _order_checkpoint(self) -> None:
        server = self._world.random.choice(self._servers)
        if server.is_up:
            server.core.order_checkpoint(self._world.random.randrange(1 << 40))
            server.touch()
