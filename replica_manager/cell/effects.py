"""What applying an entry means for the rest of the replica manager."""

from typing import NamedTuple

from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import StatePoint
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome


class ClientIssued(NamedTuple):
    """`OpenClient` took effect."""

    client: ClientId
    token: int


class RequestAccepted(NamedTuple):
    """A new request: every active domain executes it."""

    client: ClientId
    number: int
    timestamp_us: int
    seed: bytes
    payload: bytes


class RequestRepeated(NamedTuple):
    """The client's last request again: answer it with the reply of `first_sequence`, do not execute."""

    client: ClientId
    number: int
    first_sequence: int


class RequestRefused(NamedTuple):
    """Not executed, by agreement of all servers."""

    client: ClientId
    number: int
    outcome: Outcome


class RoleChanged(NamedTuple):
    """A domain has a new role from this position on."""

    domain: DomainId
    role: Role
    reason: str


class MembershipChanged(NamedTuple):
    """`f'` and `T` are new; votes of every open number are counted again."""

    live_servers: tuple[int, ...]
    f_prime: int
    threshold: int
    left_server: int | None


class DomainSuspected(NamedTuple):
    """A domain is suspected from this position on."""

    domain: DomainId
    reason: str


class RoundOpened(NamedTuple):
    """More active domains are needed: servers with a passive domain offer it."""

    round_number: int
    activations: int
    """Domains to be activated."""
    sequence: int = 0
    """The number that stalls; 0: any, since fewer than `T` domains are active."""
    contributed: tuple[str, ...] = ()
    """Domains whose vote on it is known where it stalls."""


class RequestKilled(NamedTuple):
    """A domain stopped while it executed this number: one that is activated from now on waits for somebody's vote."""

    sequence: int


class RequestHeld(NamedTuple):
    """More than `f'` domains stopped at this number: no domain is fed it until an operator decides."""

    sequence: int


class ConsentWanted(NamedTuple):
    """Every server says whether it can do without this number."""

    sequence: int


class RequestResolved(NamedTuple):
    """An operator decided about a number that was open."""

    sequence: int
    action: str
    """`skip` or `retry`."""
    token: int
    objection: str
    """Why it had no effect; empty: it had."""


class ProgressMade(NamedTuple):
    """`stable_all` and `durable_all` may have grown; a peer's digest can be compared."""

    server: int
    stable_all: int
    durable_all: int
    digest_position: int
    digest: bytes


class RestartWanted(NamedTuple):
    """Every server boots its domains from their own disks."""

    token: int


class CellRestarted(NamedTuple):
    """Every domain is back or given up: those that are back are active, each from its cursor."""

    cursors: tuple[tuple[DomainId, int], ...]
    lives: tuple[tuple[DomainId, int], ...]
    """Which process booted each of them."""
    settled_through: int
    """Fewer than `T` domains can execute a number up to this one, since the others hold its effects already: no vote
    decides about it; the comparison of states does."""


class StateWanted(NamedTuple):
    """Some domains give their state as of this position."""

    point: StatePoint


class StateEnded(NamedTuple):
    """Nobody needs the state at this point any more."""

    point: int


class StateRefused(NamedTuple):
    """A checkpoint or an export was asked for while another point is open, or gave way to a repair or recovery."""

    token: int
    open_point: int
    """Position of the point that is open instead."""


class DomainFilled(NamedTuple):
    """A fresh domain of a server that is about to join holds the agreed state; it has its role with `ServerJoined`."""

    domain: DomainId


class RepairRefused(NamedTuple):
    """A repair was asked for while another point is open, or with domains that cannot be the fresh ones."""

    domains: tuple[str, ...]


class RecoveryBegan(NamedTuple):
    """Servers boot their next generations."""

    number: int
    kind: str
    token: int


class RecoveryRefused(NamedTuple):
    """A recovery was asked for while one is under way, or the cell restarts."""

    token: int


class RecoveryEnded(NamedTuple):
    """Every server is through, or was given up."""

    number: int
    kind: str
    token: int
    renewed: tuple[int, ...]
    """Servers whose oldest domain was replaced."""
    given_up: tuple[tuple[int, str], ...]
    """The others that are still there, and why."""


class StateCompared(NamedTuple):
    """The open point is closed: what every domain's state was."""

    point: int
    token: int
    digests: tuple[tuple[str, bytes], ...]


Effect = (
    ClientIssued
    | RequestAccepted
    | RequestRepeated
    | RequestRefused
    | RoleChanged
    | DomainSuspected
    | MembershipChanged
    | RoundOpened
    | RequestKilled
    | RequestHeld
    | ConsentWanted
    | RequestResolved
    | ProgressMade
    | RestartWanted
    | CellRestarted
    | StateWanted
    | StateEnded
    | StateRefused
    | RepairRefused
    | DomainFilled
    | RecoveryBegan
    | RecoveryRefused
    | RecoveryEnded
    | StateCompared
)
