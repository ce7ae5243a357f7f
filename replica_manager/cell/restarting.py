"""A cell that comes back from its disks: who is back, and from where each goes on.

Votes are not durable, so a number that some domain holds on its disk cannot be voted on by it again.  Every domain
executes for itself from its own cursor on, passive ones too; where fewer than `T + f'` of them still can, no vote
decides.
All correct ones reach the same state, and comparing states shows who did not.

Source: design "Cell restart" (`L4` of its list of traps).
"""

from collections.abc import Iterable

from replica_manager.identifiers import DomainId


class Restarting:
    """Domains that are waited for, and the cursors of those that are back."""

    def __init__(self, token: int, domains: Iterable[DomainId]) -> None:
        """Wait for all of `domains`."""
        self.token = token
        self._waiting = set(domains)
        self._cursors: dict[DomainId, int] = {}
        self._lives: dict[DomainId, int] = {}

    def is_expected(self, domain: DomainId) -> bool:
        """Whether the domain may say that it is back; a later process of its server may say so anew."""
        return domain in self._waiting or domain in self._cursors

    def note_back(self, domain: DomainId, cursor: int, life: int) -> None:
        """A domain is back, booted by the process `life` of its server."""
        self._waiting.discard(domain)
        self._cursors[domain] = cursor
        self._lives[domain] = life

    def note_gone(self, domain: DomainId) -> None:
        """A domain does not come back."""
        self._waiting.discard(domain)
        self._cursors.pop(domain, None)
        self._lives.pop(domain, None)

    @property
    def is_complete(self) -> bool:
        """Whether nobody is waited for any more."""
        return not self._waiting

    @property
    def cursors(self) -> tuple[tuple[DomainId, int], ...]:
        """Who is back, by name, and the first number that is not in its state."""
        return tuple(sorted(self._cursors.items()))

    @property
    def lives(self) -> tuple[tuple[DomainId, int], ...]:
        """Who is back, by name, and which process booted it."""
        return tuple(sorted(self._lives.items()))

    def settled_through(self, threshold: int, f_prime: int) -> int:
        """Return the last number on which too few domains can vote; 0 if fewer than `threshold` came back.

        `f_prime` of those that could may be faulty: one that claims to have done less than it has, or says nothing,
        would else be needed for a number that nobody else can vote on.
        """
        ascending = sorted(self._cursors.values())
        if len(ascending) < threshold:
            return 0
        return ascending[min(threshold + f_prime, len(ascending)) - 1] - 1

    def row(self) -> list[object]:
        """Return everything in a canonical order."""
        return [self.token, sorted(self._waiting), sorted(self._cursors.items()), sorted(self._lives.items())]

    @classmethod
    def of_row(cls, row: list[object]) -> "Restarting":
        """Return what `row` wrote."""
        token, waiting, cursors, lives = row
        assert isinstance(token, int)
        assert isinstance(waiting, list)
        assert isinstance(cursors, list)
        assert isinstance(lives, list)
        restarting = cls(token, map(DomainId, waiting))
        restarting._cursors = {DomainId(name): cursor for name, cursor in cursors}
        restarting._lives = {DomainId(name): life for name, life in lives}
        return restarting
