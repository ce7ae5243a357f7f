"""What the manager's core wants done; the shell does it in the order of the fields."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from exec_wrapper.wire import StatePart, ToWrapper
from replica_manager.cell.effects import RequestResolved, StateCompared, StateRefused
from replica_manager.execution.feed import PowerAction
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome, ReplySink
from replica_manager.peer_messages import ManagerMessage


class ClientReply(NamedTuple):
    """A decided request."""

    sink: ReplySink
    client: ClientId
    number: int
    outcome: Outcome
    reply: bytes


class ClientOpening(NamedTuple):
    """A client id that took effect, or None: not possible now."""

    sink: ReplySink
    token: int
    client: ClientId | None


class PartWanted(NamedTuple):
    """A part of a state that a local domain gave, to be read from this server's disk."""

    point: int
    domain: DomainId
    part_index: int
    receiver: int | None
    """The server that asks; None: this one."""


class ExportFailed(NamedTuple):
    """The state that is exported here does not come."""

    reason: str


class NamedEvent(NamedTuple):
    """Something that an operator may ask about later."""

    kind: str
    data: dict[str, Any]


@dataclass(slots=True)
class CoreOutput:
    """Everything since the last `take_output`."""

    proposals: list[bytes] = field(default_factory=list)
    """Entries to be ordered."""
    broadcasts: list[ManagerMessage] = field(default_factory=list)
    """To every live server but this one."""
    sends: list[tuple[int, ManagerMessage]] = field(default_factory=list)
    """To one server."""
    frames: list[tuple[DomainId, ToWrapper]] = field(default_factory=list)
    """To a local domain."""
    power: list[tuple[DomainId, PowerAction]] = field(default_factory=list)
    """To the hypervisor; each is answered by `on_power_done`."""
    openings: list[ClientOpening] = field(default_factory=list)
    replies: list[ClientReply] = field(default_factory=list)
    events: list[NamedEvent] = field(default_factory=list)
    points: list[StateCompared | StateRefused] = field(default_factory=list)
    """Checkpoints that ended, or were refused."""
    parts: list[tuple[DomainId, StatePart]] = field(default_factory=list)
    """State parts of local domains, to be kept on this server's disk until their point ends."""
    parts_wanted: list[PartWanted] = field(default_factory=list)
    """Parts to be read from there; each is answered by `on_part`, or by a `Part` to the server that asks."""
    export: list[ToWrapper | ExportFailed] = field(default_factory=list)
    """Of the state that is exported here: the file is told what a fresh domain would be; `on_export_frame` answers."""
    points_ended: list[int] = field(default_factory=list)
    """Points whose parts nobody needs any more."""
    boots: list[DomainId] = field(default_factory=list)
    """Fresh domains to be booted from a clean image."""
    boots_from_disk: list[DomainId] = field(default_factory=list)
    """Domains to be booted from their own disks, after a restart of the cell."""
    joins_with: tuple[DomainId, DomainId] | None = None
    """The domains, active and passive, with which this server is ready to join the cell."""
    resolved: list[RequestResolved] = field(default_factory=list)
    """Operators' decisions that took effect, or did not."""
    has_new_standing: bool = False
    """This server has become something else to the cell: `ManagerCore.standing`."""
    must_rejoin: bool = False
    """The cell went on without this server: it has to come back without its memory."""
    is_leaving: bool = False
    """No domain of this server can vote any more: have it leave the cell."""
