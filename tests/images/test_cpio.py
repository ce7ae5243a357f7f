"""The archive that the kernel unpacks."""

import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.cpio import (
    CpioEntry,
    character_device_entry,
    directory_entry,
    encode_cpio,
    file_entry,
    symlink_entry,
)

_HEADER_BYTES = 110

_entries = st.lists(
    st.builds(file_entry, st.text("abcdefgh", min_size=1, max_size=8), st.binary(max_size=40)),
    unique_by=lambda entry: entry.name,
    max_size=6,
)


def _decode(archive: bytes) -> list[tuple[str, int, bytes, int]]:
    """Read a newc archive as the kernel does: name, mode, content, inode of each entry before the trailer."""
    found: list[tuple[str, int, bytes, int]] = []
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        inode, mode, size, name_bytes = fields[0], fields[1], fields[6], fields[11]
        name_begin = position + _HEADER_BYTES
        name = archive[name_begin : name_begin + name_bytes - 1].decode()
        begin = name_begin + name_bytes + -(name_begin + name_bytes) % 4
        position = begin + size + -(begin + size) % 4
        if name == "TRAILER!!!":
            assert position == len(archive)
            return found
        found.append((name, mode, archive[begin : begin + size], inode))


@given(_entries)
def test_what_was_put_in_is_found_again(entries: list[CpioEntry]) -> None:
    """Names, modes and contents survive, and inode numbers are 1, 2, 3, …"""
    decoded = _decode(encode_cpio(entries))

    assert [(name, mode, content) for name, mode, content, _ in decoded] == [
        (entry.name, entry.mode, entry.content) for entry in entries
    ]
    assert [inode for *_, inode in decoded] == list(range(1, len(entries) + 1))


@given(_entries)
def test_equal_entries_give_equal_bytes(entries: list[CpioEntry]) -> None:
    """Nothing of time, user or machine gets in."""
    assert encode_cpio(entries) == encode_cpio(list(entries))


def test_every_kind_of_entry_has_its_type_in_the_mode() -> None:
    """A directory, a file, a link and a device are told apart by `st_mode` alone."""
    entries = [
        directory_entry("d"),
        file_entry("d/f", b"x"),
        symlink_entry("l", "d/f"),
        character_device_entry("c", 5, 1),
    ]

    modes = [mode for _, mode, _, _ in _decode(encode_cpio(entries))]

    assert [stat.S_IFMT(mode) for mode in modes] == [stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR]


@pytest.mark.parametrize("name", ["/absolute", "twice", "TRAILER!!!"])
def test_a_name_that_would_spoil_the_archive_is_refused(name: str) -> None:
    """An absolute path, a second entry of the same name, and the name of the end mark."""
    with pytest.raises(ValueError, match="not a new relative path"):
        encode_cpio([file_entry("twice", b""), file_entry(name, b"")])


@pytest.mark.slow
def test_busybox_unpacks_the_archive(tmp_path: Path) -> None:
    """Another implementation of the format reads the same files."""
    archive = encode_cpio([directory_entry("d"), file_entry("d/f", b"content", 0o640), symlink_entry("d/l", "f")])

    subprocess.run(["busybox", "cpio", "-i", "-d"], input=archive, cwd=tmp_path, check=True, capture_output=True)

    assert (tmp_path / "d/l").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "d/f").stat().st_mode) == 0o640
