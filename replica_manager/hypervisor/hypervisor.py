"""The border to the hypervisor: values and protocol.  Contract suite: `tests/contracts/`."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from replica_manager.identifiers import DomainId


class DomainState(enum.Enum):
    """What the hypervisor says of a domain."""

    DEFINED = "defined"
    RUNNING = "running"
    SUSPENDED = "suspended"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """Everything needed to create one domain.

    A virtual machine uses `kernel`, `initrd`, `disk_base`; a child process uses `command`.
    """

    domain_id: DomainId
    image: str
    """Content-addressed image name, told to the guest on its kernel command line as `spare.image=`."""
    channel_path: Path
    """Unix socket of the internal channel; the domain's side is made by the hypervisor.  At most 107 bytes."""
    disk_path: Path
    """Overlay (qcow2) or working directory of this domain; created by `define`, in the domain's storage directory."""
    console_path: Path
    """What the guest prints."""
    memory_mib: int = 256
    vcpu_count: int = 1
    kernel: Path | None = None
    initrd: Path | None = None
    disk_base: Path | None = None
    cmdline: str = ""
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    reuse_disk: bool = False
    """Go on with the disk that is there (restart of the cell).  Without, whatever is at `disk_path` is rubbish of a
    former life of the cell: it is replaced."""


@dataclass(frozen=True, slots=True)
class DomainObservation:
    """One look at a domain."""

    domain_id: DomainId
    state: DomainState
    cpu_seconds: float
    """CPU time of the domain's process since its start, from the operating system."""
    memory_bytes: int
    """Resident memory of the domain's process."""


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """A change that the hypervisor reported by itself."""

    domain_id: DomainId
    state: DomainState
    reason: str
    """The hypervisor's words; `destroyed` if and only if this process asked for the end of the domain."""
    monotonic_s: float
    """When the event reached this process, `time.monotonic()`."""


class HypervisorError(Exception):
    """Raised when the hypervisor refuses or fails an operation: an operating error.

    The message is one sentence with the domain and the hypervisor's own words.
    """


class UnknownDomain(HypervisorError):
    """Raised for a domain id that was never defined or is destroyed: the caller's mistake.

    `destroy` never raises it: a domain that is not there is what was asked for.
    """


class DomainRefused(HypervisorError):
    """Raised when a specification cannot become a domain (path too long, file missing): the caller's mistake."""


class DomainNotRunning(HypervisorError):
    """Raised when a domain that is defined or stopped should be suspended or resumed.

    The domain may have stopped by itself a moment ago; its `STOPPED` event says why.
    """


class HypervisorUnavailable(HypervisorError):
    """Raised when the hypervisor itself cannot be reached: not installed, not running, connection lost.

    An operating error; nothing is known of any domain until it is reached again.
    """


class Hypervisor(Protocol):
    """Operations on domains.  All are idempotent: asking for the state that is there does nothing.

    Operations on one domain run one after another.  One that its caller stops waiting for still runs to its end.
    Every change of state is reported once and in order, also those that were asked for.
    """

    async def open(self, on_event: Callable[[DomainEvent], None]) -> None:
        """Connect and adopt the domains that a former process left; `on_event` is called in the event loop.

        Raises:
            HypervisorUnavailable: not reachable.
        """
        ...

    async def close(self) -> None:
        """Disconnect; domains keep their state."""
        ...

    async def define(self, spec: DomainSpec) -> None:
        """Create the domain's disk, as `reuse_disk` says; the domain is `DEFINED`.

        Raises:
            DomainRefused: the specification is impossible, or differs from the one defined under this id.
        """
        ...

    async def start(self, domain_id: DomainId) -> None:
        """Boot a defined or stopped domain; on return its channel can be connected."""
        ...

    async def suspend(self, domain_id: DomainId) -> None:
        """Take its CPU away; on return the hypervisor reports it `SUSPENDED`.

        Raises:
            DomainNotRunning: it is defined or stopped.
        """
        ...

    async def resume(self, domain_id: DomainId) -> None:
        """Give it CPU again.

        Raises:
            DomainNotRunning: it is defined or stopped.
        """
        ...

    async def destroy(self, domain_id: DomainId, *, keep_disk: bool = False) -> None:
        """End the domain at once and forget it; delete its disk unless `keep_disk`."""
        ...

    async def set_cpu_weight(self, domain_id: DomainId, weight: float) -> None:
        """Give the domain `weight` (0 < weight ≤ 1) of a normal domain's share of a busy CPU; kept over a start."""
        ...

    async def observe(self) -> Mapping[DomainId, DomainObservation]:
        """Look at every domain that this hypervisor connection knows, also ones left by a former process."""
        ...
