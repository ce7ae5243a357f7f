"""Rules of servers that come back taken out, one at a time; see `planted`."""

from collections.abc import Callable

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import CellRestarted
from replica_manager.cell.entries import DomainReady, encode_entry
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput
from replica_manager.execution.feed import Feed
from replica_manager.identifiers import DomainId
from replica_manager.log_keeping import LogKeeping, LogStep
from replica_manager.manager_core import ManagerCore
from replica_manager.membership import Membership
from replica_manager.recovery.cell_restart import CellRestart
from replica_manager.recovery.filling import Filling
from replica_manager.recovery.repair import Repair
from replica_manager.recovery.state_vote import StateVote
from replica_manager.standing import Standing
from tests.simulation.cell.canary import Canary, Plant, in_part
from tests.simulation.cell.options import Options
from tests.simulation.cell.server import SimulatedServer


class FeedsEarly(ManagerCore):
    """Feeds domains before all are back."""

    def _pump(self) -> None:
        standing, self.membership.standing = self.membership.standing, Standing.SERVING
        super()._pump()
        self.membership.standing = standing


class SettlesNothing(CellRestart):
    """Has everything voted on again that is not stable here."""

    def on_restarted(self, effect: CellRestarted) -> None:
        """Take nothing for settled."""
        super().on_restarted(effect._replace(settled_through=0))


class MissesNothing(CellRestart):
    """Waits for its peers to start again, though they serve."""

    def has_missed_the_cell(self) -> bool:
        """Never."""
        return False


class JoinsEmpty(Repair):
    """Counts a domain that has not got its state."""

    def filled(self) -> list[DomainId]:
        """Return whatever runs."""
        own = self._cell.domains_of(self._server)
        return [record.domain for record in own if record.role is Role.STARTING and record.domain in self._feeds]


class UsesNamesAgain(Repair):
    """Makes domains before it knows which names its former lives have used."""

    def _needs_domain(self) -> bool:
        if self.is_joining:
            self.former_lives_through = 0
        return super()._needs_domain()


class NeverInAHurry(Feed):
    """A fresh domain that syncs with all others."""

    def on_filled(self) -> None:
        """Ask for no sync."""
        super().on_filled()
        self.is_sync_due = False


class ReadyInMemory(Repair):
    """Relies on a state that is not on a disk."""

    def _new_filling(self, vote: StateVote) -> Filling:
        filling = super()._new_filling(vote)
        self._feeds[filling.domain].__class__ = NeverInAHurry
        return filling

    def _maybe_order_ready(self, output: CoreOutput) -> None:
        filling = self.filling
        is_due = filling is not None and filling.is_set and self._buffer.prefix >= filling.point - 1
        if filling is not None and is_due and not self._is_ready_ordered:
            self._is_ready_ordered = True
            output.proposals.append(encode_entry(DomainReady(filling.domain, filling.point, self._cell.sequence)))


class ServesTooSoon(Membership):
    """A learner takes itself for a member when anybody joins or leaves while its former self is one."""

    def on_membership_changed(self, output: CoreOutput) -> None:
        """Compare no incarnations."""
        self.incarnation = self._cell.members[self._server].incarnation
        super().on_membership_changed(output)


class CutsAhead(LogKeeping):
    """Cuts the log where it is now, and not where the cell state was written."""

    def next_step(self, cell: CellState, standing: Standing, durable_here: int) -> LogStep | None:
        """Cut too far."""
        step = super().next_step(cell, standing, durable_here)
        return step._replace(compact_through=cell.sequence) if step is not None and step.compact_through else step


class CutsWhatDisksLack(LogKeeping):
    """Cuts the log as soon as the cell state is written."""

    def next_step(self, cell: CellState, standing: Standing, durable_here: int) -> LogStep | None:
        """Cut without asking how far disks are."""
        return super().next_step(cell, Standing.LEARNING, cell.sequence)


def in_log(planted: type[LogKeeping]) -> Plant:
    """Plant in what decides about the log."""

    def plant(server: SimulatedServer) -> None:
        server.log.__class__ = planted

    return plant


def feed_early(server: SimulatedServer) -> None:
    """See `FeedsEarly`."""
    server.core.__class__ = FeedsEarly


def drop_while_returning(server: SimulatedServer) -> None:
    """What an earlier restart has settled is dropped while this one goes on."""
    server.core.retention.is_whole_log_needed = lambda: False


def loses_power(times: int = 1) -> Callable[[Options], bool]:
    """Runs in which the cell loses power so many times."""
    return lambda options: options.power_losses >= times


def _repairs_before_power_is_lost(options: Options) -> bool:
    has_repairs = options.domain_kills + options.domain_faults + options.returns > 1
    return options.power_losses > 0 and has_repairs and options.checkpoint_entries == 20


def _returns(options: Options) -> bool:
    return options.returns or options.isolation


RESTART_CANARIES = {
    "feeds-early": Canary(
        feed_early, "state|conviction|linearizable|can go on|liveness|rest|asleep", loses_power(times=2)
    ),
    "settles-nothing": Canary(in_part("restart", SettlesNothing), "liveness|rest|can go on", loses_power()),
    "misses-nothing": Canary(in_part("restart", MissesNothing), "rest: .*returning|liveness", lambda o: o.returns),
    "joins-empty": Canary(in_part("repair", JoinsEmpty), "state|conviction|can go on|rest|liveness", _returns),
    "uses-names-again": Canary(
        in_part("repair", UsesNamesAgain), "never used again", lambda o: _returns(o) and o.relapses > 0
    ),
    "ready-in-memory": Canary(
        in_part("repair", ReadyInMemory), "state|conviction|rest|can go on|liveness", _repairs_before_power_is_lost
    ),
    "serves-too-soon": Canary(in_part("membership", ServesTooSoon), "rest|liveness", lambda o: _returns(o) and o.f > 1),
    "cuts-ahead": Canary(in_log(CutsAhead), "liveness|rest|order|state", loses_power()),
    "cuts-what-disks-lack": Canary(in_log(CutsWhatDisksLack), "state|conviction|liveness|rest", loses_power()),
    "drops-while-returning": Canary(drop_while_returning, "state|conviction|liveness|rest", loses_power(2)),
}
