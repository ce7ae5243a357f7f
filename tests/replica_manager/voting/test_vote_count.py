"""Every outcome of a count, and the bounds between them.

Source: design "Execution and voting".
"""

from hashlib import sha256

import pytest

from replica_manager.identifiers import DomainId
from replica_manager.voting.vote_count import (
    DIGEST_BYTES,
    Diverged,
    Exceeded,
    Pending,
    Stable,
    VoteOutcome,
    count_votes,
    vote_digest,
)

A, B, C = b"a" * DIGEST_BYTES, b"b" * DIGEST_BYTES, b"c" * DIGEST_BYTES


def votes(*digests: bytes) -> dict[DomainId, bytes]:
    return {DomainId(f"s{number}.g1"): digest for number, digest in enumerate(digests)}


@pytest.mark.parametrize(
    ("digests", "silent_active", "silent_others", "expected"),
    [
        ((), 2, 0, Pending()),
        ((), 0, 0, Pending()),
        ((A,), 1, 0, Pending()),
        ((A,), 1, 5, Pending()),
        ((A,), 0, 1, Diverged(1)),
        ((A,), 0, 0, Exceeded((A,))),
        ((A, A), 0, 0, Stable(A, ())),
        ((B, A, A), 0, 0, Stable(A, (DomainId("s0.g1"),))),
        ((A, B), 0, 2, Diverged(1)),
        ((A, B), 1, 0, Pending()),
        ((B, A), 0, 0, Exceeded((A, B))),
        ((A, A, C, B), 0, 0, Exceeded((A, B, C))),
        ((A, A, B, B), 3, 3, Exceeded((A, B))),
        ((A, A, A, B), 0, 0, Stable(A, (DomainId("s3.g1"),))),
    ],
)
def test_a_count_with_one_tolerated_fault_and_two_votes_needed(
    digests: tuple[bytes, ...], silent_active: int, silent_others: int, expected: VoteOutcome
) -> None:
    """Who could still vote decides between waiting, asking more domains, and giving up."""
    outcome = count_votes(votes(*digests), 2, 1, silent_active, silent_others)
    assert (type(outcome), outcome) == (type(expected), expected)


@pytest.mark.parametrize(("silent_active", "expected"), [(2, Pending()), (1, Diverged(1)), (0, Diverged(1))])
def test_silent_domains_add_up_and_no_more(silent_active: int, expected: VoteOutcome) -> None:
    """Three votes needed: one is there, the others must come from the silent."""
    outcome = count_votes(votes(A), 3, 2, silent_active, 2)
    assert (type(outcome), outcome) == (type(expected), expected)


def test_the_digest_binds_reply_and_update_and_where_one_ends() -> None:
    """Lengths as 8 bytes, big-endian, before each: all versions of a cell must agree on this."""
    expected = sha256(bytes(7) + b"\x02" + b"ab" + bytes(7) + b"\x01" + b"c").digest()
    assert vote_digest(b"ab", b"c") == expected
    assert len(expected) == DIGEST_BYTES
    assert vote_digest(b"a", b"bc") != expected
