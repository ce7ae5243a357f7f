"""Who votes: a numbered set of servers and witnesses, and what each change makes of it.

Source: Lamport and Massa, "Cheap Paxos" (2004), section 3; design "Agreement stage", Configurations.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

import msgspec

from agreement.changes import Change, ServerJoined, ServerLeft, WitnessReplaced
from agreement.identifiers import Identity, MemberId, MemberKind
from agreement.quorum import QuorumRule

Seat = tuple[int, int]
"""`(number, incarnation)` of a server or a witness."""


class Configuration(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, dict=True):
    """One configuration of the cell: an acceptor set with a log of its own.

    With each server that leaves, the highest-numbered witness drops out; with each that joins it comes back, so
    that `f_c + 1` servers vote beside `f_c` witnesses.  With `witnesses = ()` all servers are the only quorum.
    """

    number: int
    """1-based; each change adds one."""
    servers: tuple[Seat, ...]
    """The `f_c + 1` servers, ascending."""
    witnesses: tuple[Seat, ...]
    """All witnesses of the cell, ascending; the first `f_c` of them vote."""
    departed: tuple[Seat, ...] = ()
    """Servers that have left and not come back, each with its newest incarnation."""

    @classmethod
    def first(cls, members: Iterable[Identity]) -> "Configuration":
        """The configuration that a cell is born with: `f + 1` servers, and `f` witnesses or none.

        Raises:
            ValueError: no server, a member named twice, or a number of witnesses that is neither 0 nor `f`.
        """
        named = sorted(members)
        servers = tuple((m.number, i) for m, i in named if m.kind is MemberKind.SERVER)
        witnesses = tuple((m.number, i) for m, i in named if m.kind is MemberKind.WITNESS)
        if not servers or len({identity.member for identity in named}) != len(named):
            raise ValueError(f"a configuration needs servers, each named once, not {named}")
        if len(witnesses) not in (0, len(servers) - 1):
            raise ValueError(f"{len(servers)} servers need {len(servers) - 1} witnesses or none, not {len(witnesses)}")
        return cls(number=1, servers=servers, witnesses=witnesses)

    @cached_property
    def server_ids(self) -> tuple[MemberId, ...]:
        """The servers of this configuration, ascending."""
        return tuple(MemberId.server(number) for number, _ in self.servers)

    @cached_property
    def witness_ids(self) -> tuple[MemberId, ...]:
        """The witnesses that vote in this configuration: as many as servers may still fail."""
        return tuple(MemberId.witness(number) for number, _ in self.voting_witnesses())

    @cached_property
    def known_witness_ids(self) -> tuple[MemberId, ...]:
        """All witnesses of the cell, also those that do not vote at present."""
        return tuple(MemberId.witness(number) for number, _ in self.witnesses)

    @cached_property
    def incarnations(self) -> Mapping[MemberId, int]:
        """The incarnation with which each voting member is named."""
        servers = {MemberId.server(number): incarnation for number, incarnation in self.servers}
        return servers | {MemberId.witness(number): incarnation for number, incarnation in self.voting_witnesses()}

    def voting_witnesses(self) -> tuple[Seat, ...]:
        """As many as servers may still fail; more would make two quorums that do not meet."""
        return self.witnesses[: len(self.servers) - 1]

    @cached_property
    def rule(self) -> QuorumRule:
        """Every quorum is `f_c + 1` of exactly these members; without witnesses all servers."""
        return QuorumRule(frozenset(self.incarnations), len(self.servers))

    def names(self, identity: Identity) -> bool:
        """Whether this very incarnation votes here."""
        return self.incarnations.get(identity.member) == identity.incarnation

    def server_incarnation(self, server: int) -> int | None:
        """The incarnation of a server of this configuration, or None."""
        return self.incarnations.get(MemberId.server(server))

    def latest_incarnation(self, member: MemberId) -> int:
        """The newest incarnation that any configuration so far has named; 0 for a member never named."""
        seats = self.witnesses if member.kind is MemberKind.WITNESS else self.servers + self.departed
        return dict(seats).get(member.number, 0)

    def objection(self, change: Change) -> str | None:
        """Why `change` is impossible in this configuration, as a sentence; None if it is possible."""
        match change:
            case ServerLeft(server=server):
                if self.server_incarnation(server) is None:
                    return f"server {server} is not in configuration {self.number}"
                return "the last server cannot leave" if len(self.servers) == 1 else None
            case ServerJoined(server=server, incarnation=incarnation):
                if self.server_incarnation(server) is not None:
                    return f"server {server} is in configuration {self.number} already"
                if not self.latest_incarnation(MemberId.server(server)):
                    return f"server {server} is unknown"
                return self._objection_to_incarnation(MemberId.server(server), incarnation)
            case WitnessReplaced(witness=witness, incarnation=incarnation):
                if witness not in dict(self.witnesses):
                    return f"witness {witness} is unknown"
                return self._objection_to_incarnation(MemberId.witness(witness), incarnation)

    def _objection_to_incarnation(self, member: MemberId, incarnation: int) -> str | None:
        latest = self.latest_incarnation(member)
        if incarnation > latest:
            return None
        return f"incarnation {incarnation} of {member} is not newer than {latest}"

    def after(self, change: Change) -> "Configuration":
        """The next configuration.

        Invariant: `objection(change)` is None; the leader checked it, and a configuration's members never change.
        """
        assert self.objection(change) is None, self.objection(change)
        servers, departed, witnesses = dict(self.servers), dict(self.departed), dict(self.witnesses)
        match change:
            case ServerLeft(server=server):
                departed[server] = servers.pop(server)
            case ServerJoined(server=server, incarnation=incarnation):
                departed.pop(server, None)
                servers[server] = incarnation
            case WitnessReplaced(witness=witness, incarnation=incarnation):
                witnesses[witness] = incarnation
        return type(self)(
            self.number + 1,
            tuple(sorted(servers.items())),
            tuple(sorted(witnesses.items())),
            tuple(sorted(departed.items())),
        )
