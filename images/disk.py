"""The disk of a virtual machine, from a root file system archive: no mounts, no loop devices, no root."""

import shutil
import tarfile
from pathlib import Path
from typing import Final

from images.bootstrap import Workshop
from images.child_process import run
from images.errors import BuildFailed

_BLOCK_BYTES: Final = 4096
_BLOCKS_PER_MIB: Final = 1024 * 1024 // _BLOCK_BYTES
_INODES_PER_MIB: Final = 64
"""One for each 16 KiB, as mke2fs makes them."""
_JOURNAL_MIB: Final = 8


def build_disk(rootfs: Path, disk_mib: int, target: Path, workshop: Workshop) -> None:
    """Write the qcow2 file `target` with a file system of `disk_mib` that holds `rootfs`; equal inputs, equal bytes.

    The file system has a journal.  Without one, ext4 passes an fdatasync(2) on to the disk only if the file's size or
    blocks have changed: a database that writes into a log of fixed size would call durable what a power cut takes away.

    Raises:
        BuildFailed: the archive does not fit.
        DiskFull: no space left on this machine.
    """
    content_bytes, entry_count = _measure(rootfs)
    if content_bytes > (disk_mib - _JOURNAL_MIB) * 1024 * 1024:
        needed_mib = content_bytes // 1048576 + 1 + _JOURNAL_MIB
        raise BuildFailed(
            f"The root file system and its journal have {needed_mib} MiB, but the disk only {disk_mib} MiB.",
            "Raise disk_mib in the recipe.",
        )
    raw = workshop.directory / "disk.raw"
    inode_count = entry_count + disk_mib * _INODES_PER_MIB
    make = ["genext2fs", "-f", "-B", str(_BLOCK_BYTES), "-b", str(disk_mib * _BLOCKS_PER_MIB), "-N", str(inode_count)]
    environment = workshop.environment()
    run([*make, "-z", "-a", str(rootfs), str(raw)], workshop.progress, workshop.log, environment)
    # A journal has a time of its making, which this variable sets; tune2fs knows no SOURCE_DATE_EPOCH.
    dated = {**environment, "E2FSPROGS_FAKE_TIME": str(workshop.source_date_epoch)}
    journal = ["tune2fs", "-O", "has_journal", "-J", f"size={_JOURNAL_MIB}", "-c", "0", "-i", "0", str(raw)]
    run(journal, workshop.progress, workshop.log, dated)
    run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(target)], workshop.progress, workshop.log, environment)
    raw.unlink()


def missing_disk_tools() -> dict[str, str]:
    """Return the Debian package of every program that this module needs and does not find."""
    packages = {"genext2fs": "genext2fs", "tune2fs": "e2fsprogs", "qemu-img": "qemu-utils"}
    return {program: package for program, package in packages.items() if shutil.which(program) is None}


def _measure(rootfs: Path) -> tuple[int, int]:
    content_bytes = entry_count = 0
    with tarfile.open(rootfs) as tar:
        for member in tar:
            entry_count += 1
            content_bytes += -(-member.size // _BLOCK_BYTES) * _BLOCK_BYTES
    return content_bytes, entry_count
