"""The configuration of a cell, as values.  `config_check` finds every mistake in a file at once.

One TOML file describes a whole cell; every server reads the same file.
Bounds of single values stand here, beside their fields; rules that join several values are in `config_rules`.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CELL_NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,22}[a-z0-9])?$"
CellName = Annotated[str, Meta(pattern=CELL_NAME_PATTERN, description="at most 24 of a-z, 0-9, inner -")]
"""Part of paths, certificate names and names of network namespaces."""
ExtraActive = Annotated[int, Meta(ge=0, le=16)]
Faults = Annotated[int, Meta(ge=1, le=16)]
"""A cell tolerates at least one fault; every server keeps a connection to every other one."""
MemberId = Annotated[int, Meta(ge=0, le=255)]
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
"""At most a day: more is a mistaken unit."""
CrashMilliseconds = Annotated[int, Meta(ge=2000, le=86_400_000)]
"""A shorter silence is a scheduling pause or a garbage collection, not a crash (design, "Declaring a crash")."""
ApprovalPublicKey = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$", description="64 hexadecimal digits")]
Bytes = Annotated[int, Meta(ge=1024, le=1 << 40)]
FrameBytes = Annotated[int, Meta(ge=1024, le=(1 << 32) - 1)]
"""A frame's length travels as an unsigned 32-bit number."""
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Span = Annotated[int, Meta(ge=0, le=1_000_000_000)]
"""0 turns it off."""
Share = Annotated[float, Meta(ge=0.01, le=1.0)]
"""Bounded below: a domain with less does not get ready."""
ClockStart = Annotated[int, Meta(ge=0, lt=1 << 62)]
DiskMib = Annotated[int, Meta(ge=0, le=1 << 20)]
MemoryMib = Annotated[int, Meta(ge=0, le=1 << 20)]


class CellSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[cell]`: the cell as a whole."""

    name: CellName
    f: Faults = 1
    """Faults tolerated; the cell has f+1 servers."""
    witnesses: int | None = None
    """f (default) or 0.  Never `None` in a loaded configuration."""
    kind: Literal["one-machine", "hosts"] = "one-machine"
    network: Literal["namespaces", "loopback"] = "namespaces"
    """One-machine cells: a network namespace per member, or plain processes on 127.0.0.1 (needs no root)."""
    state_dir: str = "var/cell"
    """Durable files: agreement logs, overlays, keys.  Relative to the configuration file."""
    runtime_dir: str = ""
    """Sockets; short, and in memory.  Default `/run/spare/<name>`, or below `/dev/shm` where `/run` is on a disk."""
    durability: Literal["sync", "async", "none"] = "sync"
    fencing: str = "local"
    """`local` (one machine), `none`, or a command; used with `witnesses = 0`."""
    restart: Literal["always", "never"] = "always"
    """One-machine cells: whether a member whose process ended is started again."""
    max_clock_skew_ms: Milliseconds = 1000
    passive_mode: Literal["suspended", "running"] = "suspended"
    extra_active: ExtraActive = 0
    """Active domains beyond the threshold, for services whose replicas are slow at times."""
    repair: Literal["immediate", "next-recovery"] = "immediate"
    """When a server that has lost its clean passive domain gets a fresh one."""
    state_disk_mib: DiskMib = 0
    """Size of a file system that each member's directory below `state_dir` is; for tests of full and failing disks,
    with `fault_injection`.  0: none, it is a directory among others."""


class ServiceSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[service]`: what runs in the domains."""

    image: str = ""
    """Image name (newest) or `name-digest`; for virtual machines."""
    command: list[str] = []
    """Wrapper command, for `hypervisor = "subprocess"`."""
    listen: Literal["http", "framed"] = "framed"
    memory_mib: MemoryMib = 0
    """0: what the image asks for."""
    clock_start_us: ClockStart = 0
    """What the service's clock shows at the first request, in microseconds since 1970-01-01 UTC; 0: the present.
    For data sets that age, such as auctions that end."""
    record: str = ""
    """Directory of recordings, a file per server: every agreed request with its stable reply and update; empty: none.
    Relative to the configuration file.  What clients send and receive stands in it in full, passwords too."""


class HypervisorSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[hypervisor]`: how domains are run."""

    driver: Literal["libvirt", "subprocess"] = "libvirt"
    uri: str = ""
    """libvirt URI; empty: `qemu:///embed` with a root per server."""
    acceleration: Literal["auto", "kvm", "tcg"] = "auto"
    isolation: Literal["vm", "none"] = "vm"
    """`none` must be said explicitly for `driver = "subprocess"`."""
    channel: Literal["virtio"] = "virtio"
    cpu_weight_background: Share = 0.25
    """Share of a busy CPU for domains that do not serve yet."""
    image_dir: str = "var/images"


class ApprovalSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[approval]`: which images may be booted."""

    public_key: ApprovalPublicKey = ""
    """Only images boot that were approved with its private half; empty: every intact image does."""


class UpdatesSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[updates]`: passive replicas."""

    refresh_updates_max: Count = 100
    """`U_max`: non-empty updates per refresh."""
    refresh_bytes_max: Bytes = 4 * 1024 * 1024
    buffer_entries_max: Count = 100_000
    buffer_bytes_max: Bytes = 256 * 1024 * 1024
    applied_timeout_ms: Milliseconds = 30_000


class RecoverySection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[recovery]`: when domains are replaced by fresh ones though nothing is known to be wrong."""

    interval_s: Span = 0
    """From the end of one recovery to the begin of the next; 0: time begins none."""
    updates: Span = 0
    """`U_recovery`: stable updates after which a recovery begins; 0: their number begins none."""
    resilient_every: Count = 10
    """Every so many recoveries, active domains give their states too: what was executed is compared."""


class LimitsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[limits]`: bounds on everything that others can send."""

    request_bytes_max: Bytes = 1024 * 1024
    frame_bytes_max: FrameBytes = 16 * 1024 * 1024
    state_part_bytes_max: Bytes = 256 * 1024
    log_entries_max: Count = 20_000
    """Entries between two durable checkpoints of the cell state, at which the agreement log is cut: about twice as
    many are kept at most.  One checkpoint costs about as much as one microsecond per entry."""
    client_table_entries_max: Count = 50_000
    open_requests_max: Count = 4096
    """Delivered but not stable requests beyond which intake answers `unavailable`."""
    connections_max: Count = 8192
    record_bytes_max: Bytes = 1 << 30
    """Size of a recording at which it ends; `recording_full` says so and the server goes on."""
    own_entries_max: Count = 8192
    """Entries of one server waiting for their order."""


class TimeoutsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[timeouts]`, in ms."""

    heartbeat_ms: Milliseconds = 100
    election_ms: Milliseconds = 1000
    crash_ms: CrashMilliseconds = 4000
    fence_ms: Milliseconds = 30_000
    """For the fencing command; one that takes longer is killed and has failed."""
    fence_delay_ms: Milliseconds = 5_000
    """Between the servers' attempts to fence: the lowest id begins at once."""
    stall_start_ms: Milliseconds = 250
    stall_max_ms: Milliseconds = 30_000
    execution_limit_ms: Milliseconds = 120_000
    """For one request; a domain that needs longer is stopped."""
    state_ms: Milliseconds = 120_000
    """How long nothing may move while a state is given or set."""
    progress_ms: Milliseconds = 1000
    boot_ms: Milliseconds = 300_000


class AlarmSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[alarm]`: whom to call when something needs a person."""

    command: list[str] = []
    """Called with kind, server and detail; empty: nobody."""
    interval_ms: Milliseconds = 60_000
    """The same alarm of the same server is told again after this time at the earliest."""
    limit_ms: Milliseconds = 30_000
    """A command that takes longer is killed."""


class ServerSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[[server]]`: one server."""

    id: MemberId
    host: str = ""
    public_address: str = ""
    """`address:port` where clients connect; one-machine cells choose it themselves."""
    framed_address: str = ""
    """`address:port` where `spare proxy` and framed clients connect, beside HTTP on `public_address`; with
    `listen = "http"` only.  One-machine cells choose it themselves; empty on hosts: no such port."""
    private_address: str = ""
    """`address:port` of the peer port."""
    publish: str = ""
    """One-machine cells: additional `address:port` of the outer machine where clients may connect."""
    admin_address: str = ""
    """`address:port` for `/metrics` and `/healthz`; empty: only by the control socket."""
    storage: list[str] = []
    """Two directories for the domains of either role; default below `state_dir`."""
    image: str = ""
    """Overrides `[service] image`."""
    uri: str = ""
    rack: str = ""


class WitnessSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[[witness]]`: one agreement-only member."""

    id: MemberId
    host: str = ""
    private_address: str = ""
    rack: str = ""


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A whole configuration file, decoded and complete."""

    cell: CellSection
    service: ServiceSection
    hypervisor: HypervisorSection = HypervisorSection()
    approval: ApprovalSection = ApprovalSection()
    updates: UpdatesSection = UpdatesSection()
    recovery: RecoverySection = RecoverySection()
    limits: LimitsSection = LimitsSection()
    timeouts: TimeoutsSection = TimeoutsSection()
    alarm: AlarmSection = AlarmSection()
    server: list[ServerSection] = []
    witness: list[WitnessSection] = []
    fault_injection: bool = False
    """Allows images with planted faults, and disks that tests let fail; one-machine cells only."""
    path: Path = Path()
    """Where it was read from; set by `config_check.load`, never written in the file."""
