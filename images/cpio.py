"""Deterministic cpio archives in the `newc` format, which the kernel unpacks as its first file system.

Inode numbers count up, owner is root, times are zero: equal entries give equal bytes.
Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"070701"
_TRAILER: Final = "TRAILER!!!"
_ALIGNMENT: Final = 4
FILE_BYTES_MAX: Final = 0xFFFF_FFFF
"""A length has eight hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class CpioEntry:
    """A directory, file, symbolic link or device."""

    name: str
    """Relative path; every directory above it has an entry of its own before it."""
    mode: int
    """Type and permission bits, as in `st_mode`."""
    content: bytes = b""
    """Of a file; for a symbolic link its target."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device."""


def directory_entry(name: str, permissions: int = 0o755) -> CpioEntry:
    """Return the entry of a directory."""
    return CpioEntry(name, stat.S_IFDIR | permissions)


def file_entry(name: str, content: bytes, permissions: int = 0o644) -> CpioEntry:
    """Return the entry of a regular file."""
    return CpioEntry(name, stat.S_IFREG | permissions, content)


def symlink_entry(name: str, target: str) -> CpioEntry:
    """Return the entry of a symbolic link."""
    return CpioEntry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device_entry(name: str, major: int, minor: int, permissions: int = 0o600) -> CpioEntry:
    """Return the entry of a character device."""
    return CpioEntry(name, stat.S_IFCHR | permissions, device=(major, minor))


def encode_cpio(entries: Iterable[CpioEntry]) -> bytes:
    """Return the archive of `entries`, in their order.

    Raises:
        ValueError: a name is absolute or doubled, or a content is too long for the format.
    """
    archive = bytearray()
    names = set()
    for inode, entry in enumerate(entries, start=1):
        if entry.name.startswith("/") or entry.name in names or entry.name == _TRAILER:
            raise ValueError(f"not a new relative path: {entry.name!r}")
        names.add(entry.name)
        archive += _encode_entry(inode, entry)
    archive += _encode_entry(0, CpioEntry(_TRAILER, 0))
    return bytes(archive)


def _encode_entry(inode: int, entry: CpioEntry) -> bytes:
    if len(entry.content) > FILE_BYTES_MAX:
        raise ValueError(f"{entry.name!r} has more than {FILE_BYTES_MAX} bytes")
    name = entry.name.encode() + b"\0"
    link_count = 2 if stat.S_ISDIR(entry.mode) else 1
    user, group, time, major, minor, checksum = 0, 0, 0, 0, 0, 0
    numbers = (inode, entry.mode, user, group, link_count, time, len(entry.content), major, minor)
    header = _MAGIC + b"".join(b"%08X" % number for number in (*numbers, *entry.device, len(name), checksum))
    return _padded(header + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
