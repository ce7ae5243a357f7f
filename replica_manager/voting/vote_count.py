"""Counting votes: a pure function of who said what.

A digest is stable when `T` counted votes are for it and at most `f'` against it: among `T ≥ f'+1` equal votes at
least one is of a correct domain, and correct domains agree; more than `f'` against it prove more than `f'` faults,
and then nothing is answered, since the `T` may be the liars.

Source: design "Execution and voting" (`L10`: without the second condition the first digest counted wins).
"""

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from replica_manager.identifiers import DomainId

DIGEST_BYTES = 32


class Pending(NamedTuple):
    """Not enough votes yet."""


class Stable(NamedTuple):
    """`digest` is agreed on."""

    digest: bytes
    dissenters: tuple[DomainId, ...]
    """Domains whose vote differs: proven faulty."""


class Diverged(NamedTuple):
    """No digest can reach `T` with the active domains: more domains are needed."""

    leading_votes: int
    """`m`, the largest number of equal votes."""


class Exceeded(NamedTuple):
    """More than `f'` domains are faulty; nothing may be answered."""

    digests: tuple[bytes, ...]


VoteOutcome = Pending | Stable | Diverged | Exceeded
_PENDING = Pending()


def vote_digest(reply: bytes, update: bytes) -> bytes:
    """Return the digest that a domain votes for: SHA-256(length ‖ reply ‖ length ‖ update), lengths as u64."""
    return sha256(b"%b%b%b%b" % (len(reply).to_bytes(8), reply, len(update).to_bytes(8), update)).digest()


def count_votes(
    votes: Mapping[DomainId, bytes], threshold: int, f_prime: int, silent_active: int, silent_others: int
) -> VoteOutcome:
    """Judge the counted votes of one sequence number.

    Args:
        votes: counted votes, domain → digest.
        threshold: `T`.
        f_prime: `f'`.
        silent_active: active domains that have not voted.
        silent_others: other counted domains that could still vote if they were activated.
    """
    if not votes:
        return _PENDING
    counted = Counter(votes.values()).most_common()
    leading, leading_votes = counted[0]
    against = len(votes) - leading_votes
    if leading_votes >= threshold:
        if against > f_prime:
            return Exceeded(tuple(sorted(digest for digest, _ in counted)))
        return Stable(leading, tuple(sorted(d for d, digest in votes.items() if digest != leading)))
    if leading_votes + silent_active >= threshold:
        return _PENDING
    if leading_votes + silent_active + silent_others >= threshold:
        return Diverged(leading_votes)
    return Exceeded(tuple(sorted(digest for digest, _ in counted)))
