"""Bounds and times of the replica manager's core."""

from dataclasses import dataclass

from replica_manager.execution.feed import FeedSettings
from replica_manager.faults.fault_handling import FaultSettings
from replica_manager.faults.watch import WatchSettings
from replica_manager.recovery.proactive_recovery import RecoverySettings
from replica_manager.recovery.repair import RepairSettings


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Bounds and times of one manager; equal on all servers but for `server`."""

    server: int
    f: int
    client_table_entries_max: int
    open_requests_max: int
    request_bytes_max: int
    buffer_entries_max: int
    buffer_bytes_max: int
    progress_ms: int
    sync_ms: int
    """How often domains make their state durable."""
    stall_start_ms: int
    feed: FeedSettings
    faults: FaultSettings
    watch: WatchSettings
    repair: RepairSettings
    recovery: RecoverySettings
    clock_start_us: int = 0
    """See `CellState`."""
    waiting_bytes_max: int = 128 * 1024 * 1024
    """Bytes of requests that clients of this server wait for: their number alone allows gigabytes of large ones."""
