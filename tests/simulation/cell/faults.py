"""When what goes wrong in a run: drawn at its start, carried out in its safety phase as far as the bound allows.

What the bound does not allow yet waits until redundancy is whole again, so that faults come in generations.
"""

from collections.abc import Callable, Sequence
from functools import partial

from replica_manager.cell.recoveries import LIGHTWEIGHT, RESILIENT
from tests.simulation.cell.budget import Budget
from tests.simulation.cell.client import SimulatedClient
from tests.simulation.cell.domain_faults import DomainFaults
from tests.simulation.cell.history import History
from tests.simulation.cell.member import SimulatedWitness
from tests.simulation.cell.network import Network
from tests.simulation.cell.operator import Operator
from tests.simulation.cell.options import Options
from tests.simulation.cell.server import SimulatedServer
from tests.simulation.cell.server_faults import ServerFaults
from tests.simulation.cell.world import World

FAULTS_FROM_US, FAULTS_TO_US = 200_000, 5_000_000
LAST_TRY_US = 6_000_000
"""What the bound did not allow until then does not happen."""
RETRY_US = 60_000
ISOLATION_US = 4_500_000
CHANGE_OF_MIND = 0.2
"""How often an export is given up."""
CLOCK_STEPS_US = (-3_600_000_000, -700_000, 1_500_000, 365 * 86_400_000_000)


class Faults:
    """Plans the faults of one run."""

    def __init__(
        self,
        world: World,
        network: Network,
        servers: Sequence[SimulatedServer],
        witnesses: Sequence[SimulatedWitness],
        clients: Sequence[SimulatedClient],
        options: Options,
        history: History,
    ) -> None:
        """Draw and schedule everything."""
        self._world = world
        self._network = network
        self._servers = servers
        self._witnesses = witnesses
        self._clients = clients
        self._options = options
        self.pending_count = 0
        """Faults that are still to come, or whose end is."""
        self.budget = Budget(options.f, servers)
        self.operator = Operator(world, self.budget, history)
        self._domains = DomainFaults(world, self.budget, servers, options)
        self.of_servers = ServerFaults(world, self.budget, servers, witnesses, options, self._after)
        self._plan_members()
        self._plan_domains()
        for _ in range(options.short_cuts):
            self._after(self._when(), self._cut_shortly)
        for _ in range(options.clock_steps):
            self._after(self._when(), self._step_clock)
        for _ in range(options.checkpoints):
            self._after(self._when(), self._order_checkpoint)
        for _ in range(options.recoveries):
            self._after(self._when(), self._order_recovery)
        for _ in range(options.exports):
            self._after(self._when(), self._order_export)

    def _when(self) -> int:
        """A time at which clients have requests left; what the bound does not allow then comes later in any case."""
        last_us = min(FAULTS_TO_US, self._options.requests_per_client * self._options.think_us // 2)
        return self._world.random.randrange(FAULTS_FROM_US, FAULTS_FROM_US + last_us)

    def _try(self, when_us: int, fault: Callable[[], bool]) -> None:
        """Let a fault happen at that time, or as soon as the bound allows it."""

        def attempt() -> None:
            if not fault() and self._world.now_us < LAST_TRY_US:
                self._after(RETRY_US, attempt)

        self._after(when_us, attempt)

    def _after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Do something of which the end of the faults has to wait."""
        self.pending_count += 1

        def act() -> None:
            self.pending_count -= 1
            action()

        self._world.after(delay_us, act)

    # -- members -----------------------------------------------------------------------------------------------

    def _plan_members(self) -> None:
        options = self._options
        server_count = options.crashes
        if options.is_witness_down:
            server_count -= 1
            self._try(self._when(), self._crash_witness)
        if options.is_witness_restarted:
            self._try(self._when(), self._restart_witness)
        for index in range(server_count):
            is_isolation = options.isolation and index == 0
            lose = self._isolate if is_isolation else self.of_servers.crash
            self._try(self._when(), lose)
        for _ in range(options.relapses):
            self._try(self._when(), self.of_servers.relapse)
        for index in range(options.power_losses):
            lose_power = partial(self.of_servers.lose_power, is_first=index == 0)
            self._try(self._when(), lose_power)

    def _crash_witness(self) -> bool:
        witness = self._world.random.choice(self._witnesses)
        if not self.budget.free_acceptors or not witness.is_up:
            return False
        self.budget.witnesses_down += 1
        witness.crash()
        return True

    def _restart_witness(self) -> bool:
        """A witness whose process ends, and that comes back with what its disk holds."""
        witness = self._world.random.choice(self._witnesses)
        if not self.budget.free_acceptors or not witness.is_up:
            return False
        self.budget.witnesses_down += 1
        witness.crash()

        def come_back() -> None:
            self.budget.witnesses_down -= 1
            if not witness.is_up:
                witness.restart()

        self._after(self._world.random.randrange(1000, 1_500_000), come_back)
        return True

    def _isolate(self) -> bool:
        """A server is unreachable for so long that the others go on without it, though it runs."""
        if not self.budget.free or not self.budget.free_acceptors:
            return False
        server = self._world.random.choice(self.budget.remaining)
        self.budget.away.add(server.number)
        self.budget.unreachable.add(server.number)
        others = [member.own for member in (*self._servers, *self._witnesses) if member is not server]
        for other in others:
            self._network.cut(server.own, other)
            self._network.cut(other, server.own)
        server.tell_peers_of_end()

        def heal() -> None:
            self.budget.unreachable.discard(server.number)
            for other in others:
                self._network.heal(server.own, other)
                self._network.heal(other, server.own)

        self._after(ISOLATION_US, heal)
        return True

    # -- domains -----------------------------------------------------------------------------------------------

    def _plan_domains(self) -> None:
        draw, options = self._world.random, self._options
        for _ in range(options.domain_faults):
            self._try(self._when(), self._domains.misbehave)
        for _ in range(options.domain_kills):
            self._try(self._when(), self._domains.kill)
        for _ in range(options.latent_faults):
            self._try(self._when(), self._domains.corrupt)
        for _ in range(options.full_disks):
            self._after(self._when(), self._domains.fill_disk)
        self._domains.spoil_boots(options.boot_faults)
        if options.is_hello_wrong:
            self._domains.lie_in_hello()
        if options.is_poisoned:
            self._try(self._when(), self._poison)
        if options.slow_domain:
            server = draw.choice(self._servers)
            server.slow_down(draw.choice(sorted(server.domains)), options.slow_domain)

    def _poison(self) -> bool:
        """A client's next request kills every domain that executes it."""
        budget = self.budget
        able = [client for client in self._clients if client.has_more]
        if budget.free < self._options.f or budget.gone or not budget.is_whole() or not able:
            return False
        budget.note_poison()
        self._world.random.choice(able).is_to_kill = True
        self.operator.watch()
        return True

    # -- network, clocks, checkpoints --------------------------------------------------------------------------

    def _cut_shortly(self) -> None:
        draw = self._world.random
        one, other = draw.sample([*self._servers, *self._witnesses], 2)
        self._network.cut(one.own, other.own)
        self._after(draw.randrange(10_000, 800_000), lambda: self._network.heal(one.own, other.own))

    def _step_clock(self) -> None:
        draw = self._world.random
        draw.choice(self._servers).clock_offset_us += draw.choice(CLOCK_STEPS_US)

    def _order_checkpoint(self) -> None:
        server = self._world.random.choice(self._servers)
        if server.is_serving:
            server.core.order_checkpoint(self._world.random.randrange(1 << 40))
            server.touch()

    def _order_recovery(self) -> None:
        server = self._world.random.choice(self._servers)
        if server.is_serving:
            kind = self._world.random.choice((LIGHTWEIGHT, RESILIENT))
            server.core.order_recovery(kind, self._world.random.randrange(1 << 40))
            server.touch()

    def _order_export(self) -> None:
        """Now and then the operator thinks better of it."""
        draw = self._world.random
        server, token = draw.choice(self._servers), draw.randrange(1, 1 << 40)
        if not server.is_serving or server.core.export.is_under_way:
            return
        server.core.order_export(token)
        server.touch()
        if draw.random() < CHANGE_OF_MIND:
            server.later(draw.randrange(1, 500_000), partial(server.abort_export, token))
