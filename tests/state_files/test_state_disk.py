"""Nothing but a whole file ever has the name that was asked for."""

import os
from pathlib import Path

import pytest

from replica_manager.state_files.errors import StateFileDamaged, StateFileExists
from replica_manager.state_files.state_disk import OpenStateFile, StateFileWriter
from tests.state_files.memory_file import HEAD, content_digest, file_of

PARTS = [b"one", b"", b"three"]


def write(path: Path, parts: list[bytes], *, may_overwrite: bool = False) -> StateFileWriter:
    """A writer that has everything but its end."""
    writer = StateFileWriter(path, may_overwrite=may_overwrite)
    writer.begin(HEAD)
    for index, data in enumerate(parts):
        writer.add(data, is_last=index == len(parts) - 1)
    return writer


def test_a_finished_file_has_its_name_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.state"
    writer = write(path, PARTS)
    assert not path.exists()
    writer.finish()
    writer.close()
    assert path.read_bytes() == file_of(PARTS)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["shop.state"]
    assert (writer.part_count, writer.byte_count) == (3, 8)
    assert writer.content_digest == content_digest(PARTS)


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "shop.state", PARTS).close()
    assert os.listdir(tmp_path) == []


def test_beginning_again_forgets_what_was_written(tmp_path: Path) -> None:
    """States that differ are given again, by more domains."""
    writer = write(tmp_path / "shop.state", [b"longer than everything that follows", b"wrong"])
    writer.begin(HEAD)
    for index, data in enumerate(PARTS):
        writer.add(data, is_last=index == 2)
    writer.finish()
    writer.close()
    with OpenStateFile(tmp_path / "shop.state") as file:
        assert file.verify().content_digest == content_digest(PARTS)


def test_a_file_that_is_there_is_replaced_only_on_demand_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "shop.state"
    path.write_text("precious")
    with pytest.raises(StateFileExists, match=r"shop\.state exists$"):
        StateFileWriter(path, may_overwrite=False)
    writer = write(path, PARTS, may_overwrite=True)
    assert path.read_text() == "precious"
    writer.finish()
    writer.close()
    assert path.read_bytes() == file_of(PARTS)


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "shop.state"
    writer = write(path, PARTS)
    path.write_text("precious")
    with pytest.raises(StateFileExists):
        writer.finish()
    writer.close()
    assert os.listdir(tmp_path) == ["shop.state"]
    assert path.read_text() == "precious"


def test_what_is_no_plain_file_is_never_replaced(tmp_path: Path) -> None:
    """A directory, a device."""
    with pytest.raises(StateFileExists, match="exists and is no file"):
        StateFileWriter(tmp_path, may_overwrite=True)
    with pytest.raises(StateFileExists, match="exists and is no file"):
        StateFileWriter(Path("/dev/null"), may_overwrite=True)


def test_a_part_is_read_as_it_stands_in_the_file_now(tmp_path: Path) -> None:
    """Who reads it compares its digest: the file may change between checking and filling."""
    path = tmp_path / "shop.state"
    path.write_bytes(file_of(PARTS))
    with OpenStateFile(path) as file:
        state = file.verify()
        path.write_bytes(file_of([b"two", b"", b"three"]))
        assert state.part(0) == b"two"
        path.write_bytes(file_of(PARTS)[:-1])
        with OpenStateFile(path) as torn, pytest.raises(StateFileDamaged, match=rf"^{path}: its end record is cut"):
            torn.verify()
