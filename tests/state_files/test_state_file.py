"""A state file that is not what was written is refused, and what offends is named."""

from itertools import accumulate

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from replica_manager.recovery.state_digests import PARTS_MAX, part_digest
from replica_manager.state_files.errors import NotAStateFile, StateFileDamaged, StateFileError
from replica_manager.state_files.state_file import (
    IMPORT_POINT,
    StateFile,
    encode_end,
    encode_part_head,
    read_state_file,
)
from tests.state_files.memory_file import HEAD, Bytes, content_digest, file_of, pieces_of

PARTS = st.lists(st.binary(max_size=60), min_size=1, max_size=6)
FORTY = [b"row %d" % number for number in range(40)]


def read(data: bytes) -> StateFile:
    return read_state_file(Bytes(data), "f")


def place_of(parts: list[bytes], position: int) -> int:
    """0: the head; 1 and so on: a part; one more than there are parts: the end record."""
    return next(place for place, end in enumerate(accumulate(map(len, pieces_of(parts)))) if position < end)


@given(parts=PARTS)
def test_what_was_written_is_read(parts: list[bytes]) -> None:
    """Head, parts, and the digest of a checkpoint."""
    state = read(file_of(parts))
    assert (state.head, state.content_digest) == (HEAD, content_digest(parts))
    assert [state.part(index) for index in range(state.part_count)] == parts
    assert state.byte_count == sum(map(len, parts))
    last = len(parts) - 1
    expected = [part_digest(IMPORT_POINT, index, index == last, data) for index, data in enumerate(parts)]
    assert state.part_digests == expected


@given(parts=PARTS, data=st.data())
@example(parts=[b"x" * 40], data=None)
def test_any_cut_is_refused_and_the_part_named(parts: list[bytes], data: st.DataObject | None) -> None:
    """Also one behind a part that is as long as an end record."""
    whole = file_of(parts)
    last_part = len(b"".join(pieces_of(parts)[:-1]))
    length = last_part if data is None else data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(StateFileError) as raised:
        read(whole[:length])
    place = place_of(parts, length)
    if length == 0:
        assert "f is no state file" in str(raised.value)
    elif place == 0:
        assert "its head is cut off" in str(raised.value)
    elif length == sum(map(len, pieces_of(parts)[:place])):
        assert str(raised.value) == f"f: it ends behind part {place - 1}: the end record is missing"
    elif place > len(parts):
        assert str(raised.value) == "f: its end record is cut off"
    else:
        assert str(raised.value) == f"f: part {place} is cut off"
        assert isinstance(raised.value, StateFileDamaged)
        assert raised.value.part == place


@given(parts=PARTS, data=st.data())
def test_any_changed_byte_is_refused_and_the_part_named(parts: list[bytes], data: st.DataObject) -> None:
    """In its length, its digest, or its bytes."""
    changed = bytearray(file_of(parts))
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateFileError) as raised:
        read(bytes(changed))
    place, words = place_of(parts, position), str(raised.value)
    if place == 0:
        assert "head" in words or isinstance(raised.value, NotAStateFile)
    elif place > len(parts):
        assert words == "f: its end record is damaged"
    else:
        assert words == f"f: part {place} of {len(parts)} does not match its digest"
        assert isinstance(raised.value, StateFileDamaged)
        assert raised.value.part == place


def test_the_examples_of_the_manual() -> None:
    """Parts are counted from 1."""
    pieces = pieces_of(FORTY)
    with pytest.raises(StateFileDamaged, match=r"^f: part 17 is cut off$"):
        read(b"".join(pieces[:17]) + pieces[17][:-1])
    pieces[17] = pieces[17][:-1] + b"!"
    with pytest.raises(StateFileDamaged, match=r"^f: part 17 of 40 does not match its digest$"):
        read(b"".join(pieces))


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ((0, 2, 1, 3), "part 1 of 2 does not match"),
        ((0, 2, 3), "part 1 of 2 does not match"),
        ((0, 1, 2, 2, 3), "part 3 of 2 does not match"),
        ((0, 1, 3), "its end record counts 2 parts, 1 stand before it"),
    ],
)
def test_parts_that_are_moved_removed_or_doubled_are_named(order: tuple[int, ...], words: str) -> None:
    """A part's digest binds its place."""
    pieces = pieces_of([b"one", b"two"])
    with pytest.raises(StateFileDamaged, match=words):
        read(b"".join(pieces[piece] for piece in order))


def test_an_end_record_that_lies_is_refused() -> None:
    """Made anew, with the right digest of itself."""
    pieces = pieces_of(FORTY)
    with pytest.raises(StateFileDamaged, match="counts 39 parts, 40 stand before it"):
        read(b"".join(pieces[:-1]) + encode_end(39, content_digest(FORTY)))
    with pytest.raises(StateFileDamaged, match="another digest than its parts"):
        read(b"".join(pieces[:-1]) + encode_end(40, content_digest(FORTY[:-1])))


def test_a_state_has_at_least_one_part() -> None:
    """An empty file of an empty list is nobody's state."""
    with pytest.raises(StateFileDamaged, match="counts 0 parts"):
        read(file_of([]))


def test_what_follows_the_end_is_refused() -> None:
    """Two files in one, or a longer one that was written over."""
    with pytest.raises(StateFileDamaged, match="3 bytes follow its end record"):
        read(file_of(FORTY) + b"abc")
    with pytest.raises(StateFileDamaged, match=f"{len(file_of(FORTY))} bytes follow its end record"):
        read(2 * file_of(FORTY))


def test_zeros_where_a_machine_lost_power_are_no_part() -> None:
    """A file system may keep the length and lose the bytes."""
    pieces = pieces_of(FORTY)
    whole = len(file_of(FORTY))
    with pytest.raises(StateFileDamaged, match="part 17 does not match its digest"):
        read(b"".join(pieces[:17]).ljust(whole, b"\0"))


def test_another_version_and_another_kind_of_file_are_told_apart_from_damage() -> None:
    """The hint is not to copy it again."""
    other = bytearray(file_of(FORTY))
    other[9] = 2
    with pytest.raises(NotAStateFile, match="version 2, known is 1"):
        read(bytes(other))
    with pytest.raises(NotAStateFile, match="f is no state file"):
        read(b"\x7fELF" + bytes(200))


def test_a_head_with_what_this_version_does_not_know_is_refused() -> None:
    """It may change what the parts mean."""

    class Later(msgspec.Struct):
        cell: str = "shop"
        compression: str = "zstd"

    with pytest.raises(StateFileDamaged, match="its head cannot be read"):
        read(b"".join([*pieces_of(FORTY, Later())]))  # type: ignore[arg-type]


def test_a_part_that_is_longer_than_the_head_allows_is_refused() -> None:
    """No service of that cell can have cut its state so."""
    with pytest.raises(StateFileDamaged, match=r"part 2 of 2 has 4097 bytes, the head allows 4096"):
        read(file_of([b"", bytes(4097)]))


def test_more_parts_than_a_state_can_have_are_refused() -> None:
    """Their digests would not fit into a message."""
    record = b"".join(encode_part_head(index, b"") for index in range(PARTS_MAX + 1))
    with pytest.raises(StateFileDamaged, match="beyond the number of parts") as raised:
        read(pieces_of([])[0] + record + encode_end(PARTS_MAX + 1, bytes(32)))
    assert raised.value.part == PARTS_MAX + 1
