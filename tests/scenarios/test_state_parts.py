"""State parts: nobody can leave something out, or mix them up.  Source: design section 10; `L11` of its traps."""

from hashlib import sha256

import pytest

from exec_wrapper.wire import StatePart
from replica_manager.identifiers import DomainId
from replica_manager.recovery.state_digests import CheckpointBoard, StateOrderError, StateReader, part_digest

POINT = 7
PARTS = [StatePart(POINT, index, index == 9, b"row %d" % index) for index in range(10)]


def read(parts: list[StatePart]) -> StateReader:
    reader = StateReader(POINT)
    for part in parts:
        reader.take(part)
    return reader


def test_l11_a_state_that_ends_early_has_another_last_digest() -> None:
    """Parts 0 to 7 match, then a bad domain says that this was the last one: the next generation would be short."""
    truncated = [*PARTS[:7], StatePart(POINT, 7, True, PARTS[7].data)]
    assert read(truncated).part_digests[:7] == read(PARTS).part_digests[:7]
    assert read(truncated).part_digests[7] != read(PARTS).part_digests[7]
    assert read(truncated).content_digest != read(PARTS).content_digest


def test_l11_planted_digests_of_the_bytes_alone_do_not_tell() -> None:
    """The scenario above finds it: seven, and eight, parts would match."""
    truncated = [*PARTS[:7], StatePart(POINT, 7, True, PARTS[7].data)]
    bare = [sha256(part.data).digest() for part in truncated]
    assert bare == [sha256(part.data).digest() for part in PARTS[:8]]


@pytest.mark.parametrize("other", [(8, 0, False), (7, 1, False), (7, 0, True)])
def test_l11_a_part_digest_binds_point_index_and_end(other: tuple[int, int, bool]) -> None:
    """A part of another point or place is no part of this one."""
    assert part_digest(*other, b"row") != part_digest(7, 0, False, b"row")


@pytest.mark.parametrize(
    "part",
    [StatePart(POINT, 1, False, b""), StatePart(POINT + 1, 0, False, b""), StatePart(POINT, 2, False, b"")],
)
def test_l11_parts_come_in_order_and_of_the_point_that_was_asked(part: StatePart) -> None:
    """Anything else is the domain's misbehaviour."""
    with pytest.raises(StateOrderError):
        StateReader(POINT).take(part)


def test_l11_nothing_comes_after_the_last_part() -> None:
    """Else a state could be longer than what was voted on."""
    with pytest.raises(StateOrderError):
        read([*PARTS, StatePart(POINT, 10, True, b"more")])


def test_l11_where_parts_are_cut_is_part_of_the_content() -> None:
    """Lengths are hashed: bytes cannot move from one part to the next."""
    one = read([StatePart(POINT, 0, False, b"ab"), StatePart(POINT, 1, True, b"c")])
    other = read([StatePart(POINT, 0, False, b"a"), StatePart(POINT, 1, True, b"bc")])
    assert one.content_digest != other.content_digest


def test_a_domain_reports_one_state_per_point() -> None:
    """A second, different report changes nothing."""
    board = CheckpointBoard()
    first, second = DomainId("s0.g1"), DomainId("s1.g1")
    board.open(POINT, frozenset({first, second}))
    assert not board.report(first, POINT, b"x" * 32)
    assert not board.report(first, POINT, b"y" * 32)
    assert board.report(second, POINT, b"x" * 32)
    assert board.digests(POINT) == {first: b"x" * 32, second: b"x" * 32}
