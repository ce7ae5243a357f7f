"""Where the members of a cell listen.  Pure."""

from pathlib import Path

from agreement.identifiers import MemberId
from replica_manager.config import Config
from replica_manager.config_addresses import Address, parse_address
from replica_manager.network.key_files import identity_uri, member_files
from replica_manager.ordering.peer_tls import PeerCredentials


def private_addresses(config: Config) -> dict[MemberId, Address]:
    """Return the peer port of every member."""
    found = {MemberId.server(server.id): parse_address(server.private_address) for server in config.server}
    return found | {MemberId.witness(one.id): parse_address(one.private_address) for one in config.witness}


def public_address(config: Config, server_id: int) -> Address:
    """Return where clients connect to a server."""
    server = next(server for server in config.server if server.id == server_id)
    return parse_address(server.public_address)


def framed_address(config: Config, server_id: int) -> Address | None:
    """Return where clients of the framed protocol connect to a server; `None`: it has no such port."""
    if config.service.listen == "framed":
        return public_address(config, server_id)
    server = next(server for server in config.server if server.id == server_id)
    return parse_address(server.framed_address) if server.framed_address else None


def peer_credentials(directory: Path, cell: str, member: MemberId) -> PeerCredentials:
    """Return what `member` proves itself with to its peers."""
    files = member_files(directory, member)
    return PeerCredentials(files.authority, files.certificate, files.key, lambda other: identity_uri(cell, other))
