"""The mutator: reproducible, and it uses all its ways."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.mutations import CHANGES_MAX, MUTANT_BYTES_MAX, Mutator

CORPUS = [b"GET / HTTP/1.1\r\nContent-Length: 17\r\n\r\n", bytes(range(256)), b"\x00\x00\x00\x05hello", b""]


def test_the_same_seed_gives_the_same_mutants() -> None:
    """A finding is told by seed and index."""
    first, second, other = Mutator(CORPUS, 7), Mutator(CORPUS, 7), Mutator(CORPUS, 8)
    mutants = [first.mutant() for _ in range(500)]
    assert mutants == [second.mutant() for _ in range(500)]
    assert mutants != [other.mutant() for _ in range(500)]


def test_every_way_of_changing_is_used_and_most_mutants_differ_from_what_was_recorded() -> None:
    """None is left out by a slip."""
    mutator = Mutator(CORPUS, 1)
    mutants = [mutator.mutant() for _ in range(2000)]
    assert min(mutator.counts.values()) > 2000 / len(mutator.counts) / 2
    assert sum(mutator.counts.values()) <= 2000 * CHANGES_MAX
    assert sum(mutant in CORPUS for mutant in mutants) < 600
    assert len(set(mutants)) > 1000


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.integers(0, 2**32))
def test_any_corpus_has_mutants_of_bounded_size(corpus: list[bytes], seed: int) -> None:
    """Empty members too."""
    mutator = Mutator(corpus, seed)
    assert all(len(mutator.mutant()) <= MUTANT_BYTES_MAX for _ in range(20))


def test_growth_has_an_end() -> None:
    """Doubling what is long already does not fill the memory."""
    mutator = Mutator([bytes(MUTANT_BYTES_MAX)], 1)
    assert all(len(mutator.mutant()) <= MUTANT_BYTES_MAX for _ in range(200))
