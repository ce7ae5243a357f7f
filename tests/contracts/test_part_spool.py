"""The contract of `PartSpool`, for the directory and for the fake in memory."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from replica_manager.identifiers import DomainId
from replica_manager.part_spool import DirectorySpool, PartSpool
from tests.simulation.fake_part_spool import MemorySpool

ONE, OTHER = DomainId("s0.g1"), DomainId("s0.g2")


@pytest.fixture(params=["directory", "memory"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PartSpool]:
    kept: PartSpool = DirectorySpool(tmp_path) if request.param == "directory" else MemorySpool()
    yield kept
    kept.close()


def test_parts_are_read_as_they_were_kept(spool: PartSpool) -> None:
    """By index, in any order, as often as wanted; an empty part is a part."""
    parts = [b"first", b"", os.urandom(300_000), b"last"]
    for part in parts:
        spool.keep(7, ONE, part)
    for _ in range(2):
        for index in (3, 0, 2, 1):
            assert spool.read(7, ONE, index) == parts[index]


def test_points_and_domains_are_kept_apart(spool: PartSpool) -> None:
    """Two domains stream at the same time."""
    spool.keep(7, ONE, b"a")
    spool.keep(7, OTHER, b"b")
    spool.keep(8, ONE, b"c")
    spool.keep(7, ONE, b"d")
    assert [spool.read(7, ONE, 1), spool.read(7, OTHER, 0), spool.read(8, ONE, 0)] == [b"d", b"b", b"c"]


@pytest.mark.parametrize("index", [-1, 1, 2**31])
def test_a_part_that_is_not_there_is_none(spool: PartSpool, index: int) -> None:
    """A peer may ask for anything."""
    spool.keep(7, ONE, b"a")
    assert spool.read(7, ONE, index) is None
    assert spool.read(7, OTHER, 0) is None
    assert spool.read(8, ONE, 0) is None


def test_a_dropped_point_is_gone_and_others_stay(spool: PartSpool) -> None:
    """And dropping twice, or what never was, does no harm."""
    for point in (7, 8):
        for domain in (ONE, OTHER):
            spool.keep(point, domain, b"%d" % point)
    for point in (7, 7, 99):
        spool.drop(point)
    assert spool.read(7, ONE, 0) is None
    assert spool.read(7, OTHER, 0) is None
    assert spool.read(8, OTHER, 0) == b"8"
    spool.keep(7, ONE, b"anew")
    assert spool.read(7, ONE, 0) == b"anew"


def test_after_close_nothing_is_there_and_closing_again_does_no_harm(spool: PartSpool) -> None:
    """The same twice."""
    spool.keep(7, ONE, b"a")
    spool.close()
    spool.close()
    assert spool.read(7, ONE, 0) is None


# -- the directory alone -------------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_directory_holds_no_name_of_a_part(tmp_path: Path) -> None:
    """Unlinked at once: no crash leaves one behind."""
    spool = DirectorySpool(tmp_path)
    spool.keep(7, ONE, b"secret")
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_dropped_points_give_their_files_back(tmp_path: Path) -> None:
    """A cell that is repaired every hour for years must not run out of descriptors."""
    spool = DirectorySpool(tmp_path)
    before = descriptors()
    for point in range(20):
        spool.keep(point, ONE, b"a")
    assert descriptors() == before + 20
    for point in range(10):
        spool.drop(point)
    assert descriptors() == before + 10
    spool.close()
    assert descriptors() == before


def test_a_directory_that_does_not_exist_is_an_operating_error(tmp_path: Path) -> None:
    """`OSError`: the part is missing from then on, and the reader is told so."""
    spool = DirectorySpool(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        spool.keep(7, ONE, b"a")
    assert spool.read(7, ONE, 0) is None
    spool.close()


def test_a_full_memory_is_an_operating_error_like_a_full_disk() -> None:
    """The fake fails as the directory does."""
    spool = MemorySpool()
    spool.is_full = True
    with pytest.raises(OSError, match="no space"):
        spool.keep(7, ONE, b"a")
    assert spool.read(7, ONE, 0) is None
