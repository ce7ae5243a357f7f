"""What this process knows of one virtual machine, and how it looks at its process and files."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from replica_manager.hypervisor.domain_process import NOTHING_USED, ProcessUsage, process_usage
from replica_manager.hypervisor.hypervisor import DomainSpec, DomainState
from replica_manager.identifiers import DomainId


@dataclass(slots=True)
class MachineLife:
    """One run of a domain, from its start to its end."""

    uuid: str
    pid: int | None = None
    """`None`: not found yet, or on another host."""
    reported: DomainState | None = None
    """The last state that was reported as an event."""
    is_up: bool = False
    """The hypervisor has confirmed the start.  Before, nothing follows from its not knowing the domain."""
    is_ending: bool = False
    """`destroy` was asked for."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class MachineRecord:
    """One domain that we know.  Invariant: changed in the event loop only, but for `usage`."""

    domain_id: DomainId
    name: str
    """In libvirt."""
    spec: DomainSpec | None
    """`None` for a domain that a former process left."""
    files: list[Path]
    """Deleted with the domain, unless its disk is kept: disk and console."""
    sockets: list[Path]
    life: MachineLife | None = None
    """`None`: defined or stopped."""
    was_started: bool = False
    has_files: bool = False
    """Its disk and directories have been made."""
    weight: float = 1.0
    normal_shares: int | None = None
    """CPU shares that libvirt gives a normal domain; `None`: unknown, or it controls none."""
    usage: ProcessUsage = NOTHING_USED
    """As last seen; its CPU time stays after the end."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def resting_state(self) -> DomainState:
        """The state of a domain without a life."""
        return DomainState.STOPPED if self.was_started else DomainState.DEFINED

    def state(self, seen: DomainState | None) -> DomainState:
        """Return the state, given what the hypervisor says of the present life (`None`: it does not know it)."""
        if self.life is None:
            return self.resting_state
        return seen or self.life.reported or DomainState.RUNNING


def look_at_process(record: MachineRecord, life: MachineLife | None) -> None:
    """Note what the domain's process has used in its present life.  Blocks for about 30 µs."""
    usage = process_usage(life.pid) if life is not None and life.pid is not None else None
    if usage is not None:
        record.usage = usage
    elif life is None:
        record.usage = ProcessUsage(record.usage.cpu_seconds, 0, "")


def delete_files(paths: Iterable[Path]) -> None:
    """Delete files that may be gone already."""
    for path in paths:
        path.unlink(missing_ok=True)
