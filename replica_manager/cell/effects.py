"""What applying an entry means for the rest of the replica manager."""

from typing import NamedTuple

from replica_manager.cell.roles import Role
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


class RoundOpened(NamedTuple):
    """Fewer than `T` domains are active: servers with a passive domain offer it."""

    round_number: int
    activations: int
    """Domains to be activated."""


class ProgressMade(NamedTuple):
    """`stable_all` and `durable_all` may have grown; a peer's digest can be compared."""

    server: int
    stable_all: int
    durable_all: int
    digest_position: int
    digest: bytes


class StateWanted(NamedTuple):
    """Every domain gives its state as of this position."""

    kind: str
    token: int


class StateRefused(NamedTuple):
    """A point was asked for while another one is open: nothing happens."""

    token: int
    open_point: int


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
    | MembershipChanged
    | RoundOpened
    | ProgressMade
    | StateWanted
    | StateRefused
    | StateCompared
)
