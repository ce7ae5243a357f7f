"""What processes of a one-machine cell leave behind when they are killed: virtual machines, mounts, files.

Everything is found by where it is, below the cell's runtime directory, so that it is found after `kill -9` too.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from replica_manager.cell_paths import CellPaths
from replica_manager.control.cell_network import CELL_MARK, CellNetwork
from replica_manager.control.errors import ProcessError
from replica_manager.control.processes import ProcessIdentity, end_all, find_processes, identify
from replica_manager.control.state_disks import detach_state_disks, find_state_disks

STATE_MARK = ".spare-cell"
"""File in a directory that `spare cell up` made; only in such a directory is anything ever deleted."""
SERVED_MARK = ".spare-served"
"""In a state directory whose cell has come to serve: its logs may hold what clients were told."""


def mark_served(state_dir: Path) -> None:
    """Note durably that the cell has come to serve.

    Without the mark the next start would take the cell for new and discard its logs, also after a power cut.
    """
    descriptor = os.open(state_dir / SERVED_MARK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def find_machines(paths: CellPaths, server: int | None = None) -> Sequence[ProcessIdentity]:
    """Return the virtual machines of the cell, or of one server, that run, also without a hypervisor connection."""
    place = paths.runtime_dir if server is None else paths.runtime("server", server)
    found = {identity.pid: identity for identity in find_processes(lambda proc: _is_machine(proc, place))}
    for path in paths.runtime_dir.glob(f"s{'*' if server is None else server}/hv/run/qemu/*.pid"):
        identity = _recorded_machine(path)
        if identity is not None:
            found[identity.pid] = identity
    return list(found.values())


def find_marked(paths: CellPaths) -> Sequence[ProcessIdentity]:
    """Return the processes of the cell, and what they started, that carry its mark in their environment."""
    mark = f"{CELL_MARK}={paths.runtime_dir}".encode()
    return list(find_processes(lambda proc: mark in (proc / "environ").read_bytes().split(b"\0")))


def end_leftovers(paths: CellPaths, network: CellNetwork, report: Callable[[str], None]) -> None:
    """End processes, mounts and runtime files of a cell whose members have ended; idempotent.

    Raises:
        ProcessError: something below the runtime directory cannot be removed, a disk cannot be unmounted, or another
            cell has the same name.
    """
    inside = network.processes()
    processes = {identity.pid: identity for identity in (*inside, *find_machines(paths), *find_marked(paths))}
    if processes:
        report(f"ending {len(processes)} processes that the cell left behind")
        end_all(processes.values(), 0.0, lambda _pid: None)
    for mount in find_mounts(paths.runtime_dir):
        report(f"unmounting {mount}")
        subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)
    detach_state_disks(paths, report)
    _remove_runtime(paths)


def has_leftovers(paths: CellPaths, network: CellNetwork) -> bool:
    """Say whether a killed cell left anything behind."""
    has_files = paths.runtime_dir.exists() and any(paths.runtime_dir.iterdir())
    is_mounted = bool(find_state_disks(paths))
    return has_files or is_mounted or network.exists() or bool(find_machines(paths) or find_marked(paths))


def find_mounts(directory: Path) -> Sequence[Path]:
    """Return the mount points below `directory`, the innermost first."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Source: proc(5): the fifth field; blanks and backslashes in it are octal.
        point = Path(line.split(" ")[4].encode().decode("unicode_escape"))
        if point != directory and point.is_relative_to(directory):
            mounts.append(point)
    return sorted(mounts, reverse=True)


def _is_machine(proc: Path, place: Path) -> bool:
    arguments = (proc / "cmdline").read_bytes()
    program = os.path.basename(arguments.split(b"\0", 1)[0])
    return program.startswith(b"qemu-system") and f"{place}/".encode() in arguments


def _recorded_machine(path: Path) -> ProcessIdentity | None:
    """Return the machine whose process id libvirt wrote to `path`, if that still is a machine."""
    with suppress(OSError, ValueError):
        pid = int(path.read_text())
        if os.path.basename(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]).startswith(b"qemu"):
            return identify(pid)
    return None


def _remove_runtime(paths: CellPaths) -> None:
    """Remove what the cell made in its runtime directory, and the directory if nothing else is in it."""
    directory = paths.runtime_dir
    if not directory.exists():
        return
    try:
        for pattern in ("s[0-9]*", "w[0-9]*", "processes"):
            for path in directory.glob(pattern):
                shutil.rmtree(path)
        for pattern in ("cell.json*", "keeper.*"):
            for path in directory.glob(pattern):
                path.unlink()
        if not any(directory.iterdir()):
            directory.rmdir()
    except OSError as error:
        raise ProcessError(f"{error.filename} cannot be removed: {error.strerror}") from error
