"""A schedule of faults, as values.  `schedule_check` finds every mistake in a file at once."""

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from benchmarks.chaos.fault_kinds import FaultName
from replica_manager.config import CrashMilliseconds, DiskMib, Faults, Milliseconds

Seconds = Annotated[float, Meta(ge=0, le=3600)]
"""At most an hour: more is a mistaken unit."""
Clients = Annotated[int, Meta(ge=1, le=1000)]
Scale = Annotated[float, Meta(ge=0, le=10)]
Updates = Annotated[int, Meta(ge=1, le=100_000)]
Ordinal = Annotated[int, Meta(ge=1, le=1_000_000)]
Times = Annotated[int, Meta(ge=0, le=1_000_000)]
Amount = Annotated[int, Meta(ge=0, le=1_000_000)]
Offset = Annotated[int, Meta(ge=-86_400, le=86_400)]

Direction = Literal["both", "in", "out"]
Network = Literal["private", "public"]


class CellPart(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[cell]`: the cell that suffers."""

    service: Literal["rubis", "key-value"]
    f: Faults = 1
    driver: Literal["libvirt", "subprocess"] = "libvirt"
    refresh_updates_max: Updates = 20
    """`U_max`."""
    state_disk_mib: DiskMib = 0
    """Size of each server's own file system; needed by `fill-disk`."""
    crash_ms: CrashMilliseconds = 4000
    """Silence after which a server is taken for crashed."""
    stall_start_ms: Milliseconds = 250
    """Least time for a vote behind another domain's: emulated machines are ten times slower than others."""
    state_ms: Milliseconds = 120_000
    """How long nothing may move while a domain gives or takes a state; a hanging one holds a repair up for as long."""


class LoadPart(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[load]`: the bidding mix of RUBiS, or reads and writes of a key-value store that are recorded."""

    clients: Clients
    think_time_scale: Scale = 0.5
    """RUBiS: factor on think times, 7 s in the mean."""
    pause_s: Seconds = 0.02
    """Key-value: between two requests of a client."""


class FaultPart(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[[step.fault]]`: one fault."""

    kind: FaultName
    target: str
    """`s1.active`, `s1.passive`; `s1`, `leader`, `follower`."""
    first: Ordinal = 1
    """Orders: acts on this occasion and every `every`-th from there on, `times` times (0: without end)."""
    every: Ordinal = 1
    times: Times = 0
    amount: Amount = 0
    """Orders: milliseconds of `slow`, frames of `flood`, bytes of `garbage`."""
    duration_s: Seconds = 8.0
    """How long a manager is frozen, a network cut, a disk full, a clock wrong."""
    restart_after_s: Seconds = 1.0
    """When processes that ended are started again."""
    offset_s: Offset = 3600
    """`step-clock`: by how much."""
    network: Network = "private"
    direction: Direction = "both"
    """`cut`: what the server does not receive (`in`), does not send (`out`), or both."""


class StepPart(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[[step]]`: faults at a time, then a wait until everything is as it was."""

    fault: list[FaultPart] = []
    lead_s: Seconds = 1.0
    """Load before the faults."""
    evidence_s: Seconds = 60.0
    """Time limit until every fault has shown."""
    redundancy_s: Seconds = 300.0
    """Time limit from the faults until full redundancy."""


class Schedule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A whole file."""

    cell: CellPart
    load: LoadPart
    name: str = "chaos"
    seed: int = 1
    settle_s: Seconds = 2.0
    """Load behind the last step."""
    step: list[StepPart] = []

    @property
    def faults(self) -> list[FaultPart]:
        """All faults in their order."""
        return [fault for step in self.step for fault in step.fault]

    @property
    def limit_s(self) -> float:
        """The longest that all steps may take."""
        return sum(step.lead_s + step.redundancy_s for step in self.step) + self.settle_s


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a fault strikes."""

    server: int
    domain: str = ""
    """Empty: the server itself."""

    @property
    def name(self) -> str:
        """The domain, or `s0`."""
        return self.domain or f"s{self.server}"
