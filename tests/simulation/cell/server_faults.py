"""Servers that end and come back, alone or all at once, as far as the bound allows."""

from collections.abc import Callable, Sequence
from functools import partial

from replica_manager.standing import Standing
from tests.simulation.cell.budget import Budget
from tests.simulation.cell.member import SimulatedWitness
from tests.simulation.cell.options import Options
from tests.simulation.cell.server import SimulatedServer
from tests.simulation.cell.world import World

SOON_US = (20_000, 900_000)
"""Back before the others have noticed."""
LATE_US = (2_500_000, 4_000_000)
"""Back when they have gone on without it."""
POWER_BACK_US = (50_000, 2_500_000)
"""From the loss of power to the start of a member."""
RELAPSE_CHANCE = 0.03
"""Per look, that a server which is joining ends."""


class ServerFaults:
    """What becomes of whole servers in one run."""

    def __init__(
        self,
        world: World,
        budget: Budget,
        servers: Sequence[SimulatedServer],
        witnesses: Sequence[SimulatedWitness],
        options: Options,
        after: Callable[[int, Callable[[], None]], None],
    ) -> None:
        """Every server runs; `after` does something later, and keeps the faults from having ended before."""
        self._world = world
        self._budget = budget
        self._servers = servers
        self._witnesses = witnesses
        self._options = options
        self._after = after

    def crash(self) -> bool:
        """A server ends, and comes back or not."""
        budget = self._budget
        if not budget.free or not budget.free_acceptors:
            return False
        server = self._world.random.choice(budget.remaining)
        if self._options.returns:
            budget.away.add(server.number)
            self._end(server)
            self._come_back_later(server)
        else:
            budget.lost.add(server.number)
            self._end(server)
        return True

    def crash_of(self, server: SimulatedServer) -> None:
        """This very server's machine ends, and comes back when the others have gone on without it."""
        self._budget.away.add(server.number)
        server.lose_power()
        self._start_later(server, self._world.random.randrange(*LATE_US))

    def restart_of(self, server: SimulatedServer) -> None:
        """This very server's manager ends, and starts again at once."""
        self._budget.away.add(server.number)
        server.stop(with_domains=False)
        self._start_later(server, self._world.random.randrange(*SOON_US))

    def _end(self, server: SimulatedServer) -> None:
        draw = self._world.random
        if not server.is_up:
            server.life += 1  # it was about to rejoin
        elif draw.random() < 0.5:
            server.lose_power()
        else:
            server.stop(with_domains=draw.random() < 0.5)

    def _come_back_later(self, server: SimulatedServer) -> None:
        draw = self._world.random
        if self._options.lost_disks and draw.random() < 0.5:
            server.lose_disk()
        self._start_later(server, draw.randrange(*draw.choice((SOON_US, LATE_US))))

    def _start_later(self, server: SimulatedServer, delay_us: int) -> None:
        life = server.life

        def start() -> None:
            if server.life == life:
                server.start(Standing.RETURNING)

        self._after(delay_us, start)

    def relapse(self) -> bool:
        """A server that is about to join ends once more: it comes back, or it does not."""
        draw = self._world.random
        joining = [server for server in self._servers if server.is_up and server.core.standing is Standing.LEARNING]
        if not joining or draw.random() >= RELAPSE_CHANCE:
            return False
        server = draw.choice(joining)
        server.history.event(server.number, "relapse")
        self._end(server)
        if draw.random() < 0.3 and not self._budget.lost and server.number in self._budget.away:
            self._budget.away.discard(server.number)
            self._budget.lost.add(server.number)
        else:
            self._come_back_later(server)
        return True

    def lose_power(self, *, is_first: bool) -> bool:
        """The whole cell goes off at once; its members start one after the other, but for one perhaps."""
        budget, draw = self._budget, self._world.random
        if budget.is_poisoned:
            return False
        if any(server.is_up and server.core.standing is not Standing.SERVING for server in self._servers):
            self._servers[0].history.event(-1, "restart interrupted")
        self._servers[0].history.event(-1, "power lost")
        if is_first and self._options.stays_away and budget.free and budget.free_acceptors:
            budget.lost.add(draw.choice(budget.remaining).number)
        for server in self._servers:
            if server.is_up:
                server.lose_power()
            server.life += 1  # no start that was planned before
            if server.number not in budget.lost:
                self._start_later(server, draw.randrange(*POWER_BACK_US))
        for witness in self._witnesses:
            if witness.is_up:
                witness.crash()
                self._after(draw.randrange(*POWER_BACK_US), partial(self._restart_witness, witness))
        return True

    def _restart_witness(self, witness: SimulatedWitness) -> None:
        if not witness.is_up:
            witness.restart()
