"""The names of things: members, incarnations, slots, ballots.

Source: Lamport, "Paxos Made Simple" (2001), section 2; design "Agreement stage", Identity.
"""

from enum import IntEnum
from typing import NamedTuple, NewType

ServerId = NewType("ServerId", int)
"""The configured number of a server: 0, 1, …; never an address."""

Slot = NewType("Slot", int)
"""0-based position in the log of one configuration; holds one batch."""

Sequence = NewType("Sequence", int)
"""1-based, dense position of an entry in the agreed order, across all configurations."""

NUMBER_BITS = 32
"""Bits of an entry number that count entries; the bits above count the restarts of its origin with intact storage."""

NUMBER_MASK = (1 << NUMBER_BITS) - 1


class MemberKind(IntEnum):
    """What a member is: a server orders and delivers, a witness only votes."""

    SERVER = 0
    WITNESS = 1


class MemberId(NamedTuple):
    """One member of the cell; servers sort before witnesses."""

    kind: MemberKind
    number: int

    @classmethod
    def server(cls, number: int) -> "MemberId":
        """The server with this configured number."""
        return cls(MemberKind.SERVER, number)

    @classmethod
    def witness(cls, number: int) -> "MemberId":
        """The witness with this configured number."""
        return cls(MemberKind.WITNESS, number)

    @property
    def is_server(self) -> bool:
        """Whether it orders and delivers."""
        return self.kind is MemberKind.SERVER

    def __str__(self) -> str:
        return f"{'s' if self.is_server else 'w'}{self.number}"


class Identity(NamedTuple):
    """An acceptor: a member, and which of its memories it speaks from.

    Invariant: two processes with the same identity have the same durable state, one after the other.
    A member whose durable state may be incomplete takes an incarnation that it has never used.
    """

    member: MemberId
    incarnation: int

    def __str__(self) -> str:
        return f"{self.member}#{self.incarnation}"


class Ballot(NamedTuple):
    """A numbered attempt of one server to lead one configuration; ordered, and no two servers share one."""

    round: int
    member: MemberId

    def __str__(self) -> str:
        return f"{self.round}.{self.member}"


NO_BALLOT = Ballot(0, MemberId.server(0))
"""Below every ballot that is ever used: rounds start at 1."""


def first_number(life: int) -> int:
    """The number of the first entry that an origin proposes after `life` restarts with intact storage."""
    return (life << NUMBER_BITS) | 1


def number_follows(number: int, last: int) -> bool:
    """Whether `number` may be delivered right after `last` of the same origin.

    Numbers are gap-free within one life of the origin.  A restart with intact storage begins a new life: what was
    under way before may be lost or may arrive late, and must not be mistaken for an entry of the new life.
    """
    return number == last + 1 or (number > last and number & NUMBER_MASK == 1)
