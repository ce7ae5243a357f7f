"""Makes domains faulty, as far as the bound allows."""

from collections.abc import Sequence
from functools import partial

from replica_manager.cell.roles import Role
from replica_manager.identifiers import DomainId
from tests.simulation.cell.budget import Budget
from tests.simulation.cell.misbehaviour import FRESH_KINDS, KINDS, WrongHello
from tests.simulation.cell.options import Options
from tests.simulation.cell.server import SimulatedServer
from tests.simulation.cell.world import World

DISK_FULL_US = (200_000, 2_000_000)
BOOT_FAULT_CHANCE = 0.5


class DomainFaults:
    """The faulty domains of one run."""

    def __init__(self, world: World, budget: Budget, servers: Sequence[SimulatedServer], options: Options) -> None:
        """Every domain is correct."""
        self._world = world
        self._budget = budget
        self._servers = servers
        self._options = options
        self._boot_faults_left = 0

    def _choose(self) -> tuple[SimulatedServer, DomainId] | None:
        """Return a correct domain that serves, if the bound has room for its fault."""
        if not self._budget.free:
            return None
        able = [
            (server, name)
            for server in self._budget.remaining
            for name in sorted(server.domains)
            if name not in server.history.faulty and self._serves(server, name)
        ]
        return self._world.random.choice(able) if able else None

    @staticmethod
    def _serves(server: SimulatedServer, name: DomainId) -> bool:
        record = server.core.cell.domains.get(name)
        feed = server.core.feeds.get(name)
        is_served = record is not None and record.role in (Role.ACTIVE, Role.PASSIVE)
        return is_served and feed is not None and feed.is_linked

    def misbehave(self) -> bool:
        """A domain begins to misbehave."""
        found = self._choose()
        if found is None:
            return False
        server, name = found
        draw = self._world.random
        kind = draw.choice(KINDS[draw.choice(self._options.kinds)])
        self._budget.note_bad(name)
        server.misbehave(name, kind(draw))
        return True

    def kill(self) -> bool:
        """A domain's process ends."""
        found = self._choose()
        if found is None:
            return False
        server, name = found
        self._budget.note_bad(name)
        server.kill_domain(name)
        return True

    def corrupt(self) -> bool:
        """A row of a domain becomes another one, and nothing shows it."""
        found = self._choose()
        if found is None:
            return False
        server, name = found
        rows = server.domains[name].rows
        self._budget.note_bad(name)
        server.history.faulty[name] = "latent"
        rows[self._world.random.choice(sorted(rows) or [b"k0"])] = b"rotten"
        return True

    def spoil_boots(self, count: int) -> None:
        """Some fresh domains fail before they serve.

        That needs no room: one that was never filled votes on nothing, and what it replaces is gone in any case.
        """
        self._boot_faults_left = count
        for server in self._servers:
            server.hosted.on_boot = partial(self._maybe_spoil, server)

    def _maybe_spoil(self, server: SimulatedServer, domain: DomainId) -> None:
        draw = self._world.random
        if self._boot_faults_left and draw.random() < BOOT_FAULT_CHANCE:
            self._boot_faults_left -= 1
            server.misbehave(domain, draw.choice(FRESH_KINDS)(draw))

    def lie_in_hello(self) -> None:
        """One of the first domains claims a position where it is not."""
        draw = self._world.random
        server = draw.choice(self._servers)
        name = draw.choice(sorted(server.domains))
        self._budget.note_bad(name)
        server.misbehave(name, WrongHello(draw))

    def fill_disk(self) -> None:
        """A server's disk takes no state parts for a while."""
        server = self._world.random.choice(self._servers)
        server.spool.is_full = True

        def empty() -> None:
            server.spool.is_full = False

        self._world.after(self._world.random.randrange(*DISK_FULL_US), empty)
