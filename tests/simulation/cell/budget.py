"""The bound: at most `f` faults at a time, and at most `f` of the acceptors down.

The crash of a server, with everything on it, is one fault; every misbehaving domain is one.  A fault is over when its
domain is retired, every number that it can have voted on is stable, and redundancy is whole again: then the next one
may come, and repairs of repairs happen.  A crashed server's fault is over when it serves again; the loss of power of
the whole cell is apart from the bound, as long as everybody comes back.

Source: design "Fault model and promises" (`S1` of its list of traps).
"""

from collections.abc import Sequence

from replica_manager.cell.roles import Role
from replica_manager.identifiers import DomainId
from tests.simulation.cell.rest import missing_redundancy
from tests.simulation.cell.server import SimulatedServer


class Budget:
    """What is wrong at present."""

    def __init__(self, f: int, servers: Sequence[SimulatedServer]) -> None:
        """Nothing is wrong."""
        self._f = f
        self._servers = servers
        self.lost: set[int] = set()
        """Servers that crashed for good."""
        self.away: set[int] = set()
        """Servers that crashed, or that the others go on without, and that come back."""
        self.unreachable: set[int] = set()
        """Those of them that run."""
        self.witnesses_down = 0
        self._bad: set[DomainId] = set()
        self.is_poisoned = False
        """Whether a request is under way that kills who executes it."""

    @property
    def gone(self) -> set[int]:
        """Servers that are a fault at present."""
        return self.lost | self.away

    @property
    def remaining(self) -> list[SimulatedServer]:
        """Servers that are to stay in the cell."""
        return [server for server in self._servers if server.number not in self.gone]

    @property
    def free(self) -> int:
        """How many more faults may happen now."""
        self._release()
        return 0 if self.is_poisoned else self._f - len(self.gone) - len(self._bad)

    @property
    def free_acceptors(self) -> int:
        """How many more acceptors may go down now."""
        return self._f - len(self.gone) - self.witnesses_down

    def note_bad(self, domain: DomainId) -> None:
        """A domain misbehaves from now on."""
        assert self.free > 0
        self._bad.add(domain)

    def note_poison(self) -> None:
        """A request is under way that kills who executes it: that is more than the bound allows, so nothing else is
        wrong meanwhile."""
        assert self.free == self._f
        self.is_poisoned = True

    def end_poison(self) -> None:
        """It was dealt with."""
        self.is_poisoned = False

    def _release(self) -> None:
        if (self._bad or self.away) and self.is_whole():
            self.away.clear()
            self._bad = {domain for domain in self._bad if not self._is_over(domain)}

    def is_whole(self) -> bool:
        """Whether everybody who did not crash for good serves, and all see redundancy restored."""
        if self.unreachable:
            return False
        present = [server for server in self._servers if server.number not in self.lost]
        expected = [server.number for server in present]
        return all(
            server.is_serving
            and list(server.core.cell.live_servers) == expected
            and missing_redundancy(server.core.cell) is None
            for server in present
        )

    def _is_over(self, domain: DomainId) -> bool:
        for server in self.remaining:
            record = server.core.cell.domains.get(domain)
            if record is None:
                continue
            if record.role is not Role.RETIRED or server.core.buffer.prefix < record.since:
                return False
        return True
