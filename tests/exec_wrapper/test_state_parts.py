"""Cutting a state into parts."""

from hypothesis import given
from hypothesis import strategies as st

from exec_wrapper.state_parts import cut_into_parts


@given(st.lists(st.binary(max_size=30)), st.integers(1, 40))
def test_parts_are_full_but_the_last_and_together_the_whole(pieces: list[bytes], part_bytes_max: int) -> None:
    """However the pieces were cut; an empty state has one empty part."""
    parts = list(cut_into_parts(pieces, part_bytes_max))
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == part_bytes_max for part in parts[:-1])
    assert len(parts[-1]) <= part_bytes_max
    assert parts == list(cut_into_parts([b"".join(pieces)], part_bytes_max))
    assert len(parts) == max(1, -(-len(b"".join(pieces)) // part_bytes_max))
