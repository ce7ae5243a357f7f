"""Disks of their own for servers: made, mounted, cut off, filled, and gone without a trace."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.chaos.disk_faults import cut_off, fill, plug_in_again
from benchmarks.loopback_ports import free_port
from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down
from replica_manager.control.errors import ProcessError
from replica_manager.control.leftovers import STATE_MARK
from replica_manager.control.process_records import ProcessRecords
from replica_manager.control.state_disks import attach_state_disks, detach_state_disks, find_state_disks

pytestmark = [pytest.mark.disk, pytest.mark.slow]

PATIENCE_S = 120.0
SIZE_MIB = 64
SPARE = (sys.executable, "-m", "replica_manager")
FILE = """\
fault_injection = true
[cell]
name = "disks-{pid}"
network = "loopback"
state_dir = "state"
runtime_dir = "run"
state_disk_mib = {size}
restart = "never"
[service]
command = ["{python}", "-m", "exec_wrapper", "--link", "unix:{{channel}}", "exec_wrapper.examples.key_value",
    "--directory", "{{disk}}"]
[hypervisor]
driver = "subprocess"
isolation = "none"
"""


class Cell:
    """A cell whose servers have disks of their own."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "spare.toml"
        text = FILE.format(pid=os.getpid(), python=sys.executable, size=SIZE_MIB)
        for server in range(2):
            text += f'[[server]]\nid = {server}\npublic_address = "127.0.0.1:{free_port()}"\n'
            text += f'private_address = "127.0.0.1:{free_port()}"\nadmin_address = "127.0.0.1:{free_port()}"\n'
        self.file.write_text(f'{text}[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n')
        self.config: Config = load(self.file)
        self.paths = CellPaths.of(self.config)
        servers = [self.paths.state("server", server) for server in range(2)]
        self.directories = [*servers, self.paths.state("witness", 0)]
        self.lines: list[str] = []

    def attach(self, size_mib: int = SIZE_MIB) -> None:
        """Mount the disks."""
        cell = msgspec.structs.replace(self.config.cell, state_disk_mib=size_mib)
        self.paths.state_dir.mkdir(exist_ok=True)
        (self.paths.state_dir / STATE_MARK).touch()
        attach_state_disks(msgspec.structs.replace(self.config, cell=cell), self.lines.append)

    def detach(self) -> None:
        """Unmount them."""
        detach_state_disks(self.paths, self.lines.append)

    def spare(self, *arguments: str) -> str:
        """Run a command of the operator; return what it said."""
        command = [*SPARE, "-c", str(self.file), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def leaves_nothing(self) -> bool:
        """Wait until no mount and no loop device of the cell is left; the kernel frees devices by and by."""
        deadline = time.monotonic() + PATIENCE_S
        while str(self.file.parent) in _mounts() + _loop_files():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def _loop_files() -> str:
    text = ""
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            text += path.read_text()
        except OSError:
            continue  # freed meanwhile
    return text


@pytest.fixture
def cell() -> Iterator[Cell]:
    """A cell that is down; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="spare-") as directory:
        it = Cell(Path(directory))
        yield it
        it.spare("cell", "down", "--yes")
        it.spare("cell", "down", "--purge", "--yes")
        assert not it.paths.state_dir.exists()
        assert it.leaves_nothing()


def test_each_member_gets_a_disk_of_the_given_size(cell: Cell) -> None:
    """With the modes of a state directory; attaching again changes nothing."""
    cell.attach()
    assert find_state_disks(cell.paths) == cell.directories[::-1]
    for directory in cell.directories:
        space = os.statvfs(directory)
        assert SIZE_MIB * 0.7 < space.f_blocks * space.f_frsize / 2**20 <= SIZE_MIB
        assert directory.stat().st_mode & 0o777 == 0o700
        assert cell.paths.state_disk("server", 0).stat().st_mode & 0o777 == 0o600
    (cell.directories[0] / "kept").touch()
    said = list(cell.lines)
    cell.attach()
    assert cell.lines == said
    cell.detach()
    assert cell.leaves_nothing()
    assert not (cell.directories[0] / "kept").exists()
    cell.attach()
    assert (cell.directories[0] / "kept").exists()


def test_a_disk_of_somebody_else_is_left_alone(cell: Cell) -> None:
    """Even on the directory of a server, and with a file system in a file."""
    image, directory = cell.file.parent / "other.img", cell.directories[0]
    directory.mkdir(parents=True)
    (cell.paths.state_dir / STATE_MARK).touch()
    with image.open("wb") as file:
        file.truncate(SIZE_MIB << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(directory)], check=True)
    try:
        assert find_state_disks(cell.paths) == []
        cell.detach()
        assert os.path.ismount(directory)
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_files_that_a_disk_would_hide_are_not_hidden(cell: Cell) -> None:
    """The state of a cell that had no disks; and nothing is made."""
    cell.directories[1].mkdir(parents=True)
    (cell.directories[1] / "agreement.db").touch()
    with pytest.raises(ProcessError, match="has files that its disk would hide"):
        cell.attach()
    cell.detach()
    assert not cell.paths.state_disk("server", 1).exists()


@pytest.mark.parametrize("size_mib", [0, SIZE_MIB + 1])
def test_a_disk_is_not_forgotten(cell: Cell, size_mib: int) -> None:
    """A server without the disk that holds its log would believe itself to be new."""
    cell.attach()
    cell.detach()
    with pytest.raises(ProcessError, match=f"has {SIZE_MIB} MiB, and state_disk_mib is {size_mib}"):
        cell.attach(size_mib)


def _write(path: Path, content: bytes, *, is_synced: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, content)
        if is_synced:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def test_what_was_synced_survives_a_cut(cell: Cell) -> None:
    """In between nothing can be written; the other server's disk is not cut off."""
    cell.attach()
    directory = cell.directories[0]
    _write(directory / "synced", b"s" * 10_000, is_synced=True)
    cut_off(directory)
    _write(cell.directories[1] / "other", b"o", is_synced=True)
    with pytest.raises(OSError) as raised:
        _write(directory / "later", b"x", is_synced=True)
    assert raised.value.errno == errno.EIO
    plug_in_again(directory)
    assert (directory / "synced").read_bytes() == b"s" * 10_000
    assert not (directory / "later").exists()


def test_what_was_not_synced_is_lost_in_a_cut(cell: Cell) -> None:
    """A killed process would have left it: this is what the cut is for."""
    cell.attach()
    directory, content = cell.directories[0], b"u" * 10_000
    lost = []
    for attempt in range(5):  # the journal commits by itself every 5 s, by chance just now
        unsynced = directory / f"unsynced-{attempt}"
        _write(unsynced, content, is_synced=False)
        cut_off(directory)
        plug_in_again(directory)
        lost.append(not unsynced.exists() or unsynced.read_bytes() != content)
    assert any(lost)


def test_a_disk_that_is_cut_off_can_be_unmounted(cell: Cell) -> None:
    """So that `spare cell down` leaves nothing."""
    cell.attach()
    cut_off(cell.directories[0])
    cell.detach()
    assert cell.leaves_nothing()


def test_a_disk_that_is_busy_for_a_moment_is_unmounted_for_good(cell: Cell) -> None:
    """Mounted again it works, although it had been cut off: it is not the file system that was busy."""
    cell.attach()
    directory = cell.directories[0]
    descriptor = os.open(directory / "held", os.O_WRONLY | os.O_CREAT)
    cut_off(directory)
    release = threading.Timer(0.3, os.close, (descriptor,))
    release.start()
    plug_in_again(directory)
    release.join()
    _write(directory / "later", b"x", is_synced=True)


def test_a_disk_whose_file_was_deleted_can_be_unmounted(cell: Cell) -> None:
    """Somebody tidied up in the state directory of a cell that was killed."""
    cell.attach()
    cell.paths.state_disk("server", 0).unlink()
    assert find_state_disks(cell.paths) == cell.directories[::-1]
    cell.detach()
    assert cell.leaves_nothing()


def test_a_full_disk_says_so_until_room_is_made(cell: Cell) -> None:
    """Not for root either."""
    cell.attach()
    directory = cell.directories[0]
    filling = fill(directory)
    with pytest.raises(OSError) as raised:
        _write(directory / "more", b"x" * 100_000, is_synced=True)
    assert raised.value.errno == errno.ENOSPC
    filling.unlink()
    _write(directory / "more", b"x" * 100_000, is_synced=True)
    fill(directory, left_bytes=10 << 20)
    space = os.statvfs(directory)
    assert 9 << 20 < space.f_bavail * space.f_frsize < 11 << 20


@pytest.mark.parametrize("fault", [cut_off, fill])
def test_a_directory_without_a_disk_is_refused(tmp_path: Path, fault: object) -> None:
    """The disk of this machine would be full, or cut off."""
    assert callable(fault)
    with pytest.raises(AssertionError, match="no disk of its own"):
        fault(tmp_path)


def test_a_cell_goes_up_on_its_disks_and_down_without_a_trace(cell: Cell) -> None:
    """Log and domains are on them; the state stays, in the files, and the cell goes on from it."""
    said = cell.spare("cell", "up")
    assert f"server 0: mounting its disk of {SIZE_MIB} MiB" in said
    assert find_state_disks(cell.paths) == cell.directories[::-1]
    device = cell.directories[0].stat().st_dev
    assert device != cell.paths.state_dir.stat().st_dev
    assert {path.stat().st_dev for path in cell.directories[0].rglob("*")} == {device}
    assert (cell.directories[0] / "a" / "s0.g1").exists()
    cell.spare("cell", "down", "--yes")
    assert cell.leaves_nothing()
    assert cell.paths.state_disk("server", 0).exists()
    assert find_state_disks(cell.paths) == []
    log = os.stat(cell.paths.state_disk("server", 0)).st_ino
    cell.spare("cell", "up")
    assert find_state_disks(cell.paths) == cell.directories[::-1]
    assert os.stat(cell.paths.state_disk("server", 0)).st_ino == log, "the cell goes on from its state"


def test_a_cell_one_of_whose_disks_is_cut_off_goes_down_without_a_trace(cell: Cell) -> None:
    """Whatever its server makes of it."""
    cell.spare("cell", "up")
    cut_off(cell.directories[0])
    cell.spare("cell", "down", "--yes")
    assert cell.leaves_nothing()


def test_nothing_is_left_of_a_cell_whose_processes_were_killed(cell: Cell) -> None:
    """Mounts do not end with processes: `down` finds them, and the plan names them; `up --fresh` begins anew."""
    cell.spare("cell", "up")
    for record in ProcessRecords(cell.paths.processes).read():
        os.kill(record.identity.pid, signal.SIGKILL)
    assert {f"unmount {directory}" for directory in cell.directories} <= set(plan_down(cell.config, purge=False).lines)
    (cell.directories[0] / "old").touch()
    assert "removing what a killed cell left behind" in cell.spare("cell", "up", "--fresh", "--yes")
    assert find_state_disks(cell.paths) == cell.directories[::-1]
    assert not (cell.directories[0] / "old").exists()
    for record in ProcessRecords(cell.paths.processes).read():
        os.kill(record.identity.pid, signal.SIGKILL)
    cell.spare("cell", "down", "--yes")
    assert cell.leaves_nothing()
