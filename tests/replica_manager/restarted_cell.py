"""A whole cell of manager cores that comes back from logs and disks, each of them as far as a test wants."""

from collections.abc import Mapping, Sequence

from agreement.messages import Change, Entry
from exec_wrapper.wire import Execute, Sync, ToWrapper
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import RequestAccepted, StateCompared
from replica_manager.core_output import CoreOutput
from replica_manager.identifiers import DomainId
from replica_manager.manager_core import ManagerCore
from replica_manager.peer_messages import Presence
from replica_manager.standing import Standing
from tests.replica_manager.lockstep_cell import LockstepCell, core_settings
from tests.simulation.fake_domain import FakeDomain

F = 1
CLIENTS_MAX = 1000


class RestartedCell(LockstepCell):
    """Cores with the memory of former ones; `come_back` has them meet."""

    def __init__(
        self,
        agreed: Sequence[Entry | Change],
        disks: Mapping[DomainId, int],
        bases: Sequence[int] = (0, 0),
        known: int | None = None,
    ) -> None:
        """Read the logs again.

        Args:
            agreed: the agreed order of the former cell, from number 1.
            disks: the first number that is not on the disk, of each domain that has one.
            bases: where the log of each server begins, behind a checkpoint of the cell state.
            known: up to where a server alone knows what was decided; the rest is delivered when they have met.  None:
                everything.
        """
        known = len(agreed) if known is None else known
        life = len(agreed) + 1
        self._begin([_recalled(server, agreed[:known], base, life) for server, base in enumerate(bases)])
        self.agreed, self.sequence = list(agreed[:known]), known
        self._tail = agreed[known:]
        self.disks = {domain: domain_at(domain, agreed, cursor) for domain, cursor in disks.items()}
        self.rejoining: list[int] = []
        """Servers that found that the cell went on without them."""
        self.syncs = True
        """Whether disks are written when domains are told to sync; else they do not answer."""
        self._compared: list[StateCompared] = []
        for core in self.cores:
            core.take_output()  # what a former process has ordered again would be told as its own

    def come_back(self, limit_ms: int = 10_000) -> None:
        """Have the servers meet and their domains boot; return when all servers serve."""
        self._tell_standings()
        for core in self.cores:
            core.on_timer(self.now_ms)
        self.order.extend(self._tail)
        for _ in range(limit_ms // 50):
            self.tick(50)
            if all(core.standing is Standing.SERVING for core in self.cores):
                return
        raise AssertionError(f"servers are {[core.standing.value for core in self.cores]}")

    def states(self) -> list[dict[bytes, bytes]]:
        """Return the states of all domains that are there."""
        return [self.domains[name].rows for core in self.cores for name in core.feeds if name in self.domains]

    def points_compared(self) -> list[dict[DomainId, bytes]]:
        """Return the state digests of every checkpoint that ended, as server 0 has them."""
        return [dict(compared.digests) for compared in self._compared]

    def _hand(self, core: ManagerCore, domain: DomainId, frame: ToWrapper) -> None:
        if self.syncs or not isinstance(frame, Sync):
            super()._hand(core, domain, frame)

    def _tell_standings(self) -> None:
        for server, core in enumerate(self.cores):
            for peer in range(len(self.cores)):
                if peer != server:
                    self.cores[peer].on_peer_message(
                        server, Presence(core.standing.value, core.cell.sequence), self.now_ms
                    )

    def _serve(self, core: ManagerCore, output: CoreOutput) -> None:
        super()._serve(core, output)
        if core is self.cores[0]:
            self._compared += [point for point in output.points if isinstance(point, StateCompared)]
        if output.has_new_standing:
            self._tell_standings()
        if output.must_rejoin:
            self.rejoining.append(core.settings.server)
        for domain in output.boots_from_disk:
            disk = self.disks.get(domain)
            if disk is None:
                core.on_boot_failed(domain, "its disk is not there")
                continue
            self.domains[domain], self.running[domain] = disk, True
            core.on_domain_linked(domain, disk.hello())


def _recalled(server: int, agreed: Sequence[Entry | Change], base: int, life: int) -> ManagerCore:
    cell = CellState(F, CLIENTS_MAX)
    for sequence, entry in enumerate(agreed[:base], 1):
        cell.apply(sequence, entry)
    core = ManagerCore(core_settings(server, F), 0, Standing.RETURNING, CellState.decode(cell.encode()), life)
    for sequence, entry in enumerate(agreed[base:], base + 1):
        core.deliver(sequence, entry)
    return core


def domain_at(name: str, agreed: Sequence[Entry | Change], cursor: int) -> FakeDomain:
    """Return a domain that has executed everything before `cursor`."""
    cell, domain = CellState(F, CLIENTS_MAX), FakeDomain(name)
    for sequence, entry in enumerate(agreed[: cursor - 1], 1):
        for effect in cell.apply(sequence, entry):
            if isinstance(effect, RequestAccepted):
                domain.receive(Execute(domain.previous, sequence, effect.timestamp_us, effect.seed, effect.payload))
    domain.cursor, domain.previous = cursor, cursor - 1
    domain.executed.clear()
    return domain
