"""Which state is right: states are voted on like replies.

Source: design "Lightweight", "Resilient" (`L10` of its list of traps: state digests are counted by the same code).
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

from replica_manager.cell.state_points import StatePoint
from replica_manager.identifiers import DomainId
from replica_manager.voting.vote_count import VoteOutcome, count_votes


def state_digest(part_digests: Sequence[bytes]) -> bytes:
    """Return what a domain votes for: the parts' digests bind index and end flag, so their number is voted on too."""
    return sha256(b"".join(part_digests)).digest()


class StateVote:
    """The votes on the state at one point."""

    def __init__(self, point: StatePoint) -> None:
        """Nobody has given its state."""
        self.point = point
        self._votes: dict[DomainId, bytes] = {}
        self._parts: dict[bytes, list[bytes]] = {}

    def report(self, domain: DomainId, part_digests: Sequence[bytes]) -> bool:
        """Note what a domain gave; return whether it is news."""
        if domain not in self.point.donors or domain in self._votes:
            return False
        digest = state_digest(part_digests)
        self._votes[domain] = digest
        self._parts.setdefault(digest, list(part_digests))
        return True

    @property
    def missing(self) -> tuple[DomainId, ...]:
        """Who has not given its state."""
        return tuple(domain for domain in self.point.donors if domain not in self._votes)

    def outcome(
        self,
        threshold: int,
        f_prime: int,
        is_counted: Callable[[DomainId], bool],
        is_present: Callable[[DomainId], bool],
    ) -> VoteOutcome:
        """Judge the votes as they are now.

        Args:
            threshold: `T`.
            f_prime: `f'`.
            is_counted: whether what a domain gave counts.
            is_present: whether a domain can still give its state.
        """
        counted = {domain: digest for domain, digest in self._votes.items() if is_counted(domain)}
        silent = sum(1 for domain in self.missing if is_present(domain))
        return count_votes(counted, threshold, f_prime, silent, 0)

    def parts_of(self, digest: bytes) -> list[bytes]:
        """Return the part digests of a state that somebody gave."""
        return self._parts[digest]

    def givers_of(self, digest: bytes) -> list[DomainId]:
        """Return who gave this state, by name."""
        return sorted(domain for domain, vote in self._votes.items() if vote == digest)
