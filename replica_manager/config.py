"""The configuration of a cell, as values.  `config_check` finds every mistake in a file at once.

One TOML file describes a whole cell; every server reads the same file.
"""

from pathlib import Path
from typing import Literal

import msgspec


class CellSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[cell]`: the cell as a whole."""

    name: str
    f: int = 1
    """Faults tolerated; the cell has f+1 servers."""
    witnesses: int | None = None
    """f (default) or 0."""
    kind: Literal["one-machine", "hosts"] = "one-machine"
    state_dir: str = "var/cell"
    """Durable files: agreement logs, overlays, keys.  Relative to the configuration file."""
    runtime_dir: str = ""
    """Sockets; short.  Default `/run/spare/<name>`."""
    durability: Literal["sync", "async", "none"] = "sync"
    fencing: str = "local"
    """`local` (one machine), `none`, or a command; used with `witnesses = 0`."""
    max_clock_skew_ms: int = 1000
    passive_mode: Literal["suspended", "running"] = "suspended"


class ServiceSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[service]`: what runs in the domains."""

    image: str = ""
    """Image name (newest) or `name-digest`; for virtual machines."""
    command: list[str] = []
    """Wrapper command, for `hypervisor = "subprocess"`."""
    listen: Literal["http", "framed"] = "framed"
    memory_mib: int = 0
    """0: what the image asks for."""


class HypervisorSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[hypervisor]`: how domains are run."""

    driver: Literal["libvirt", "subprocess"] = "libvirt"
    uri: str = ""
    """libvirt URI; empty: `qemu:///embed` with a root per server."""
    acceleration: Literal["auto", "kvm", "tcg"] = "auto"
    isolation: Literal["vm", "none"] = "vm"
    """`none` must be said explicitly for `driver = "subprocess"`."""
    channel: Literal["virtio", "tcp"] = "virtio"
    cpu_weight_background: float = 0.25
    image_dir: str = "var/images"


class UpdatesSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[updates]`: passive replicas."""

    refresh_updates_max: int = 100
    """`U_max`: non-empty updates per refresh."""
    refresh_bytes_max: int = 4 * 1024 * 1024
    buffer_entries_max: int = 100_000
    buffer_bytes_max: int = 256 * 1024 * 1024
    applied_timeout_ms: int = 30_000


class LimitsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[limits]`: bounds on everything that others can send."""

    request_bytes_max: int = 1024 * 1024
    frame_bytes_max: int = 16 * 1024 * 1024
    state_part_bytes_max: int = 256 * 1024
    client_table_entries_max: int = 50_000
    open_requests_max: int = 4096
    """Delivered but not stable requests beyond which intake answers `unavailable`."""
    connections_max: int = 8192
    own_entries_max: int = 8192
    """Entries of one server waiting for their order."""


class TimeoutsSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[timeouts]`, in ms."""

    heartbeat_ms: int = 100
    election_ms: int = 1000
    crash_ms: int = 4000
    stall_start_ms: int = 250
    stall_max_ms: int = 30_000
    progress_ms: int = 1000
    boot_ms: int = 300_000


class ServerSection(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[[server]]`: one server."""

    id: int
    host: str = ""
    public_address: str = ""
    """`address:port` where clients connect; one-machine cells choose it themselves."""
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

    id: int
    host: str = ""
    private_address: str = ""


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A whole configuration file, decoded and complete."""

    cell: CellSection
    service: ServiceSection
    hypervisor: HypervisorSection = HypervisorSection()
    updates: UpdatesSection = UpdatesSection()
    limits: LimitsSection = LimitsSection()
    timeouts: TimeoutsSection = TimeoutsSection()
    server: list[ServerSection] = []
    witness: list[WitnessSection] = []
    fault_injection: bool = False
    """Allows images with planted faults; one-machine cells only."""
    path: Path = Path()
    """Where it was read from; set by `config_check.load`."""
