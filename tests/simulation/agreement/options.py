"""What is drawn once per seed."""

import random
from dataclasses import dataclass

from agreement.settings import AgreementSettings


@dataclass(frozen=True, slots=True)
class Options:
    """One schedule's cell, network and faults; times in virtual milliseconds."""

    tolerated_faults: int
    has_witnesses: bool
    safety_ms: int
    """How long faults happen."""
    proposal_interval_ms: int
    fault_interval_ms: int
    delay_max_ms: int
    loss: float
    duplication: float
    straggling: float
    """Share of messages that take up to ten times the usual delay, and so overtake each other widely."""
    sync_max_ms: int
    compaction_interval: int
    """Entries between two durable states of the application."""
    history_bytes_max: int
    goes_by_wire: bool
    """Whether every message is encoded and decoded."""

    @classmethod
    def draw(cls, rng: random.Random, tolerated_faults: int | None = None, has_witnesses: bool = True) -> "Options":
        """Draw all options; a quarter of the schedules has a perfect network."""
        is_lossy = rng.random() < 0.75
        return cls(
            tolerated_faults=tolerated_faults or rng.choice((1, 1, 2, 2, 3)),
            has_witnesses=has_witnesses,
            safety_ms=rng.choice((8_000, 15_000, 30_000)),
            proposal_interval_ms=rng.choice((5, 20, 80)),
            fault_interval_ms=rng.choice((200, 600, 2_000)),
            delay_max_ms=rng.choice((2, 10, 40)),
            loss=rng.choice((0.01, 0.05, 0.2)) if is_lossy else 0.0,
            duplication=rng.choice((0.0, 0.05, 0.2)) if is_lossy else 0.0,
            straggling=rng.choice((0.0, 0.05, 0.3)) if is_lossy else 0.0,
            sync_max_ms=rng.choice((1, 5, 50)),
            compaction_interval=rng.choice((3, 20, 100_000)),
            history_bytes_max=rng.choice((600, 20_000, 10_000_000)),
            goes_by_wire=rng.random() < 0.2,
        )

    def settings(self) -> AgreementSettings:
        """The settings of every member: short times, small limits, so that each is reached."""
        return AgreementSettings(
            heartbeat_ms=100,
            election_timeout_min_ms=400,
            election_timeout_max_ms=800,
            election_timeout_ceiling_ms=3_000,
            witness_timeout_ms=300,
            startup_grace_ms=1_000,
            crash_timeout_ms=2_000,
            resend_ms=250,
            slots_in_flight_max=3,
            batch_entries_max=4,
            part_bytes_max=200,
            own_entries_max=200,
            history_bytes_max=self.history_bytes_max,
            history_bytes_kept=self.history_bytes_max // 4,
            join_lag_entries_max=20,
            votes_ahead_max=50,
        )
