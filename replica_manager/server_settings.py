"""From the cell's configuration to the settings of the parts.  Pure."""

from agreement.identifiers import Identity, MemberId
from agreement.settings import AgreementSettings
from replica_manager.cell.entries import Request, decode_entry, encode_entry
from replica_manager.cell.recoveries import BOOTS_MAX
from replica_manager.config import Config
from replica_manager.core_settings import CoreSettings
from replica_manager.execution.feed import FeedSettings
from replica_manager.faults.fault_handling import FaultSettings
from replica_manager.faults.watch import WatchSettings
from replica_manager.recovery.proactive_recovery import RecoverySettings
from replica_manager.recovery.repair import RepairSettings

STATE_FORMAT = 1
ENTRY_OVERHEAD_BYTES = 1024
"""What an entry adds to a client's request: ids, numbers, random bytes."""
MESSAGE_BYTES_MAX = 1000 * 1024
"""Bytes of an agreement entry, so that every message fits 1 MiB."""
SYNC_MS = 5_000
"""How often domains make their state durable; it bounds the log, and what is fed again after a power cut."""
REFRESH_LAG_MAX = 20_000
"""Numbers without effect after which a passive domain is told of them anyway, so that the log can be dropped."""


def core_settings(config: Config, server_id: int) -> CoreSettings:
    """Return the core's settings of one server."""
    limits, updates, timeouts = config.limits, config.updates, config.timeouts
    return CoreSettings(
        server=server_id,
        f=config.cell.f,
        client_table_entries_max=limits.client_table_entries_max,
        open_requests_max=limits.open_requests_max,
        request_bytes_max=request_bytes_max(config),
        buffer_entries_max=updates.buffer_entries_max,
        buffer_bytes_max=updates.buffer_bytes_max,
        progress_ms=timeouts.progress_ms,
        sync_ms=SYNC_MS,
        stall_start_ms=timeouts.stall_start_ms,
        clock_start_us=config.service.clock_start_us,
        feed=_feed_settings(config),
        faults=FaultSettings(
            stall_start_ms=timeouts.stall_start_ms,
            stall_max_ms=timeouts.stall_max_ms,
            extra_active=config.cell.extra_active,
        ),
        watch=WatchSettings(
            applied_timeout_ms=updates.applied_timeout_ms,
            state_timeout_ms=timeouts.state_ms,
            execution_limit_ms=timeouts.execution_limit_ms,
        ),
        repair=RepairSettings(
            is_immediate=config.cell.repair == "immediate",
            patience_ms=timeouts.state_ms,
            feed=_feed_settings(config),
        ),
        recovery=_recovery_settings(config),
    )


def _recovery_settings(config: Config) -> RecoverySettings:
    recovery = config.recovery
    # A recovery may need the boots of a generation that fails, each up to its limit.
    patience_ms = BOOTS_MAX * config.timeouts.boot_ms + config.timeouts.state_ms
    return RecoverySettings(recovery.updates, 1000 * recovery.interval_s, recovery.resilient_every, patience_ms)


def _feed_settings(config: Config) -> FeedSettings:
    updates = config.updates
    return FeedSettings(
        refresh_updates_max=updates.refresh_updates_max,
        refresh_bytes_max=updates.refresh_bytes_max,
        refresh_lag_max=REFRESH_LAG_MAX,
        batch_bytes_max=config.limits.frame_bytes_max // 2,
        state_format=STATE_FORMAT,
        is_passive_kept_running=config.cell.passive_mode == "running",
    )


def request_bytes_max(config: Config) -> int:
    """Return the largest request that intake takes: the configured one, but no more than agreement carries."""
    return min(config.limits.request_bytes_max, MESSAGE_BYTES_MAX - ENTRY_OVERHEAD_BYTES)


def agreement_settings(config: Config) -> AgreementSettings:
    """Return the agreement stage's settings, equal on all members."""
    timeouts = config.timeouts
    return AgreementSettings(
        heartbeat_ms=timeouts.heartbeat_ms,
        election_timeout_min_ms=timeouts.election_ms,
        election_timeout_max_ms=2 * timeouts.election_ms,
        election_timeout_ceiling_ms=max(5_000, 8 * timeouts.election_ms),
        crash_timeout_ms=timeouts.crash_ms,
        entry_bytes_max=min(config.limits.request_bytes_max + ENTRY_OVERHEAD_BYTES, MESSAGE_BYTES_MAX),
        own_entries_max=config.limits.own_entries_max,
    )


def first_members(config: Config) -> list[Identity]:
    """Return the members that the cell is born with."""
    servers = [Identity(MemberId.server(server.id), 1) for server in config.server]
    return servers + [Identity(MemberId.witness(witness.id), 1) for witness in config.witness]


def lower_timestamp(payload: bytes, now_us: int, max_clock_skew_us: int) -> bytes:
    """Return the entry with its timestamp lowered to the leader's clock if it is too far ahead of it.

    One intake clock that is a year ahead would otherwise freeze the service's time for a year.
    Source: design "The replicated cell state", Timestamps.
    """
    entry = decode_entry(payload)
    if not isinstance(entry, Request) or entry.timestamp_us <= now_us + max_clock_skew_us:
        return payload
    return encode_entry(Request(entry.client, entry.number, now_us, entry.random, entry.payload))
