"""Brings faults about, and takes back those that last for a time."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.chaos.cell_under_test import CellUnderTest
from benchmarks.chaos.disk_faults import fill
from benchmarks.chaos.event_tail import EventTail
from benchmarks.chaos.fault_kinds import KINDS, Means
from benchmarks.chaos.load_thread import Load
from benchmarks.chaos.schedule import FaultPart, Target
from images.fault_orders import FaultKind as OrderedKind
from images.fault_orders import FaultOrder
from replica_manager.config_addresses import parse_address
from replica_manager.control.cell_view import CellView
from replica_manager.control.errors import ControlError
from replica_manager.network import cuts

AMOUNTS = {"slow": 3000, "flood": 2000, "garbage": 1000}
"""What a fault does if the schedule does not say how much."""
PROBE_TIMEOUT_S = 1.5
US_PER_S = 1_000_000


@dataclass(slots=True)
class Injected:
    """A fault that has been brought about."""

    part: FaultPart
    target: Target
    at_us: int
    at_s: float
    """Monotonic."""
    first_event: int
    """Position among the run's events from which it may show."""
    undo: Callable[[], object] | None = None
    undo_at_s: float = 0.0
    """Monotonic; when `undo` is due."""
    to_be_replaced: frozenset[str] = frozenset()
    """Domains that have to go before redundancy is there again."""
    last_event: int | None = None
    """Position behind the last of them; None: the step still goes on."""
    restored_s: float | None = field(default=None)
    """From the fault to full redundancy."""


class Injector:
    """One run's faults."""

    def __init__(self, cell: CellUnderTest, load: Load, tail: EventTail) -> None:
        """Strike `cell`."""
        self._cell = cell
        self._load = load
        self._tail = tail
        self._numbers = count(1)

    def inject(self, part: FaultPart, target: Target, view: CellView) -> Injected:
        """Bring a fault about; return when it has begun.

        Raises:
            ControlError, LoadFailed, NetworkError, OSError: it cannot be brought about.
        """
        kind = KINDS[part.kind]
        self._tail.read()
        injected = Injected(part, target, time.time_ns() // 1000, time.monotonic(), len(self._tail.events))
        self._tail.record("fault_began", fault=part.kind, target=target.name)
        if kind.is_replaced and target.domain:
            injected.to_be_replaced = frozenset((target.domain,))
        by_means = {
            Means.ORDER: self._order,
            Means.IMAGE: self._rounding,
            Means.COMMAND: self._command,
            Means.PROCESS: self._process,
            Means.NETWORK: self._cut,
            Means.DISK: self._fill,
        }
        by_means[kind.means](injected, view)
        return injected

    def undo(self, injected: Injected) -> None:
        """Take back what is due; idempotent."""
        undo, injected.undo = injected.undo, None
        if undo is not None:
            undo()
            self._tail.record("fault_ended", fault=injected.part.kind, target=injected.target.name)

    def _later(self, injected: Injected, after_s: float, undo: Callable[[], object]) -> None:
        injected.undo_at_s = time.monotonic() + after_s
        injected.undo = undo

    # -- by means ----------------------------------------------------------------------------------------------

    def _order(self, injected: Injected, view: CellView) -> None:
        part, target = injected.part, injected.target
        order = FaultOrder(
            next(self._numbers),
            target.domain,
            OrderedKind(part.kind),
            first=part.first,
            every=part.every,
            times=part.times,
            amount=part.amount or AMOUNTS.get(part.kind, 0),
        )
        self._load.give_order(order, is_for_passive=part.target.endswith(".passive"))

    def _rounding(self, injected: Injected, view: CellView) -> None:
        """It rounds from the start, see `CellUnderTest.keep_one_rounding`; here is only noted who it is."""
        injected.target = self._cell.resolve(f"s{injected.target.server}.active", view)
        injected.to_be_replaced = frozenset((injected.target.domain,))

    def _command(self, injected: Injected, view: CellView) -> None:
        part, target = injected.part, injected.target
        if part.kind == "step-clock":
            self._cell.inject(target.server, action="step-clock", offset_us=part.offset_s * US_PER_S)
            self._later(injected, part.duration_s, partial(self._set_clock_right, target.server))
        else:
            how = "destroy" if part.kind == "stop-domain" else "suspend"
            self._cell.inject(target.server, action="stop-domain", domain=target.domain, how=how)

    def _set_clock_right(self, server: int) -> None:
        # A server that has been started again meanwhile has a right clock.
        with suppress(ControlError):
            self._cell.inject(server, action="step-clock", offset_us=0)

    def _process(self, injected: Injected, view: CellView) -> None:
        part, server = injected.part, injected.target.server
        match part.kind:
            case "freeze-manager":
                self._cell.freeze(server)
                self._later(injected, part.duration_s, partial(self._cell.let_go, server))
            case "kill-manager":
                self._cell.kill_manager(server)
                self._later(injected, part.restart_after_s, partial(self._cell.ensure_running, server))
            case _:
                self._cell.crash_server(server)
                self._later(injected, part.restart_after_s, partial(self._cell.ensure_running, server))

    def _cut(self, injected: Injected, view: CellView) -> None:
        part, server = injected.part, injected.target.server
        self._cell.in_server(server, partial(cuts.cut, part.network, part.direction))
        self._later(injected, part.duration_s, partial(self._cell.in_server, server, cuts.mend))
        address = next(parse_address(one.public_address) for one in self._cell.config.server if one.id == server)
        if part.network == "public" and not self._cell.in_clients(partial(_answers, address)):
            self._tail.record("public_unreachable", server=f"s{server}")

    def _fill(self, injected: Injected, view: CellView) -> None:
        server = injected.target.server
        self._cell.hold(server)
        filling = fill(self._cell.paths.state("server", server))
        self._later(injected, injected.part.duration_s, partial(self._make_room, server, filling))

    def _make_room(self, server: int, filling: Path) -> None:
        filling.unlink(missing_ok=True)
        self._cell.ensure_running(server)


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True
