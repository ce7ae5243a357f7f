"""Which state is right: states are voted on like replies, part by part, while later parts still stream.

What a domain votes for is the chain of its parts' digests up to one of them: so a part counts for a domain only if all
parts before it were the agreed ones too, and who ends early votes for another state.

Source: design "Lightweight", step 3, "Resilient" (`L10` of its list of traps: state digests are counted by the same
code; `L11`: digests bind point, index and end flag, so the number of parts is voted on too).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from replica_manager.cell.state_points import StatePoint
from replica_manager.identifiers import DomainId, server_of
from replica_manager.voting.vote_count import Stable, VoteOutcome, count_votes

_END = sha256(b"end of a state").digest()


@dataclass(slots=True)
class _Given:
    """What one domain has given so far."""

    parts: list[bytes] = field(default_factory=list)
    """Digest of each part."""
    chain: list[bytes] = field(default_factory=list)
    """Digest of everything up to each part."""
    is_complete: bool = False

    def vote_at(self, index: int) -> bytes | None:
        """Return what it votes for at a part; None: it has not come so far."""
        if index < len(self.chain):
            return self.chain[index]
        if not self.is_complete:
            return None
        return sha256(_END + (self.chain[-1] if self.chain else b"")).digest()

    def add(self, digests: Sequence[bytes]) -> None:
        """Further parts were given."""
        for digest in digests:
            self.parts.append(digest)
            self.chain.append(sha256((self.chain[-1] if self.chain else b"") + digest).digest())


class StateVote:
    """The votes on the state at one point."""

    def __init__(self, point: StatePoint) -> None:
        """Nobody has given anything."""
        self.point = point
        self._given = {domain: _Given() for domain in point.donors}
        self.agreed: list[bytes] = []
        """Digests of the parts that are agreed on so far."""
        self._agreed_chain: list[bytes] = []
        self.is_whole = False
        """Whether it is agreed that there are no more."""

    def report(self, domain: DomainId, first: int, part_digests: Sequence[bytes], *, is_complete: bool) -> bool:
        """Note what a domain gave; return whether it is news.

        Args:
            domain: who.
            first: index of the first of these parts; what comes after a gap is not taken, and told again later.
            part_digests: digests of its parts from there on.
            is_complete: whether the last of them is its last part.
        """
        given = self._given.get(domain)
        if given is None or given.is_complete or first > len(given.parts):
            return False
        news = part_digests[len(given.parts) - first :]
        given.add(news)
        given.is_complete = is_complete
        return bool(news) or is_complete

    @property
    def missing(self) -> tuple[DomainId, ...]:
        """Who has not given its whole state."""
        return tuple(domain for domain, given in self._given.items() if not given.is_complete)

    @property
    def part_count(self) -> int:
        """Parts that were given so far by all together: if it stands still, nobody gives anything."""
        return sum(len(given.parts) for given in self._given.values())

    def judge(
        self,
        threshold: int,
        f_prime: int,
        is_counted: Callable[[DomainId], bool],
        is_present: Callable[[DomainId], bool],
    ) -> VoteOutcome:
        """Agree on as many parts as the votes allow; return the outcome for the first one on which they do not.

        `Stable` stands for the end: the state is whole.

        Args:
            threshold: `T`.
            f_prime: `f'`.
            is_counted: whether what a domain gave counts.
            is_present: whether a domain can still give something.
        """
        while True:
            index = len(self.agreed)
            votes: dict[DomainId, bytes] = {}
            silent = 0
            for domain, given in self._given.items():
                vote = given.vote_at(index)
                if not is_counted(domain):
                    continue
                if vote is not None:
                    votes[domain] = vote
                elif is_present(domain):
                    silent += 1
            outcome = count_votes(votes, threshold, f_prime, silent, 0)
            if self.is_whole or not isinstance(outcome, Stable):
                return outcome
            giver = self._given[next(domain for domain, vote in votes.items() if vote == outcome.digest)]
            if index >= len(giver.parts):
                self.is_whole = True
                return outcome
            self.agreed.append(giver.parts[index])
            self._agreed_chain.append(outcome.digest)

    def dissenters(self) -> list[DomainId]:
        """Return who has given something else than what is agreed, by name."""
        return sorted(domain for domain, given in self._given.items() if self._dissents(given))

    def _dissents(self, given: _Given) -> bool:
        common = min(len(given.chain), len(self._agreed_chain))
        if common and given.chain[common - 1] != self._agreed_chain[common - 1]:
            return True
        ended_early = given.is_complete and len(given.chain) < len(self._agreed_chain)
        return ended_early or (self.is_whole and len(given.chain) > len(self._agreed_chain))

    def copies(self, index: int, near: int) -> list[DomainId]:
        """Return who gave the agreed part with this index, domains of server `near` first.

        Also one that gave another part wrongly: each part is checked for itself.
        """
        digest = self.agreed[index]
        holders = [
            domain for domain, given in self._given.items() if index < len(given.parts) and given.parts[index] == digest
        ]
        return sorted(holders, key=lambda domain: (int(server_of(domain)) != near, domain))
