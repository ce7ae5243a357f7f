"""From a configuration to addresses and names.  Pure.

On one machine the addresses are chosen here: the public network is 10.77.0.0/24, the private one 10.78.0.0/24, in every
cell the same, since each cell has network namespaces of its own.  On real hosts they are the configured ones.

    10.77.0.10 + i   server i            10.78.0.10 + i    server i
    10.77.0.200      clients             10.78.0.110 + j   witness j
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from agreement.identifiers import MemberId
from replica_manager.config import Config
from replica_manager.config_addresses import parse_address

PREFIX_LENGTH = 24
PUBLIC_NETWORK = "10.77.0"
PRIVATE_NETWORK = "10.78.0"
CLIENT_PORT = 7700
"""Where clients connect, on the public address of a server."""
FRAMED_PORT = 7701
"""Where `spare proxy` and framed clients connect, on the same address, if the other port speaks HTTP."""
PEER_PORT = 7800
"""Where members connect, on their private address."""
SERVER_FIRST_HOST = 10
WITNESS_FIRST_HOST = 110
CLIENTS_HOST = 200
MEMBERS_MAX = 90
"""Servers, and as many witnesses, of a one-machine cell: the plan has no more host numbers."""

CELL_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class Endpoint(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """All addresses of a cell."""

    public: dict[int, Endpoint]
    """Where clients connect, by server."""
    framed: dict[int, Endpoint]
    """Where framed clients connect, by server, if that is elsewhere; empty if it is nowhere or the same."""
    private: dict[MemberId, Endpoint]
    """Where members connect, by server and witness."""


def plan_addresses(config: Config) -> AddressPlan:
    """Return the addresses of the cell.

    Raises:
        ValueError: an address of a real host is missing or wrong, or a number is beyond `MEMBERS_MAX`.
    """
    if config.cell.kind == "one-machine":
        return _one_machine_plan(config)
    private = {MemberId.server(server.id): _configured(server.private_address) for server in config.server}
    private |= {MemberId.witness(witness.id): _configured(witness.private_address) for witness in config.witness}
    return AddressPlan(
        public={server.id: _configured(server.public_address) for server in config.server},
        framed={server.id: _configured(server.framed_address) for server in config.server if server.framed_address},
        private=private,
    )


def namespace_name(cell: str, place: str) -> str:
    """Return the network namespace of a place: `switch`, `clients`, `s<server>`, `w<witness>`."""
    return f"spare-{cell}-{place}"


def member_namespace(cell: str, member: MemberId) -> str:
    """Return the network namespace of a member of a one-machine cell."""
    return namespace_name(cell, str(member))


def namespace_pattern(cell: str) -> re.Pattern[str]:
    """Return what matches the names of this cell's namespaces, and of no other cell whose name begins alike."""
    return re.compile(rf"spare-{re.escape(cell)}-(switch|clients|[sw][0-9]+)")


def _configured(text: str) -> Endpoint:
    return Endpoint(*parse_address(text))


def _one_machine_plan(config: Config) -> AddressPlan:
    numbers = [server.id for server in config.server] + [witness.id for witness in config.witness]
    if any(not 0 <= number < MEMBERS_MAX for number in numbers):
        raise ValueError(f"a one-machine cell numbers its members 0 to {MEMBERS_MAX - 1}, not {max(numbers)}")
    servers = [MemberId.server(server.id) for server in config.server]
    witnesses = [MemberId.witness(witness.id) for witness in config.witness]
    hosts = {member.number: f"{PUBLIC_NETWORK}.{SERVER_FIRST_HOST + member.number}" for member in servers}
    is_framed_apart = config.service.listen == "http"
    return AddressPlan(
        public={number: Endpoint(host, CLIENT_PORT) for number, host in hosts.items()},
        framed={number: Endpoint(host, FRAMED_PORT) for number, host in hosts.items()} if is_framed_apart else {},
        private={member: Endpoint(private_host(member), PEER_PORT) for member in servers + witnesses},
    )


def private_host(member: MemberId) -> str:
    """Return the private address of a member of a one-machine cell."""
    first = SERVER_FIRST_HOST if member.is_server else WITNESS_FIRST_HOST
    return f"{PRIVATE_NETWORK}.{first + member.number}"
