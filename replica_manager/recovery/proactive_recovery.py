"""When a proactive recovery begins, and this server's steps in it.

1. `RecoveryBegun`; each server in turn boots its next generation and tells it (`repair`, which owns fresh domains).
2. The lowest live server orders the `RecoveryPoint`; every next generation is filled with the state there (`repair`).
3. A server whose next generation is filled orders its `Switch` when nobody else's old domain is about to go.
4. When its new active domain has done everything before that position it gives up the old one.

Everything is decided from the cell state on every tick, so that any step may be cut off by a fault, a crash or a
restart, and whoever is there goes on.

Source: SPARE §4.5; design "Proactive recovery".
"""

from collections.abc import Mapping
from dataclasses import dataclass

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import RecoveryBegan, RecoveryEnded
from replica_manager.cell.entries import (
    RecoveryAborted,
    RecoveryBegun,
    RecoveryPoint,
    Stopped,
    Switch,
    encode_entry,
)
from replica_manager.cell.recoveries import LIGHTWEIGHT, RESILIENT, Recovery, Renewal
from replica_manager.cell.state_points import RECOVERY
from replica_manager.core_output import CoreOutput, NamedEvent
from replica_manager.execution.feed import Feed, Power
from replica_manager.identifiers import DomainId

ORDER_AGAIN_MS = 2_000
"""An entry that had no effect is ordered again after this long: it may have been overtaken, or lost."""
FOLLOW_UPS_MAX = 5
"""Recoveries in a row that did not renew every server before the next one waits for its ordinary time."""
FOLLOW_UP_MS = 2_000
"""Before the first of them; doubled for each further one."""


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """When, and how patiently."""

    updates: int = 0
    """`U_recovery`: a recovery begins after so many stable updates; 0: their number begins none."""
    interval_ms: int = 0
    """Time from the end of one to the begin of the next; 0: time begins none."""
    resilient_every: int = 10
    """Every so many complete ones compare what was executed, too."""
    patience_ms: int = 600_000
    """How long nothing may move before a recovery goes on without the servers that hold it up."""


class ProactiveRecovery:
    """One server's part in the recoveries of its cell."""

    def __init__(
        self, server: int, settings: RecoverySettings, cell: CellState, feeds: Mapping[DomainId, Feed], now_ms: int
    ) -> None:
        """No recovery is known of; the interval begins now."""
        self._server = server
        self._settings = settings
        self._cell = cell
        self._feeds = feeds
        self._rested_since_ms = now_ms
        self._updates = 0
        self._ordered: tuple[object, ...] = ()
        self._ordered_ms = 0
        self._seen: tuple[object, ...] = ()
        self._seen_ms = now_ms
        self.last: dict[str, object] | None = None
        """What came of the last one; None: none has ended since this process started."""
        self.asked: dict[int, int | None] = {}
        """What an operator asked for here, by token → number of the recovery; 0: refused; None: not ordered yet."""

    # -- what happens ------------------------------------------------------------------------------------------

    def on_update(self) -> None:
        """A number with an update became stable."""
        self._updates += 1

    def on_began(self, effect: RecoveryBegan, output: CoreOutput) -> None:
        """A recovery is under way."""
        if effect.token in self.asked:
            self.asked[effect.token] = effect.number
        data = {"number": effect.number, "recovery": effect.kind, "token": effect.token}
        output.events.append(NamedEvent("recovery_began", data))

    def on_refused(self, token: int) -> None:
        """Another one is under way."""
        if token in self.asked:
            self.asked[token] = 0

    def on_ended(self, effect: RecoveryEnded, now_ms: int, output: CoreOutput) -> None:
        """A recovery has ended."""
        self._rested_since_ms = now_ms
        self._updates = 0
        data = {
            "number": effect.number,
            "recovery": effect.kind,
            "token": effect.token,
            "renewed": list(effect.renewed),
            "given_up": {str(server): reason for server, reason in effect.given_up},
        }
        self.last = data
        output.events.append(NamedEvent("recovery_incomplete" if effect.given_up else "recovery_complete", data))

    # -- time --------------------------------------------------------------------------------------------------

    def on_timer(self, now_ms: int, output: CoreOutput) -> None:
        """A tick of a server that serves."""
        current = self._cell.recoveries.current
        is_lowest = self._server == min(self._cell.live_servers, default=-1)
        if current is None:
            if is_lowest:
                self._maybe_begin(now_ms, output)
            return
        if is_lowest:
            self._maybe_order_point(current, now_ms, output)
            self._maybe_abort(current, now_ms, output)
        renewal = current.of_server(self._server)
        if renewal is not None:
            self._maybe_switch(current, renewal, now_ms, output)
            self._maybe_give_up_old(renewal, now_ms, output)

    def order(self, kind: str, token: int, output: CoreOutput) -> None:
        """Begin a recovery; `asked` tells what comes of it if `token` is in it."""
        output.proposals.append(encode_entry(RecoveryBegun(kind, self._cell.recoveries.begun_count + 1, token)))

    def _maybe_begin(self, now_ms: int, output: CoreOutput) -> None:
        recoveries, settings = self._cell.recoveries, self._settings
        rested_ms = now_ms - self._rested_since_ms
        is_due = (0 < settings.updates <= self._updates) or (0 < settings.interval_ms <= rested_ms)
        if 0 < recoveries.debt <= FOLLOW_UPS_MAX:
            is_due = rested_ms >= FOLLOW_UP_MS << (recoveries.debt - 1)
        if is_due and self._cell.restarting is None and self._may_order(("begin", recoveries.begun_count), now_ms):
            is_resilient = recoveries.debt > 0 or recoveries.since_resilient + 1 >= settings.resilient_every
            self.order(RESILIENT if is_resilient else LIGHTWEIGHT, 0, output)

    def _maybe_order_point(self, current: Recovery, now_ms: int, output: CoreOutput) -> None:
        point = self._cell.state_point
        if current.point or not current.is_booted or (point is not None and not point.gives_way):
            return
        if self._may_order(("point", current.number), now_ms):
            output.proposals.append(encode_entry(RecoveryPoint(RECOVERY, self._cell.sequence, current.number)))

    def _maybe_abort(self, current: Recovery, now_ms: int, output: CoreOutput) -> None:
        renewals = [(one.server, one.fresh, one.boots, one.is_filled) for one in current.renewals]
        seen = (current.number, current.point, *renewals)
        if seen != self._seen:
            self._seen, self._seen_ms = seen, now_ms
        is_late = now_ms - self._seen_ms >= self._settings.patience_ms
        if is_late and self._may_order(("abort", current.number), now_ms):
            reason = f"nothing moved for {self._settings.patience_ms // 1000} s"
            output.proposals.append(encode_entry(RecoveryAborted(current.number, reason)))

    def _maybe_switch(self, current: Recovery, renewal: Renewal, now_ms: int, output: CoreOutput) -> None:
        if not renewal.is_filled or renewal.switched_at or any(one.is_leaving for one in current.renewals):
            return
        if self._may_order(("switch", renewal.fresh, self._cell.roles_changed_at), now_ms):
            output.proposals.append(encode_entry(Switch(renewal.fresh, self._cell.sequence)))

    def _maybe_give_up_old(self, renewal: Renewal, now_ms: int, output: CoreOutput) -> None:
        """Not before its successor has voted, or can, on everything that came before it."""
        successor = self._feeds.get(DomainId(renewal.successor))
        if not renewal.is_leaving or successor is None or successor.power is Power.GONE:
            return
        if successor.confirmed >= renewal.switched_at - 1 and self._may_order(("old", renewal.old), now_ms):
            reason = f"replaced by {renewal.successor}"
            output.proposals.append(encode_entry(Stopped(renewal.old, reason, self._cell.sequence)))

    def _may_order(self, what: tuple[object, ...], now_ms: int) -> bool:
        """Whether this is something new, or was ordered long enough ago."""
        if what == self._ordered and now_ms - self._ordered_ms < ORDER_AGAIN_MS:
            return False
        self._ordered, self._ordered_ms = what, now_ms
        return True
