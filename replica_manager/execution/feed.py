"""One feed per domain: everything a domain is told about the agreed order goes through its feed.

A feed's cursor is the first sequence number not yet handed to the domain.  It moves only forward and by one: past
`s` by `Execute(s)`, or by `s`'s update once `s` is in this server's stable prefix.  A passive domain is fed updates
only; an active one updates up to the stable prefix and `Execute` from there.  What was settled at a restart of the
cell has no updates any more: whatever its role has become, a domain executes that itself.  A role change never moves
a cursor, so nothing is skipped or done twice.  A fresh domain is fed nothing until it holds the state of a point; then
it is fed like a passive one from there.

Source: design "Execution and voting", "One feed per domain" (`L1`: with "active from number s" instead of a cursor,
an older open number deadlocks the cell).
"""

import enum
from collections import deque
from dataclasses import dataclass

from exec_wrapper.wire import ApplyUpdates, Execute, Sync, TakeState, ToWrapper
from replica_manager.cell.roles import Role
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.identifiers import DomainId
from replica_manager.updates.update_buffer import UpdateBuffer

EXECUTES_IN_FLIGHT_MAX = 256
"""Requests handed to a domain and not answered: enough to hide a round trip, few enough to bound its queue."""
EXECUTE_BYTES_IN_FLIGHT_MAX = 8 * 1024 * 1024
"""Their bytes, unless a single one is larger: clients with large requests must not fill the queue to a domain, which
would be taken for a domain that does not read."""


class Power(enum.Enum):
    """Whether the domain has CPU time."""

    STARTING = "starting"
    RUNNING = "running"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    GONE = "gone"


class PowerAction(enum.Enum):
    """What the shell must ask of the hypervisor."""

    SUSPEND = "suspend"
    RESUME = "resume"
    DESTROY = "destroy"
    SERVE = "serve"
    """Give it the CPU share of a domain that serves."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """When a passive domain is refreshed."""

    refresh_updates_max: int
    """`U_max`: non-empty updates."""
    refresh_bytes_max: int
    refresh_lag_max: int
    """Numbers, with or without update: so that a stretch of read-only requests does not hold the log for ever."""
    batch_bytes_max: int
    """Bytes of one `ApplyUpdates` frame."""
    state_format: int
    is_passive_kept_running: bool


class FeedMisuse(Exception):
    """Raised when a domain answers what it was not asked: the domain's fault."""


class Feed:
    """What one local domain was handed, has answered and is to be handed next."""

    def __init__(self, domain: DomainId, role: Role, settings: FeedSettings, first_refresh_updates: int) -> None:
        """Make the feed of a domain that has not said Hello.

        Args:
            domain: its name.
            role: its role in the cell.
            settings: see `FeedSettings`.
            first_refresh_updates: the first refresh comes after this many updates (staggered over the servers).
        """
        self.domain = domain
        self.role = role
        self.active_since = 0
        """Position from which it is active, if it is."""
        self.power = Power.STARTING
        self.is_linked = False
        self.cursor = 1
        self.previous = 0
        """Last number covered by a frame."""
        self.confirmed = 0
        """Every number up to and including this one is executed or applied by the domain."""
        self.synced_cursor = 1
        self.is_sync_due = False
        self.points: deque[int] = deque()
        """Positions at which the domain will give its state, ascending."""
        self.state_point = 0
        """Position whose state is streaming; 0: none."""
        self.state_part_count = 0
        """Parts of states that it has given."""
        self.executing: deque[int] = deque()
        """Handed and not answered, ascending."""
        self._executing_bytes: deque[int] = deque()
        self._bytes_in_flight = 0
        self.applying_up_to = 0
        """Last number of the batch that is being applied; 0: none."""
        self.applying_count = 0
        self._applying_from = 0
        self._settings = settings
        self._refresh_updates = self._first_refresh_updates = first_refresh_updates
        self.is_syncing = False
        self._has_unsynced = False
        self.is_alert = False
        """Whether a vote stalls, so that a sleeper should be awake and as far as updates reach."""
        self.is_filled = role is not Role.STARTING
        """Whether it holds a state that it can be fed from."""
        self.is_state_durable = self.is_filled
        """Whether that state is on its disk: before, it could not come back after a loss of power."""
        self.replay_through = 0
        """Last number that it executes for itself after a restart of the cell although it counts as stable here."""
        self.is_expecting = False
        """Whether the point is known whose state it gets."""

    # -- what the domain and the hypervisor say ----------------------------------------------------------------

    def on_linked(self, cursor: int, delivered: int | None) -> None:
        """The wrapper said Hello with this cursor; it has CPU time.

        Args:
            cursor: the first number that is not in its state, as it claims.
            delivered: the last number of the agreed order here; None: not known yet.

        Raises:
            FeedMisuse: it claims what cannot be: to be beyond the order, or beyond a position that it was to halt at.
        """
        if delivered is not None:
            limit = self.points[0] if self.points else delivered + 1
            if cursor > limit:
                raise FeedMisuse(f"claims cursor {cursor}, at most {limit} is possible")
        if cursor < 1:
            raise FeedMisuse(f"claims cursor {cursor}")
        self.is_linked = True
        self.power = Power.RUNNING
        if self.is_filled:
            self._stand_at(cursor)
            # It may come back from pages that the kernel, here or in its guest, has not written yet.
            self.synced_cursor, self._has_unsynced = 1, cursor > 1

    def _stand_at(self, cursor: int) -> None:
        self.cursor = self.synced_cursor = cursor
        self.previous = self.confirmed = cursor - 1

    def take_role(self, role: Role, position: int) -> None:
        """The domain has another role from this position on."""
        if role is Role.ACTIVE and self.role is not Role.ACTIVE:
            self.active_since = position
        self.role = role

    def await_state(self, point: int) -> None:
        """The fresh domain will be filled with the state at `point`: updates from there on are kept for it."""
        self._stand_at(point)
        self.is_expecting = True

    def expect_nothing(self) -> None:
        """The fresh domain gets no state for now."""
        self.is_expecting = False

    def on_filled(self) -> None:
        """The fresh domain holds the state at its cursor; it is on its disk only after the next sync."""
        self.is_filled = True
        self.synced_cursor = 1
        self._has_unsynced = self.is_sync_due = True

    def on_gone(self) -> None:
        """The domain is no more."""
        self.is_linked = False
        self.power = Power.GONE
        self.executing.clear()
        self._executing_bytes.clear()
        self._bytes_in_flight = 0

    def on_executed(self, sequence: int, *, has_update: bool) -> None:
        """The domain executed `sequence`.

        Raises:
            FeedMisuse: it was not asked, or not in this order.
        """
        if not self.executing or self.executing[0] != sequence:
            raise FeedMisuse(f"answered {sequence}, asked {self.executing[0] if self.executing else 'nothing'}")
        self.executing.popleft()
        self._bytes_in_flight -= self._executing_bytes.popleft()
        self._note_confirmed()
        if has_update:
            self._has_unsynced = True

    def on_applied(self, up_to: int) -> int:
        """The domain applied a batch; return how many updates it had.

        Raises:
            FeedMisuse: no such batch is outstanding, or requests handed before it are not answered.
        """
        if not self.applying_up_to or up_to != self.applying_up_to:
            raise FeedMisuse(f"applied up to {up_to}, asked {self.applying_up_to or 'nothing'}")
        if self.executing:
            raise FeedMisuse(f"applied up to {up_to} before it answered {self.executing[0]}")
        self.applying_up_to = 0
        self._note_confirmed()
        if self.applying_count:
            self._has_unsynced = True
        return self.applying_count

    def _note_confirmed(self) -> None:
        """Everything before the oldest answer that is outstanding is executed or applied."""
        if self.executing:
            self.confirmed = self.executing[0] - 1
        elif self.applying_up_to:
            self.confirmed = self._applying_from - 1
        else:
            self.confirmed = self.cursor - 1

    def on_synced(self, cursor: int) -> None:
        """Everything before `cursor` is on the domain's disk.

        Raises:
            FeedMisuse: not asked, or a cursor that the domain was never handed.
        """
        if not self.is_syncing or cursor > self.cursor:
            raise FeedMisuse(f"synced up to {cursor}, handed up to {self.cursor}")
        self.is_syncing = False
        self.is_state_durable = self.is_filled
        self.synced_cursor = max(self.synced_cursor, cursor)

    def cancel_state(self, point: int) -> bool:
        """Nobody needs the state at `point` any more; return whether it streams now."""
        if point in self.points:
            self.points.remove(point)
        if self.state_point != point:
            return False
        self.state_point = 0
        return True

    def on_state_given(self, point: int) -> None:
        """The last part of the state at `point` has come."""
        if point == self.state_point:
            self.state_point = 0

    # -- what the cell wants -----------------------------------------------------------------------------------

    def request_state(self, point: int) -> None:
        """Have the domain give its state as of `point`."""
        self.points.append(point)

    @property
    def holds_the_log(self) -> bool:
        """Whether numbers from its cursor on must be kept for it."""
        return self.power is not Power.GONE and (self.is_filled or self.is_expecting)

    @property
    def holds_the_disk(self) -> bool:
        """Whether what was agreed must reach its disk before it may be forgotten."""
        return self.power is not Power.GONE and self.is_filled

    def request_sync(self) -> None:
        """Have the domain make its state durable: an active one now, a passive one at its next refresh."""
        self.is_sync_due = self._has_unsynced

    def durable_through(self, buffer: UpdateBuffer) -> int:
        """Return the last number whose effects are on the domain's disk, numbers without effect included."""
        if self._has_unsynced or self.is_syncing:
            return self.synced_cursor - 1
        if self._is_fed_updates_alone and not self.applying_up_to:
            return max(self.confirmed, buffer.next_update(self.cursor) - 1)
        # What is handed and not confirmed is not on the disk: a power cut would have to feed it again.
        return self.confirmed

    @property
    def is_replaying(self) -> bool:
        """Whether it has yet to be handed requests that it executes for itself after a restart of the cell."""
        return self.cursor <= self.replay_through

    @property
    def executes_from(self) -> int | None:
        """The first number whose request it needs though it counts as stable; None: it needs none."""
        return self.confirmed + 1 if self.confirmed < self.replay_through else None

    def needed_from(self, buffer: UpdateBuffer) -> int:
        """Return the first number that the domain may still need from the log."""
        if self._is_fed_updates_alone:
            return min(self.confirmed + 1, self.cursor) if self.applying_up_to else buffer.next_update(self.cursor)
        return self.confirmed + 1

    @property
    def _is_fed_updates_alone(self) -> bool:
        """Whether numbers without update are nothing to it: it is passive and has no request to execute any more."""
        return self.role is Role.PASSIVE and not self.executing and not self.is_replaying

    def is_refresh_due(self, buffer: UpdateBuffer) -> bool:
        """Whether a passive domain should be woken for updates."""
        waiting = buffer.waiting_count(self.cursor)
        return (
            waiting >= self._refresh_updates
            or (self.is_alert and waiting > 0)
            or buffer.prefix - self.cursor >= self._settings.refresh_lag_max
            or (waiting > 0 and buffer.waiting_bytes(self.cursor) >= self._settings.refresh_bytes_max)
            or (bool(self.points) and buffer.prefix >= self.points[0] - 1)
        )

    def plan_power(self, buffer: UpdateBuffer) -> PowerAction | None:
        """Return what to ask of the hypervisor now, and note that it was asked."""
        if not self.is_linked or self.power is Power.GONE:
            return None
        if self.power is Power.SUSPENDED and self._needs_cpu(buffer):
            self.power = Power.RESUMING
            return PowerAction.RESUME
        if self.power is Power.RUNNING and not self._needs_cpu(buffer):
            self.power = Power.SUSPENDING
            return PowerAction.SUSPEND
        return None

    def _needs_cpu(self, buffer: UpdateBuffer) -> bool:
        if self.role is Role.ACTIVE or self._settings.is_passive_kept_running or self.is_alert or not self.is_filled:
            return True
        busy = self.applying_up_to or self.is_syncing or self.state_point or self.executing or self.is_replaying
        return bool(busy) or self.is_refresh_due(buffer)

    # -- what is handed next -----------------------------------------------------------------------------------

    def pump(self, requests: RequestLog, buffer: UpdateBuffer, out: list[ToWrapper]) -> None:
        """Append the frames that can be sent now to `out` and move the cursor."""
        if not self.is_linked or self.power is not Power.RUNNING or not self.is_filled:
            return
        while self._step(requests, buffer, out):
            pass

    def _step(self, requests: RequestLog, buffer: UpdateBuffer, out: list[ToWrapper]) -> bool:
        if self.role is Role.ACTIVE or self.is_replaying:
            return self._step_active(requests, buffer, out)
        return self._step_passive(buffer, out)

    def _step_active(self, requests: RequestLog, buffer: UpdateBuffer, out: list[ToWrapper]) -> bool:
        if self.is_sync_due and self._maybe_sync(out):
            return True
        if self._maybe_take_state(out):
            return True
        if self.applying_up_to:
            return False
        if self.replay_through < self.cursor <= buffer.prefix:
            return self._apply(buffer, out)
        if self.cursor > requests.last or len(self.executing) >= EXECUTES_IN_FLIGHT_MAX:
            return False
        record = requests.get(self.cursor)
        if record is None or record.is_skipped:
            self.cursor += 1
            self._note_confirmed()
            return True
        if record.is_held or record.is_frozen or self._waits_for_survivor(record):
            return False
        return self._execute(record, out)

    def _waits_for_survivor(self, record: RequestRecord) -> bool:
        """Whether this domain was activated after another one had died of the number, and nobody has lived through it.

        Those that were active before are fed it in any case, and one of them is correct: it votes, or it dies too and
        the number is held before this domain has met it.
        """
        return 0 < record.deadly_at <= self.active_since and not record.votes and record.stable_digest is None

    def _execute(self, record: RequestRecord, out: list[ToWrapper]) -> bool:
        if self.executing and self._bytes_in_flight + record.payload_bytes > EXECUTE_BYTES_IN_FLIGHT_MAX:
            return False
        out.append(Execute(self.previous, record.sequence, record.timestamp_us, record.seed, record.payload))
        self.previous = record.sequence
        self.cursor = record.sequence + 1
        self.executing.append(record.sequence)
        self._executing_bytes.append(record.payload_bytes)
        self._bytes_in_flight += record.payload_bytes
        return True

    def _step_passive(self, buffer: UpdateBuffer, out: list[ToWrapper]) -> bool:
        if self.applying_up_to or self.executing:
            return False
        if self._maybe_take_state(out):
            return True
        if self.is_refresh_due(buffer) and self.cursor <= buffer.prefix:
            # A point wakes the sleepers of all servers at once: afterwards they go on staggered again.
            following = self._first_refresh_updates if self.points else self._settings.refresh_updates_max
            self._refresh_updates = following
            return self._apply(buffer, out)
        if self.is_sync_due and self.confirmed == self.cursor - 1:
            self._maybe_sync(out)
        return False

    def _maybe_sync(self, out: list[ToWrapper]) -> bool:
        self.is_sync_due = False
        if self.is_syncing:
            return False
        self.is_syncing = True
        self._has_unsynced = False
        out.append(Sync())
        return True

    def _maybe_take_state(self, out: list[ToWrapper]) -> bool:
        if not self.points or self.points[0] > self.cursor or self.state_point:
            return False
        assert self.points[0] == self.cursor, "a feed passed a position whose state was wanted"
        self.state_point, self.state_part_count = self.points.popleft(), 0
        out.append(TakeState(self.previous, self.state_point, self._settings.state_format))
        self.previous = self.state_point - 1
        return True

    def _apply(self, buffer: UpdateBuffer, out: list[ToWrapper]) -> bool:
        limit = min(buffer.prefix, self.points[0] - 1) if self.points else buffer.prefix
        if limit < self.cursor:
            return False
        batch = buffer.batch(self.cursor, limit, self._settings.batch_bytes_max)
        out.append(ApplyUpdates(self.previous, batch.up_to, batch.updates))
        self._applying_from = self.cursor
        self.applying_up_to = self.previous = batch.up_to
        self.applying_count = len(batch.updates)
        self.cursor = batch.up_to + 1
        return True
