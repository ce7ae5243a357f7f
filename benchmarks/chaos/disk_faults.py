"""What happens to a disk: it is cut off without a flush, or it is full.

For the disks that `spare cell up` makes with `[cell] state_disk_mib`, and for nothing else: whatever is mounted on a
directory suffers.
"""

import fcntl
import os
import struct
from pathlib import Path

from replica_manager.control.state_disks import STATE_DISK_SUFFIX, mount_state_disk, unmount_state_disk

FS_IOC_SHUTDOWN = 0x8004587D
"""`_IOR('X', 125, __u32)`.  Source: Linux, `fs/ext4/ext4.h`, `EXT4_IOC_SHUTDOWN`."""
NO_LOG_FLUSH = 2
"""`EXT4_GOING_FLAGS_NOLOGFLUSH`: not even what is in the journal's memory is written."""
FILLING = ".filling"
"""The file that fills a disk."""
SMALLEST_STEP_BYTES = 4096


def cut_off(directory: Path) -> None:
    """Shut down the file system mounted on `directory` as a power cut does: nothing more is written.

    Every later access to it fails with `EIO`, until it is mounted anew.

    Raises:
        OSError: it cannot be shut down.
    """
    _require_mount(directory)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


def plug_in_again(directory: Path) -> None:
    """Mount the disk of `directory` anew; its journal is replayed.  Nobody may use it any more.

    Raises:
        ProcessError: it cannot be unmounted or mounted.
    """
    _require_mount(directory)
    unmount_state_disk(directory)
    mount_state_disk(Path(f"{directory}{STATE_DISK_SUFFIX}"), directory)


def fill(directory: Path, left_bytes: int = 0) -> Path:
    """Use up the space of the disk of `directory` but `left_bytes`; return the file to delete to have it back.

    What is left may be some blocks more or less: the file's own description takes some too.
    """
    _require_mount(directory)
    filling = directory / FILLING
    descriptor = os.open(filling, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        step = 1 << 30
        while step >= SMALLEST_STEP_BYTES:
            room = _free_bytes(directory) - left_bytes
            step = min(step, max(room, 0) // SMALLEST_STEP_BYTES * SMALLEST_STEP_BYTES)
            if step < SMALLEST_STEP_BYTES or not _extend(descriptor, step):
                step //= 2
    finally:
        os.close(descriptor)
    return filling


def _extend(descriptor: int, size: int) -> bool:
    try:
        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, size)
    except OSError:
        return False
    return True


def _free_bytes(directory: Path) -> int:
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize


def _require_mount(directory: Path) -> None:
    assert os.path.ismount(directory), f"{directory} has no disk of its own: the machine's would suffer"
