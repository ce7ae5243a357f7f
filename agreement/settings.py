"""Times and limits of the agreement stage, each with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AgreementSettings:
    """Times in milliseconds of the monotonic clock that the caller passes as `now_ms`; sizes in bytes.

    All servers of a cell use the same values; nothing depends on that for safety.
    """

    heartbeat_ms: int = 50
    """The leader tells every server that it lives, this often."""
    election_timeout_min_ms: int = 600
    """A leader silent for a random time between this and the next value is replaced."""
    election_timeout_max_ms: int = 1_200
    election_timeout_ceiling_ms: int = 5_000
    """Each failed attempt lengthens a candidate's timeout by half, up to here."""
    witness_timeout_ms: int = 500
    """Witnesses are asked when a server has not answered for this long."""
    startup_grace_ms: int = 5_000
    """After its own start a candidate waits this long for servers never heard of before it asks witnesses."""
    crash_timeout_ms: int = 3_000
    """The leader declares a server crashed that has not answered for this long: at least 2,000, since a departure
    costs the boot of two domains."""
    resend_ms: int = 250
    """What was not answered is said again after this long; a connection may have lost it."""
    slots_in_flight_max: int = 4
    """Undecided slots of the leader; entries that come meanwhile wait and make larger batches."""
    batch_entries_max: int = 512
    """Entries of one slot."""
    batch_bytes_max: int = 256 * 1024
    """Payload bytes of one slot, unless a single entry is larger."""
    entry_bytes_max: int = 768 * 1024
    """Payload bytes of one entry; with `part_bytes_max` it bounds every message to 1 MiB."""
    own_entries_max: int = 8_192
    """Own entries that await delivery; also what the leader holds back of one origin."""
    own_bytes_max: int = 32 * 1024 * 1024
    """Payload bytes of own entries that await delivery."""
    part_bytes_max: int = 512 * 1024
    """Bytes of one piece of a log, of a promise or of a snapshot."""
    history_bytes_max: int = 64 * 1024 * 1024
    """Decided batches kept in memory while a server lacks them; further back it gets a snapshot."""
    history_bytes_kept: int = 16 * 1024 * 1024
    """Of them what is kept although nobody is known to lack it: whoever is elected next may find a server that does."""
    snapshot_bytes_max: int = 1024 * 1024 * 1024
    """A larger snapshot is refused."""
    votes_ahead_max: int = 4_096
    """Slots beyond the last delivered one for which a lagging server still votes."""
    join_lag_entries_max: int = 1_000
    """A joiner may lack this many entries when its `ServerJoined` is proposed."""
    declares_crashes: bool = True
    """Whether a leader orders `ServerLeft(fenced = False)` by itself after `crash_timeout_ms`; only with witnesses.
    Otherwise the caller does, on the event `ServerSuspected`."""

    def __post_init__(self) -> None:
        if self.crash_timeout_ms < 2_000:
            raise ValueError(f"crash_timeout_ms is {self.crash_timeout_ms}, below 2000: a pause is no crash")
        if not 2 * self.heartbeat_ms <= self.election_timeout_min_ms <= self.election_timeout_max_ms:
            raise ValueError("2 * heartbeat_ms <= election_timeout_min_ms <= election_timeout_max_ms does not hold")
        if self.witness_timeout_ms >= self.election_timeout_min_ms:
            raise ValueError("witness_timeout_ms must be below election_timeout_min_ms: a campaign asks witnesses too")
        if max(self.entry_bytes_max, self.batch_bytes_max, self.part_bytes_max) > 1000 * 1024:
            raise ValueError("entries, batches and parts above 1000 KiB do not fit into a message of 1 MiB")
        if self.election_timeout_max_ms > self.election_timeout_ceiling_ms or self.slots_in_flight_max < 1:
            raise ValueError("election_timeout_ceiling_ms or slots_in_flight_max is too small")
