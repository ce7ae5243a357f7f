"""Roles of domains and the thresholds that follow from membership."""

import enum
from typing import NamedTuple

from replica_manager.identifiers import DomainId, server_of


class Role(enum.Enum):
    """What a domain is for.  Source: design "Words"."""

    STARTING = "starting"
    """Booted from a clean image; to be filled with agreed state."""
    PASSIVE = "passive"
    ACTIVE = "active"
    RETIRED = "retired"


class DomainRecord(NamedTuple):
    """What the cell knows of a domain."""

    domain: DomainId
    role: Role
    is_counted: bool
    """Whether its votes count: it is not convicted and its server has not left."""
    reason: str
    """Why it has its role, for the operator."""
    since: int = 0
    """Position from which it has its role."""
    suspicion: str = ""
    """Why it is suspected; empty: it is not."""
    was_active: bool = False
    """Whether it was ever active: its state is then what it executed, not what was voted on."""

    @property
    def server(self) -> int:
        """The hosting server."""
        return int(server_of(self.domain))

    @property
    def is_clean_passive(self) -> bool:
        """Whether it can be relied on to step in."""
        return self.role is Role.PASSIVE and not self.suspicion


def stability_threshold(f_prime: int, *, has_unfenced_departure: bool) -> int:
    """Return `T`, the number of equal votes that make a sequence number stable.

    While no server has left `f' = f`, so `f'+1 = f+1`.  A server that left without being fenced may in truth run
    on behind a broken network, so one more vote is asked for: with `f'+1` one slow server and one bad domain would
    be a wrong answer.

    Source: design "Words"; SPARE §4.4.4 (Deviates: there always `f'+1`).
    """
    return f_prime + (2 if has_unfenced_departure else 1)
