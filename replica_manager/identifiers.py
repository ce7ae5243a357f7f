"""Names of things that replica managers talk about."""

from functools import lru_cache
from typing import NewType

from agreement.identifiers import ServerId

DomainId = NewType("DomainId", str)
"""`s<server>.g<generation>`; never reused."""

Sequence = NewType("Sequence", int)
"""1-based, dense position of an entry in the agreed order."""

ClientId = NewType("ClientId", bytes)
"""24 bytes: sequence number of the `OpenClient` entry (big-endian u64), then 128 random bits."""

CLIENT_ID_BYTES = 24
NAMES_KEPT = 1024
"""Names of domains that are read once; every tick asks for the servers of all of them."""


def domain_id(server: int, generation: int) -> DomainId:
    """Return the name of generation `generation` of `server`."""
    return DomainId(f"s{server}.g{generation}")


@lru_cache(maxsize=NAMES_KEPT)
def server_of(domain: DomainId) -> ServerId:
    """Return the server that hosts `domain`.

    Raises:
        ValueError: not a domain name.
    """
    server, separator, generation = domain.partition(".g")
    if not separator or not server.startswith("s") or not generation.isdigit():
        raise ValueError(f"not a domain id: {domain!r}")
    return ServerId(int(server[1:]))


def generation_of(domain: DomainId) -> int:
    """Return the generation number in the name of `domain`.

    Raises:
        ValueError: not a domain name.
    """
    server_of(domain)
    return int(domain.partition(".g")[2])


__all__ = ["CLIENT_ID_BYTES", "ClientId", "DomainId", "Sequence", "ServerId", "domain_id", "generation_of", "server_of"]
