"""A disk of its own for each member of a one-machine cell: an ext4 file system in a file, mounted on `state_dir/sN`.

A witness has its own on `state_dir/wN`.
For tests of full and failing disks (`[cell] state_disk_mib`, with `fault_injection = true`); needs root.
The loop device belongs to its mount: the kernel frees it with the unmounting, so that there is nothing else to find
after `kill -9` of everything.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from replica_manager.cell_paths import CellPaths, MemberKind
from replica_manager.config import Config
from replica_manager.control.errors import ProcessError

Reporter = Callable[[str], None]
STATE_DISK_SUFFIX: Final = ".ext4"
COMMAND_TIMEOUT_S: Final = 60.0
BUSY_TIMEOUT_S: Final = 5.0
BUSY_POLL_S: Final = 0.05
_LOOP_MAJOR: Final = 7
"""Source: Linux, `Documentation/admin-guide/devices.txt`."""


def attach_state_disks(config: Config, report: Reporter) -> None:
    """Make the disks that the configuration wants, and mount them; those that are mounted stay.

    Raises:
        ProcessError: a disk cannot be made or mounted, or there is one that the configuration does not want so.
    """
    paths, size_mib = CellPaths.of(config), config.cell.state_disk_mib
    members: list[tuple[MemberKind, int]] = [
        *(("server", server.id) for server in config.server),
        *(("witness", witness.id) for witness in config.witness),
    ]
    for kind, member in members:
        image, directory = paths.state_disk(kind, member), paths.state(kind, member)
        _require_same_size(image, size_mib)
        if not size_mib or directory in find_state_disks(paths):
            continue
        report(f"{kind} {member}: mounting its disk of {size_mib} MiB")
        _require_empty(directory)
        if not image.exists():
            _make(image, size_mib)
        mount_state_disk(image, directory)


def mount_state_disk(image: Path, directory: Path) -> None:
    """Mount the disk `image` on `directory`, which is made if it does not exist.

    Raises:
        ProcessError: it has files, which the disk would hide, or cannot be mounted.
    """
    _require_empty(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # `-o loop` gives the device to the mount; a device of `losetup` would outlive it.
    _run("mount", "-t", "ext4", "-o", "loop,noatime", str(image), str(directory))
    directory.chmod(0o700)


def find_state_disks(paths: CellPaths) -> Sequence[Path]:
    """Return the directories on which disks of this cell are mounted: no others, whoever mounted them."""
    found = []
    state_dir = paths.state_dir.resolve()  # the kernel names no symbolic links
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Source: proc(5): device in the third field, mount point in the fifth; blanks in it are octal.
        _, _, device, _, point, *_ = line.split(" ")
        directory = Path(point.encode().decode("unicode_escape").encode("latin-1").decode())
        if directory.parent == state_dir and _backing_file(device) == f"{directory}{STATE_DISK_SUFFIX}":
            found.append(paths.state_dir / directory.name)
    return sorted(found, reverse=True)


def detach_state_disks(paths: CellPaths, report: Reporter) -> None:
    """Unmount the disks of the cell, whose processes have ended; idempotent.

    Raises:
        ProcessError: one cannot be unmounted.
    """
    for directory in find_state_disks(paths):
        report(f"unmounting {directory}")
        unmount_state_disk(directory)


def unmount_state_disk(directory: Path) -> None:
    """Unmount the disk on `directory`; if somebody looks into it for long, it goes when they leave.

    A process that was killed may still end: its first thread has, another one waits for the disk.  Unmounted lazily the
    file system would be there for the next mount of the same file, shut down if it was.

    Raises:
        ProcessError: it cannot be unmounted.
    """
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            _run("umount", str(directory))
        except ProcessError:
            if time.monotonic() < deadline_s:
                time.sleep(BUSY_POLL_S)
                continue
            _run("umount", "--lazy", str(directory))
        return


def _require_empty(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()):
        raise ProcessError(f"{directory} has files that its disk would hide", "begin anew with `spare cell up --fresh`")


def _make(image: Path, size_mib: int) -> None:
    """Make the file system under another name: what an interrupt leaves is never mistaken for one."""
    unfinished = image.with_name(f"{image.name}.new")
    try:
        with unfinished.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(size_mib << 20)
        # No blocks reserved for root, as whom the servers run: full is full.
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(unfinished))
        unfinished.rename(image)
    except OSError as error:
        raise ProcessError(f"the disk {image} cannot be made: {error.strerror}", "see state_dir") from error


def _require_same_size(image: Path, size_mib: int) -> None:
    """Refuse to go on without, or with another disk than, the one that holds the server's state."""
    with suppress(FileNotFoundError):
        present_mib = image.stat().st_size >> 20
        if present_mib != size_mib:
            message = f"the disk {image} has {present_mib} MiB, and state_disk_mib is {size_mib}"
            raise ProcessError(message, "set it back, or begin anew with `spare cell up --fresh`")


def _backing_file(device: str) -> str:
    """Return the file behind the loop device with these numbers (`major:minor`), or nothing if it is none."""
    major, _, minor = device.partition(":")
    if int(major) != _LOOP_MAJOR:
        return ""
    try:
        # Not `/sys/block/loopN`: the minor number is not N where loop devices have partitions.
        name = Path(f"/sys/dev/block/{major}:{minor}/loop/backing_file").read_text().removesuffix("\n")
    except OSError:
        return ""  # freed meanwhile
    return name.removesuffix(" (deleted)")


def _run(*command: str) -> None:
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise ProcessError(f"`{command[0]}` is not on this machine", "apt-get install e2fsprogs mount")
    try:
        done = subprocess.run([program, *command[1:]], check=False, capture_output=True, timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ProcessError(f"`{' '.join(command)}` did not end in {COMMAND_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
        raise ProcessError(f"`{' '.join(command)}` failed: {words}", "disks for servers need root and loop devices")
